"""Settings: from a file, from variables, and what is said of wrong ones."""

import traceback
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.config import (
    FILE_BYTES_MAX,
    SECRET_BYTES_MAX,
    ChainSettings,
    ConfigError,
    Duration,
    GitLabSettings,
    PolicySettings,
    RegistrySettings,
    Settings,
    load_settings,
    read_secret,
    secret_path,
)
from imagechain.config.told import TOLD_VARIABLES
from imagechain.config.values import convert_custom


def load(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "imagechain.toml"
    path.write_text(text)
    return load_settings(path, environ)


def test_without_a_file_everything_has_its_default() -> None:
    assert load_settings(None, {"HOME": "/root"}) == Settings()
    assert Settings().chain.prefix == "localhost"


def test_the_example_of_the_design_is_read(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        [chain]
        prefix = "registry.example.com:5000/group"
        files = ["*.image"]
        [chain.images]
        "images/*" = "quay.io/jupyter/{name}:latest"
        "tools/**" = ["localhost/{path}:1", "quay.io/tools/{name}"]
        "scratchpad" = []
        [chain.build_args]
        "images/*" = {REGISTRY = "quay.io", OWNER = "jupyter"}
        [policy]
        ci_images = true
        """,
    )
    assert settings.chain == ChainSettings(
        prefix="registry.example.com:5000/group",
        files=("*.image",),
        images={
            "images/*": "quay.io/jupyter/{name}:latest",
            "tools/**": ["localhost/{path}:1", "quay.io/tools/{name}"],
            "scratchpad": [],
        },
        build_args={"images/*": {"REGISTRY": "quay.io", "OWNER": "jupyter"}},
    )
    assert list(settings.chain.images) == ["images/*", "tools/**", "scratchpad"]
    assert settings.policy == PolicySettings(ci_images=True)


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[chain]\nprefix = "quay.io/file"\nfiles = ["*.a"]\n',
        IMAGECHAIN_CHAIN__PREFIX="quay.io/variable",
        IMAGECHAIN_CHAIN__IMAGES='{"a/*" = "quay.io/{name}:1"}',
        IMAGECHAIN_POLICY__CI_INCLUDES="true",
    )
    assert settings.chain == ChainSettings(
        prefix="quay.io/variable", files=("*.a",), images={"a/*": "quay.io/{name}:1"}
    )
    assert settings.policy.ci_includes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[chain]\nprefx = "a"', ["imagechain.toml", "'chain.prefx'", "did you mean 'prefix'?"]),
        ("[chian]", ["'chian'", "did you mean 'chain'?"]),
        ("[zzz]", ["'zzz'", "known are bots, chain, "]),
        ("\n\nprefix =", ["imagechain.toml", "not TOML", "at "]),
        ("[chain]\nprefix = 3", ["chain.prefix", "Expected `str`, got `int`"]),
        ("chain = 3", ["chain: Expected"]),
        ('[chain.images]\n"a" = 3', ["chain.images", "got `int`"]),
        ('[chain.images]\n"a/*" = "x/{nam}"', ["images.'a/*'", "x/{nam}", "{path} and {name}"]),
        ('[chain.images]\n"a/*" = ["x/{name}", "not a name"]', ["images.'a/*'", "not a name"]),
        (f'[chain.images]\n"a" = "x@sha256:{"0" * 64}"', ["digest"]),
        ('[chain]\nprefix = "https://quay.io"', ["prefix 'https://quay.io'"]),
        ("#" * (FILE_BYTES_MAX + 1), ["larger than"]),
        ("a = " + "[" * 100_000, ["not TOML"]),
    ],
)
def test_a_wrong_file_is_an_error_that_says_where(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_the_line_of_what_is_no_toml_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        load(tmp_path, "\na b\n")
    (tmp_path / "latin.toml").write_bytes("\n# ü".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.toml:2: not a UTF-8 text"):
        load_settings(tmp_path / "latin.toml", {})


def test_a_file_that_is_named_and_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml.*No such file"):
        load_settings(tmp_path / "nowhere.toml", {})
    with pytest.raises(ConfigError, match="directory"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("IMAGECHAIN_CHAIN_PREFIX", "a", "did you mean 'IMAGECHAIN_CHAIN__PREFIX'?"),
        ("IMAGECHAIN_CHAIN__PREFIXES", "a", "did you mean 'IMAGECHAIN_CHAIN__PREFIX'?"),
        ("IMAGECHAIN_CHAIN", "{}", "is no setting"),
        ("IMAGECHAIN_POLICY__CI_IMAGES", "yes", "TOML value"),
        ("IMAGECHAIN_POLICY__CI_IMAGES", "1", "Expected `bool`, got `int`"),
        ("IMAGECHAIN_POLICY__CI_IMAGES", "true\nx = 1", "TOML value"),
        ("IMAGECHAIN_CHAIN__FILES", '"a"', "Expected `array`, got `str`"),
        ("IMAGECHAIN_CHAIN__PREFIX", "a b", "begins no image reference"),
    ],
)
def test_a_wrong_variable_is_an_error_that_names_it(name: str, text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {name: text})
    assert name in str(caught.value)
    assert part in str(caught.value)


@given(
    st.text(max_size=40)
    | st.sampled_from(["[chain]\n", "[chain.images]\n'a' = "]).flatmap(
        lambda head: st.text(alphabet="ab'\"=[]{},.\n1", max_size=20).map(lambda tail: head + tail)
    )
)
def test_any_text_is_settings_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        assert isinstance(load_settings(path, {}), Settings)
    except ConfigError as error:
        refusal = str(error)
    else:
        return
    assert str(path) in refusal


def test_the_tables_of_a_service_are_read(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        [gitlab]
        url = "https://gitlab.example.com"
        groups = ["images", "apps"]
        exclude = ["apps/sandbox/**"]
        branches = ["next"]
        token_file = "gitlab-token"
        [registry."registry.example.com:5000"]
        insecure = true
        """,
    )
    assert settings.gitlab == GitLabSettings(
        url="https://gitlab.example.com",
        groups=("images", "apps"),
        exclude=("apps/sandbox/**",),
        branches=("next",),
        token_file=str(tmp_path / "gitlab-token"),
    )
    assert settings.registry == {"registry.example.com:5000": RegistrySettings(insecure=True)}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[gitlab]\nurl = "gitlab.example.com"', ["gitlab", "https://gitlab.example.com"]),
        ('[gitlab]\nurl = "https://me:secret@gitlab.example.com"', ["token_file"]),
        (f"[gitlab]\nbranches = {['b'] * 21}", ["gitlab", "more than 20"]),
        ('[registry."quay.io"]\ninsecur = true', ["'registry.quay.io.insecur'", "did you mean 'insecure'?"]),
        ('[registry."quay.io"]\nrequests_per_minute_max = 0', ["at least 1"]),
        ('[registry."quay.io"]\npulls_reserved_percent = 101', ["from 0 to 100"]),
        (
            '[[vet.exceptions]]\nimage = "a"\nrule = "max_age"\nuntil = 2027-01-31\nreason = "b"',
            ["exceptions", "rule 'max_age' is none", "age_max"],
        ),
        ("[policy]\nplatforms = []", ["policy", "one or more platforms"]),
        ('[policy]\nplatforms = ["linux/arm64", "linux/aarch64"]', ["each once"]),
        ('[policy]\nplatforms = ["linux/a,b"]', ["platforms: invalid platform 'linux/a,b'"]),
    ],
)
def test_a_wrong_table_of_a_service_says_what_is_wrong(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert all(part in str(caught.value) for part in parts)


class _Waiting(msgspec.Struct):
    wait: Duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("7d", 604_800), ("0s", 0)]
)
def test_a_span_of_time_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert msgspec.convert({"wait": text}, _Waiting, dec_hook=convert_custom).wait == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 weeks", "-1s", "1h30m", 5, None])
def test_any_other_span_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"such as 90s, 5m, 2h.* - at `\$\.wait`"):
        msgspec.convert({"wait": text}, _Waiting, dec_hook=convert_custom)


def test_a_secret_is_a_systemd_credential_or_a_path(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("glpat-1\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert secret_path("token", environ) == tmp_path / "token"
    assert secret_path("other", environ) == Path("other")
    assert secret_path("./token", environ) == Path("token")
    assert secret_path("token", {}) == Path("token")
    assert read_secret(tmp_path / "token") == "glpat-1"


@pytest.mark.parametrize("data", [b"", b"\n", b"one\ntwo", b"\xff\xfesecret", b"a" * (SECRET_BYTES_MAX + 1)])
def test_a_file_that_holds_no_secret_is_refused_without_showing_it(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "token").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_secret(tmp_path / "token")
    shown = "".join(traceback.format_exception(caught.value))
    assert "token" in shown
    assert "two" not in shown
    assert "secret'" not in shown


def test_a_missing_secret_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file.*LoadCredential"):
        read_secret(tmp_path / "missing")


def test_what_the_service_tells_a_pipeline_is_no_setting_there() -> None:
    assert load_settings(None, dict.fromkeys(TOLD_VARIABLES, "{}")) == Settings()
    with pytest.raises(ConfigError, match="IMAGECHAIN_CAUSES is no setting"):
        load_settings(None, {"IMAGECHAIN_CAUSES": "x"})
