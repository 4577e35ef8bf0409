"""What a registry wants to see before it answers: `WWW-Authenticate`, and the token that satisfies it. Pure.

Sources: RFC 9110, section 11; the distribution project's token and OAuth2 authentication specifications.
"""

import base64
import re
from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec

#: A token that does not say how long it is valid (the specification's default).
TOKEN_SECONDS_DEFAULT = 60
#: A token is not used any more this long before it expires: a request takes time too.
TOKEN_LEEWAY_SECONDS = 10

#: Longest `WWW-Authenticate` that is read; it is remembered for each repository.
_HEADER_CHARACTERS_MAX = 4096

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))'
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?:\s+(?={_WORD}\s*=)|\s*(?=,|$))")
_NEXT_PARAMETER = re.compile(rf"\s*,?\s*{_PARAMETER}")
#: A realm of a Bearer challenge is a whole URL.
_REALM = re.compile(r"https?://[^/?#\s]")
_ESCAPE = re.compile(r"\\(.)")


class Challenge(msgspec.Struct, frozen=True):
    """How a registry wants to be convinced: with a token of a token service, or with name and password."""

    #: URL of the token service; empty: Basic authentication.
    realm: str = ""
    service: str = ""
    #: What the token is to be good for.
    scope: str = ""

    @property
    def is_basic(self) -> bool:
        """Whether name and password go to the registry itself."""
        return not self.realm


class Token(msgspec.Struct, frozen=True):
    """What a token service answers."""

    token: str = ""
    access_token: str = ""
    expires_in: float | None = None

    @property
    def text(self) -> str:
        """The token; OAuth2 and the older specification name it differently."""
        return self.token or self.access_token

    @property
    def seconds(self) -> float:
        """How long it can be used from now."""
        # Some services send 0, or a negative number, for "not said".
        said = self.expires_in if self.expires_in and self.expires_in > 0 else TOKEN_SECONDS_DEFAULT
        return max(said - TOKEN_LEEWAY_SECONDS, said / 2)


_token_decoder = msgspec.json.Decoder(Token)


def scope_of(path: str, actions: str = "pull", pull_from: str = "") -> str:
    """Name the right to do something in a repository, and to read another one at the same time."""
    scopes = [f"repository:{path}:{actions}", f"repository:{pull_from}:pull"]
    return " ".join(scopes[: 2 if pull_from else 1])


def choose_challenge(headers: Sequence[str], scope: str) -> Challenge | None:
    """Choose what to answer to the `WWW-Authenticate` headers of a 401; a token rather than a password.

    Args:
        headers: what was answered.
        scope: what is needed, where the registry does not say it.
    """
    challenges = [challenge for header in headers for challenge in _challenges(header)]
    for scheme, parameters in challenges:
        realm = parameters.get("realm", "")
        if scheme == "bearer" and _REALM.match(realm):
            said = parameters.get("scope") or scope
            # A mount needs a second right, which some registries do not name.
            more = [one for one in scope.split(" ")[1:] if one not in said.split(" ")]
            return Challenge(realm, parameters.get("service", ""), " ".join([said, *more]))
    return Challenge() if any(scheme == "basic" for scheme, _ in challenges) else None


def _challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(header) <= _HEADER_CHARACTERS_MAX:
        # A parameter before a scheme: `a, b=c` could begin with either.
        if found and (match := _NEXT_PARAMETER.match(header, position)):
            value = _ESCAPE.sub(r"\1", match[2]) if match[2] is not None else match[3]
            found[-1][1].setdefault(match[1].lower(), value)
        elif match := _SCHEME.match(header, position):
            found.append((match[1].lower(), {}))
        else:
            break
        position = match.end()
    return found


def basic_authorization(username: str, password: str) -> str:
    """Write name and password for the `Authorization` header."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def token_url(challenge: Challenge, username: str) -> str:
    """Write the URL that asks a token service for a token."""
    scopes = [("scope", scope) for scope in challenge.scope.split(" ")]
    wanted = [("service", challenge.service), *scopes, ("account", username)]
    query = urlencode([(name, text) for name, text in wanted if text])
    return f"{challenge.realm}{'&' if '?' in challenge.realm else '?'}{query}"


def refresh_form(challenge: Challenge, identity_token: str) -> bytes:
    """Write the body that exchanges an identity token for a token (OAuth2)."""
    return urlencode(
        {
            "grant_type": "refresh_token",
            "service": challenge.service,
            "client_id": "imagechain",
            "scope": challenge.scope,
            "refresh_token": identity_token,
        }
    ).encode()


def decode_token(data: bytes) -> Token:
    """Decode the answer of a token service.

    Raises:
        ValueError: there is no token in it. The message does not repeat the answer.
    """
    token = _token_decoder.decode(data)
    if not token.text or not token.text.isascii() or not token.text.isprintable():
        raise ValueError("it holds no token")
    return token
