"""The table `[chain]`: what a local chain publishes, and how it is built."""

import re

import msgspec

from imagechain.refs import ReferenceError, parse_reference

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = frozenset({"path", "name"})


class ChainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[chain]`: what a local chain publishes, and how it is built."""

    #: A folder publishes `<prefix>/<folder>:latest`.
    prefix: str = "localhost"
    #: More file name patterns that are read as Containerfiles.
    files: tuple[str, ...] = ()
    #: Glob of folders or of Containerfiles -> reference template, or a list; an empty list publishes nothing.
    images: dict[str, str | list[str]] = {}
    #: Glob of folders or of Containerfiles -> build arguments.
    build_args: dict[str, dict[str, str]] = {}

    def __post_init__(self) -> None:
        """Refuse a prefix or a template that can give no image reference."""
        try:
            parse_reference(f"{self.prefix}/name")
        except ReferenceError as error:
            raise ValueError(f"prefix {self.prefix!r} begins no image reference: {error}") from error
        for key, templates in self.images.items():
            for template in [templates] if isinstance(templates, str) else templates:
                _check_template(key, template)


def _check_template(key: str, template: str) -> None:
    for placeholder in _PLACEHOLDER.findall(template):
        if placeholder not in _PLACEHOLDERS:
            known = "{path} and {name}"
            raise ValueError(f"images.{key!r}: {template!r} has a placeholder other than {known}")
    try:
        reference = parse_reference(_PLACEHOLDER.sub("x", template))
    except ReferenceError as error:
        raise ValueError(f"images.{key!r}: {error}") from error
    if reference.digest is not None:
        raise ValueError(f"images.{key!r}: {template!r} has a digest, which is known only after the build")
