"""The fields of `RUN --mount`, once their variables are expanded.

Source of the rules: BuildKit's `instructions/commands_runmount.go`; what buildah accepts besides is in its
`run` documentation (`--mount`).
"""

import re
from collections.abc import Sequence

import msgspec

from imagechain.containerfile.values import ContainerfileError, Dialect
from imagechain.containerfile.words import GO_BOOLEANS

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_KEYS = frozenset(
    "type from source src target dst destination readonly ro readwrite rw required size id "  # noqa: SIM905
    "sharing mode uid gid env".split()
)
#: Flags of buildah's that BuildKit refuses.
BUILDAH_KEYS = frozenset(
    "z u tmpcopyup notmpcopyup bind-propagation bind-nonrecursive private rprivate shared "  # noqa: SIM905
    "rshared slave rslave".split()
)
_FLAGS = frozenset({"readonly", "ro", "readwrite", "rw"})
_ONLY_FOR_TYPES = {"required": ("secret", "ssh"), "size": ("tmpfs",)}
_SIZE = re.compile(r"[0-9]+(?:\.[0-9]+)? ?(?:[kKmMgGtTpP]?[iI]?[bB]?)")
_OWNED_TYPES = ("secret", "ssh", "cache")


class Mount(msgspec.Struct, frozen=True):
    """A mount, as far as it matters for what a build reads."""

    type: str
    source: str
    target: str


def check_mount(fields: Sequence[tuple[str, str | None]], dialect: Dialect) -> Mount:
    """Check a mount's fields, expanded, as the builder does before it runs the instruction.

    Raises:
        ContainerfileError: the builder refuses it.
    """
    kind = "bind"
    values: dict[str, str] = {}
    for key, value in fields:
        if key in BUILDAH_KEYS and dialect == "buildah":
            continue
        if value is None and key not in _FLAGS and key != "required":
            raise ContainerfileError(f"invalid field '{key}' must be a key=value pair")
        if kind not in _ONLY_FOR_TYPES.get(key, _TYPES):
            raise ContainerfileError(f"unexpected key '{key}' for mount type '{kind}'")
        if value is None:
            continue
        _check_value(key, value)
        if key == "type":
            kind = value.lower()
        values[_ALIASES.get(key, key)] = value
    _check_together(kind, values)
    return Mount(kind, values.get("source", ""), values.get("target", ""))


_ALIASES = {"src": "source", "dst": "target", "destination": "target"}


def _check_value(key: str, value: str) -> None:
    if key not in _KEYS:
        raise ContainerfileError(f"unexpected key '{key}' in '{key}={value}'")
    if key == "type" and value.lower() not in _TYPES:
        raise ContainerfileError(f'unsupported mount type "{value}"; use one of {", ".join(_TYPES)}')
    if key == "sharing" and value.lower() not in _SHARING:
        raise ContainerfileError(f'unsupported sharing value "{value}"; use one of {", ".join(_SHARING)}')
    if (key in _FLAGS or key == "required") and value not in GO_BOOLEANS:
        raise ContainerfileError(f"invalid value for {key}: {value}")
    if key == "size" and not _SIZE.fullmatch(value):
        raise ContainerfileError(f"invalid value for {key}: {value}")
    if key in ("mode", "uid", "gid") and not _is_unsigned(value, 8 if key == "mode" else 10):
        raise ContainerfileError(f"invalid value {value} for {key}")


def _is_unsigned(text: str, base: int) -> bool:
    """Tell whether a text is a number of 32 bits, as Go's `strconv.ParseUint` does."""
    digits = "[0-7]{1,30}" if base == 8 else "[0-9]{1,30}"
    return re.fullmatch(digits, text) is not None and int(text, base) < 2**32


def _check_together(kind: str, values: dict[str, str]) -> None:
    if kind not in _OWNED_TYPES:
        for key in ("mode", "uid", "gid"):
            if key in values:
                raise ContainerfileError(f'{key} not allowed for "{kind}" type mounts')
    if kind == "secret":
        if values.get("from"):
            raise ContainerfileError("secret mount should not have a from")
        if "sharing" in values:
            raise ContainerfileError("secret mount should not define sharing")
        if not any(values.get(key) for key in ("source", "target", "id")):
            raise ContainerfileError("invalid secret mount. one of source, target required")
        if values.get("source") and values.get("id"):
            raise ContainerfileError("both source and id can't be set")
    elif "sharing" in values and kind != "cache":
        raise ContainerfileError(f"invalid cache sharing set for {kind} mount")
    if kind == "ssh" and values.get("source"):
        raise ContainerfileError("ssh does not support source")
    target = values.get("target", "")
    if kind not in ("secret", "ssh") and target.startswith("/") and clean_path(target) == ".":
        raise ContainerfileError('invalid mount target "/"; mount below it')


def clean_path(path: str) -> str:
    """Give a path below some root, without `.`, `..` and doubled slashes; `.` is the root itself."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."
