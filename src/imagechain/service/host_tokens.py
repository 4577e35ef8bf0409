"""The tokens that hosts report with: one key, one token of each host that follows from it. Pure.

Whoever learns the token of a host can speak for that host only, and can start, stop and read nothing else.
Nothing is kept: the same key gives the same tokens again, on every replica.
"""

import hashlib
import hmac
import re

from imagechain.gitlab.hook_secrets import KEY_BYTES_MIN

# Another purpose than the labels of hooks: no token is ever both.
_LABEL = b"imagechain report token of host "
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,251}[A-Za-z0-9])?")


class HostTokens:
    """Makes and checks the tokens of all hosts: `<name>:<hexadecimal digits>`."""

    def __init__(self, key: bytes) -> None:
        """Take the key from which all tokens follow.

        Raises:
            ValueError: it is too short to be a secret.
        """
        if len(key) < KEY_BYTES_MIN:
            raise ValueError(f"the hook key has {len(key)} bytes, at least {KEY_BYTES_MIN} are needed")
        self._key = key

    def token(self, name: str) -> str:
        """Give the token of a host.

        Raises:
            ValueError: a host cannot be called so.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name for a host: letters, digits, dots, dashes, underscores and @, such as "
                "web1.example.com"
            )
        mac = hmac.digest(self._key, _LABEL + name.encode(), hashlib.sha256)
        return f"{name}:{mac.hex()}"

    def host_of(self, token: str) -> str | None:
        """Name the host that a token was made for; None: it is no token of ours."""
        name = token.rpartition(":")[0]
        expected = self.token(name) if _NAME.fullmatch(name) else self.token("nobody")
        # Compared in any case: the answer must not come sooner for some.
        return name if hmac.compare_digest(expected.encode(), token.encode()) else None
