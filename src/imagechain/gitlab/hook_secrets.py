"""The secrets of webhooks: one key, two secrets of each owner that follow from it, and their checks. Pure.

Whoever learns the secrets of one project can hint at that project only, and of a group, at the projects in
it. Nothing is kept: the same key gives the same secrets again. Rules: Standard Webhooks (the signature),
GitLab's `web_hook_service.rb` (the token).
"""

import base64
import binascii
import hashlib
import hmac

import msgspec

KEY_BYTES_MIN = 16
#: How far the time of a signature may be from ours, before or after.
SIGNATURE_AGE_SECONDS_MAX = 300
#: Signatures in one header (keys that are being changed); more are not looked at.
_SIGNATURES_MAX = 8
_SIGNING_PREFIX = "whsec_"
_VERSION_PREFIX = b"v1,"
# Two purposes, two labels: who reads the token, which travels in clear, must not be able to sign.
_TOKEN_LABEL = b"imagechain hook token of "
_SIGNING_LABEL = b"imagechain hook signature of "

#: Whose a webhook is: a project's, by its number, or a group's, by its path.
HookOwner = int | str


class Signature(msgspec.Struct, frozen=True):
    """The headers that sign a delivery, as they came."""

    #: `webhook-id`.
    id: bytes
    #: `webhook-timestamp`.
    timestamp: bytes
    #: `webhook-signature`.
    signatures: bytes


class HookSecrets:
    """Derives and checks the secrets of every hook."""

    def __init__(self, key: bytes) -> None:
        """Take the key from which all secrets follow.

        Raises:
            ValueError: it is too short to be a secret.
        """
        if len(key) < KEY_BYTES_MIN:
            raise ValueError(
                f"the hook key has {len(key)} bytes, at least {KEY_BYTES_MIN} are needed: "
                "make one with `openssl rand -hex 32`"
            )
        self._key = key

    def token(self, owner: HookOwner) -> str:
        """Give the secret token (`X-Gitlab-Token`) of a hook."""
        return self._derive(_TOKEN_LABEL, owner).hex()

    def signing_token(self, owner: HookOwner) -> str:
        """Give the signing token of a hook, for GitLab 19 and later."""
        return _SIGNING_PREFIX + base64.b64encode(self._derive(_SIGNING_LABEL, owner)).decode()

    def has_token(self, owner: HookOwner, token: bytes) -> bool:
        """Tell whether a token is that of an owner's hook."""
        return hmac.compare_digest(self.token(owner).encode(), token)

    def has_signed(self, owner: HookOwner, signature: Signature, body: bytes, now: float) -> bool:
        """Tell whether the owner's key signed these bytes, not long ago."""
        digits = signature.timestamp
        # Bounded, for `int` takes quadratic time; unsigned ASCII, for `int` takes more than that.
        if not (len(digits) <= 12 and digits.isdigit() and signature.id):
            return False
        if abs(now - int(digits)) > SIGNATURE_AGE_SECONDS_MAX:
            return False
        mac = hmac.new(self._derive(_SIGNING_LABEL, owner), digestmod=hashlib.sha256)
        mac.update(signature.id + b"." + digits + b".")
        mac.update(body)
        expected = mac.digest()
        given = signature.signatures.split(b" ", _SIGNATURES_MAX)[:_SIGNATURES_MAX]
        return any(hmac.compare_digest(expected, _decoded(one)) for one in given)

    def _derive(self, label: bytes, owner: HookOwner) -> bytes:
        kind = b"project" if isinstance(owner, int) else b"group"
        return hmac.digest(self._key, label + kind + b" " + str(owner).encode(), hashlib.sha256)


def _decoded(signature: bytes) -> bytes:
    """Give the bytes of a signature of our version; none for any other."""
    if not signature.startswith(_VERSION_PREFIX):
        return b""
    try:
        return base64.b64decode(signature.removeprefix(_VERSION_PREFIX), validate=True)
    except binascii.Error:
        return b""
