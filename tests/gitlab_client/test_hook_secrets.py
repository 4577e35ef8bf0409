import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.gitlab.hook_secrets import HookSecrets, Signature
from web.parts import NOW, SECRETS, sign

PROJECTS = st.integers(1, 2**63 - 1)
BODIES = st.binary(max_size=200)


def _signature(project_id: int, body: bytes, *, id: str = "x", at: float = NOW) -> Signature:
    timestamp = str(int(at))
    text = sign(SECRETS.signing_token(project_id), id, timestamp, body)
    return Signature(id.encode(), timestamp.encode(), text.encode())


@given(PROJECTS, PROJECTS)
def test_projects_never_share_a_secret(one: int, other: int) -> None:
    secrets = {
        SECRETS.token(one),
        SECRETS.signing_token(one),
        SECRETS.token(other),
        SECRETS.signing_token(other),
    }
    assert len(secrets) == (2 if one == other else 4)


@given(PROJECTS)
def test_signing_tokens_have_the_form_that_gitlab_takes(project_id: int) -> None:
    token = SECRETS.signing_token(project_id)
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", token)
    assert len(base64.b64decode(token.removeprefix("whsec_"))) == 32


def test_the_token_does_not_tell_the_signing_key() -> None:
    assert bytes.fromhex(SECRETS.token(7)) != base64.b64decode(
        SECRETS.signing_token(7).removeprefix("whsec_")
    )


def test_another_key_gives_other_secrets_and_the_same_key_the_same() -> None:
    assert HookSecrets(b"0" * 32).token(7) != HookSecrets(b"1" * 32).token(7)
    assert HookSecrets(b"0" * 32).signing_token(7) == HookSecrets(b"0" * 32).signing_token(7)


@given(PROJECTS, BODIES)
def test_what_the_project_signed_is_right(project_id: int, body: bytes) -> None:
    assert SECRETS.has_signed(project_id, _signature(project_id, body), body, NOW)


@given(BODIES, BODIES, PROJECTS, PROJECTS)
def test_a_signature_is_for_one_body_of_one_project(body: bytes, other: bytes, one: int, two: int) -> None:
    given = _signature(one, body)
    assert SECRETS.has_signed(two, given, other, NOW) == (body == other and one == two)


@pytest.mark.parametrize(
    ("age", "is_right"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)]
)
def test_a_signature_is_right_for_five_minutes(age: int, is_right: bool) -> None:
    assert SECRETS.has_signed(7, _signature(7, b"{}", at=NOW - age), b"{}", NOW) == is_right


def test_the_time_and_the_id_are_signed_too() -> None:
    real = _signature(7, b"{}")
    assert not SECRETS.has_signed(7, Signature(b"y", real.timestamp, real.signatures), b"{}", NOW)
    later = str(int(NOW) + 1).encode()
    assert not SECRETS.has_signed(7, Signature(real.id, later, real.signatures), b"{}", NOW)


def test_one_right_signature_of_several_is_enough() -> None:
    real = _signature(7, b"{}")
    several = Signature(real.id, real.timestamp, b"v2,abc v1,bad== " + real.signatures)
    assert SECRETS.has_signed(7, several, b"{}", NOW)


@given(st.binary(max_size=40), st.binary(max_size=80), st.binary(max_size=80))
def test_any_other_header_is_wrong(timestamp: bytes, id: bytes, signatures: bytes) -> None:
    assert not SECRETS.has_signed(7, Signature(id, timestamp, signatures), b"{}", NOW)


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "+1", "1e9", " 1", "\uff11\uff17", "9" * 400_000])
def test_a_time_that_is_no_number_is_wrong(timestamp: str) -> None:
    real = _signature(7, b"{}")
    assert not SECRETS.has_signed(7, Signature(real.id, timestamp.encode(), real.signatures), b"{}", NOW)


def test_an_empty_or_another_token_is_wrong() -> None:
    assert SECRETS.has_token(7, SECRETS.token(7).encode())
    for wrong in (b"", SECRETS.token(8).encode(), SECRETS.token(7).encode()[:-1], "é".encode("latin-1")):
        assert not SECRETS.has_token(7, wrong)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="openssl rand"):
        HookSecrets(b"short")
