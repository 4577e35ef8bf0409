import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.gitlab.hook_secrets import HookSecrets
from imagechain.service.host_tokens import HostTokens

KEY = b"0123456789abcdef0123456789abcdef"
TOKENS = HostTokens(KEY)


@pytest.mark.parametrize("name", ["web1", "web1.example.com", "anna@web1", "a", "A-b_c.9", "x" * 253])
def test_a_token_speaks_for_its_host(name: str) -> None:
    assert HostTokens(KEY).host_of(TOKENS.token(name)) == name


@given(st.text(max_size=100))
def test_no_other_text_speaks_for_any(text: str) -> None:
    assert TOKENS.host_of(text) is None
    assert TOKENS.host_of(f"web1:{text}") is None
    assert TOKENS.host_of(TOKENS.token("web1") + (text or "x")) is None


def test_the_token_of_a_host_is_for_no_other_one_and_of_one_key() -> None:
    mac = TOKENS.token("web1").partition(":")[2]
    assert TOKENS.host_of(f"web2:{mac}") is None
    assert HostTokens(b"another key of some length").host_of(TOKENS.token("web1")) is None


def test_no_secret_of_a_hook_is_a_token_of_a_host() -> None:
    secrets = HookSecrets(KEY)
    for owner in (7, "images", "host web1"):
        assert TOKENS.host_of(f"web1:{secrets.token(owner)}") is None


@pytest.mark.parametrize("name", ["", "-a", "a b", "a:b", "a/b", "é", "x" * 254, "a\n"])
def test_what_is_no_name_gets_no_token(name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a host"):
        TOKENS.token(name)


def test_a_key_that_anybody_could_guess_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        HostTokens(b"short")
