"""`WWW-Authenticate` as registries write it, and the answers of token services."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.registry.challenge import Challenge, choose_challenge, decode_token, token_url

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'
HUB_CHALLENGE = Challenge("https://auth.docker.io/token", "registry.docker.io", "repository:a/b:pull")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([HUB], HUB_CHALLENGE),
        ([HUB.replace(",", " , ")], HUB_CHALLENGE),
        ([HUB.replace("Bearer", "bearer").replace("realm", "Realm")], HUB_CHALLENGE),
        (
            [f'{HUB},scope="repository:a/b:pull,push"'],
            Challenge(HUB_CHALLENGE.realm, HUB_CHALLENGE.service, "repository:a/b:pull,push"),
        ),
        ([f'{HUB},error="invalid_token"'], HUB_CHALLENGE),
        (['Basic realm="x"', HUB], HUB_CHALLENGE),
        ([f'Basic realm="x, y=z", {HUB}'], HUB_CHALLENGE),
        ([f"Negotiate, {HUB}"], HUB_CHALLENGE),
        (['Basic realm="x"'], Challenge()),
        (["Basic"], Challenge()),
        (["Basic realm=x"], Challenge()),
        (['Bearer realm="/token", Basic realm="x"'], Challenge()),
        (
            [r'Bearer realm="https://a.example.com/\"t",service="s"'],
            Challenge('https://a.example.com/"t', "s", "repository:a/b:pull"),
        ),
        (["Negotiate"], None),
        (['Bearer realm="//auth.example.com/token"'], None),
        (['Bearer realm="ftp://auth.example.com/token"'], None),
        (["Digest realm=x"], None),
        ([""], None),
        ([], None),
        (['Bearer service="only"'], None),
        ([HUB + ",x=" + "y" * 5000], None),
    ],
)
def test_the_best_challenge_is_chosen(headers: list[str], expected: Challenge | None) -> None:
    assert choose_challenge(headers, "repository:a/b:pull") == expected


@settings(deadline=None)
@given(st.lists(st.text(alphabet='[htpBbasicerlm="\\, /:.x', max_size=60), max_size=3))
def test_no_header_breaks_the_reading(headers: list[str]) -> None:
    found = choose_challenge(headers, "repository:a/b:pull")
    assert found is None or found.is_basic or found.realm.startswith("http")


@settings(deadline=None)
@given(
    st.text(
        alphabet=st.characters(blacklist_characters='"\\', min_codepoint=32, max_codepoint=126), max_size=40
    )
)
def test_a_quoted_scope_comes_back_as_it_was(scope: str) -> None:
    found = choose_challenge([f'{HUB},scope="{scope}"'], "repository:a/b:pull")
    assert found is not None
    assert found.scope == (scope or "repository:a/b:pull")


def test_the_url_of_a_token_service_keeps_its_own_query() -> None:
    challenge = Challenge("https://a.example.com/t?tenant=1", "s e", "repository:a/b:pull")
    assert (
        token_url(challenge, "")
        == "https://a.example.com/t?tenant=1&service=s+e&scope=repository%3Aa%2Fb%3Apull"
    )


@pytest.mark.parametrize(
    ("body", "text", "seconds"),
    [
        (b'{"token": "a", "expires_in": 300}', "a", 290),
        (b'{"access_token": "b"}', "b", 50),
        (b'{"token": "a", "access_token": "b", "expires_in": 4}', "a", 2),
        (b'{"token": "a", "expires_in": 0, "issued_at": "2026"}', "a", 50),
        (b'{"token": "a", "expires_in": null}', "a", 50),
    ],
)
def test_tokens_of_both_specifications_are_read(body: bytes, text: str, seconds: float) -> None:
    token = decode_token(body)
    assert (token.text, token.seconds) == (text, seconds)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token": ""}', b'{"token": "a\\r\\nX: y"}', b'{"token": "\xc3\xa4"}']
)
def test_an_answer_without_a_token_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_token(body)
