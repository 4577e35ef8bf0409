import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.refs import PlatformError, parse_architecture, parse_platform


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("arm64", "linux/arm64"),
        ("windows", "windows/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_a_written_platform_has_one_normal_form(written: str, normalised: str) -> None:
    platform = parse_platform(written)
    assert str(platform) == normalised
    assert parse_platform(str(platform)) == platform


@pytest.mark.parametrize(
    "written", ["", "linux/", "/amd64", "a/b/c/d", "toaster", "linux/a b", "linux/amd64\n"]
)
def test_what_is_no_platform_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(PlatformError, match="linux/amd64"):
        parse_platform(written)


@given(st.text(alphabet="linuxarmd64v78/_ X", max_size=20))
def test_normalising_twice_changes_nothing(text: str) -> None:
    try:
        platform = parse_platform(text)
    except PlatformError:
        return
    assert parse_platform(str(platform)) == platform


@pytest.mark.parametrize(
    ("written", "platform"),
    [
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("arm/v6", "linux/arm/v6"),
        ("s390x", "linux/s390x"),
    ],
)
def test_an_architecture_is_one_of_linux(written: str, platform: str) -> None:
    assert str(parse_architecture(written)) == platform


@pytest.mark.parametrize(
    "written", ["", "amd46", "linux", "linux/arm64", "arm/v6/x", "arm/ v6", "arm64 amd64"]
)
def test_what_is_no_architecture_is_refused_with_those_that_there_are(written: str) -> None:
    with pytest.raises(PlatformError, match=r"unknown architecture .*amd64, arm, arm64"):
        parse_architecture(written)
