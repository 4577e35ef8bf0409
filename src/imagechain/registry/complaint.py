"""What a registry says when it refuses: its form of error (distribution-spec, "Error Codes"). Pure."""

import msgspec

from imagechain.registry.http import Reply

#: What of a registry's own words is repeated.
_CHARACTERS_MAX = 200


class _Error(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None


class _Body(msgspec.Struct, frozen=True):
    errors: list[_Error]


_decoder = msgspec.json.Decoder(_Body)


def _errors(reply: Reply) -> list[_Error]:
    try:
        return _decoder.decode(reply.body).errors
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def is_of_registry(reply: Reply) -> bool:
    """Tell whether an error bears the marks of a registry: its version header, or its form of error."""
    return "docker-distribution-api-version" in reply.headers or bool(_errors(reply))


def codes_of(reply: Reply) -> frozenset[str]:
    """Give the codes of the errors: `MANIFEST_BLOB_UNKNOWN`."""
    return frozenset(error.code for error in _errors(reply) if error.code)


def complaint_of(reply: Reply) -> str:
    """Repeat what the registry says, to be put behind its status; empty where it says nothing."""
    said = "; ".join(": ".join(filter(None, (error.code, error.message))) for error in _errors(reply))
    said = "".join(character for character in said if character.isprintable())[:_CHARACTERS_MAX]
    return f" ({said})" if said else ""
