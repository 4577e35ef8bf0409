"""The global arguments of a file: the platform's, `ARG` before the first FROM, and what FROM makes of them.

Source of the rules: BuildKit's `dockerfile2llb/convert.go` (`buildMetaArgs`, `buildDispatchStates`) and
`platform.go` (`defaultArgs`).
"""

from collections.abc import Iterable, Mapping

from imagechain.containerfile.expand import Expansion, expand
from imagechain.containerfile.instructions import Arg, From
from imagechain.containerfile.lexer import Syntax
from imagechain.containerfile.stages import Node, resolve
from imagechain.containerfile.values import ContainerfileError
from imagechain.refs import Platform, PlatformError, parse_platform

_NO_NAMES: frozenset[str] = frozenset()


def platform_args(platform: Platform, build_platform: Platform, target: str) -> dict[str, str]:
    """Give the arguments that every build has."""
    values = {"TARGETSTAGE": target}
    for prefix, value in (("BUILD", build_platform), ("TARGET", platform)):
        values[f"{prefix}PLATFORM"] = str(value)
        values[f"{prefix}OS"] = value.os
        values[f"{prefix}OSVERSION"] = ""
        values[f"{prefix}ARCH"] = value.architecture
        values[f"{prefix}VARIANT"] = value.variant
    return values


class Arguments:
    """The global arguments: the only variables that FROM knows."""

    def __init__(self, syntax: Syntax, build_args: Mapping[str, str], platform: Mapping[str, str]) -> None:
        self.syntax = syntax
        self.build_args = build_args
        self.platform = {name: build_args.get(name, value) for name, value in platform.items()}
        #: The values so far. Buildah has the platform arguments only where the file declares them.
        self.values: dict[str, str] = dict(self.platform) if syntax.dialect == "buildkit" else {}
        self.declared: set[str] = set()
        #: Arguments that decide a base image, and those of them without a value.
        self.used: set[str] = set()
        self.unset: set[str] = set()
        #: First line of FROM that relies on a platform argument which buildah wants declared.
        self.undeclared_platform: tuple[int, str] | None = None
        self.modern_line: int | None = None
        #: Of each argument the names that its default depends on, and those of them without a value.
        self._depends_on: dict[str, frozenset[str]] = {}
        self._lacks: dict[str, frozenset[str]] = {}
        self._declarations: list[Arg] = []

    def declare(self, command: Arg) -> None:
        """Take an `ARG` that stands before the first FROM."""
        self._declarations.append(command)
        for name, default in command.pairs:
            self.declared.add(name)
            value = self.build_args.get(name)
            depends_on = lacks = _NO_NAMES
            if value is None and default is not None:
                expansion = self._expand(default, command.line)
                value = expansion.text
                depends_on, lacks = self._origins(expansion)
            elif value is None and self.syntax.dialect == "buildah":
                value = self.platform.get(name)
            if value is not None:
                self.values[name] = value
                self._depends_on[name], self._lacks[name] = depends_on, lacks

    def _expand(self, word: str, line: int) -> Expansion:
        try:
            expansion = expand(word, self.values, self.syntax)
        except ContainerfileError as error:
            raise error.at(line) from None
        if expansion.modern and self.modern_line is None:
            self.modern_line = line
        return expansion

    def _origins(self, expansion: Expansion) -> tuple[frozenset[str], frozenset[str]]:
        """Follow the names that a text depends on; gives all of them, and those without a value."""
        if not expansion.used and not expansion.unset:
            return _NO_NAMES, _NO_NAMES
        names = expansion.used | expansion.unset
        used = names.union(*(self._depends_on.get(name, _NO_NAMES) for name in names))
        unset = expansion.unset.union(*(self._lacks.get(name, _NO_NAMES) for name in expansion.used))
        return used, unset

    def expand_base(self, start: From) -> str:
        """Expand the name of a stage's base."""
        expansion = self._expand(start.base, start.line)
        used, unset = self._origins(expansion)
        self.used |= used
        self.unset |= unset
        self._note_platform(start.line, expansion)
        if not expansion.text:
            raise ContainerfileError(
                f"base name ({start.base}) should not be blank{self._hint(start.base, unset)}", start.line
            )
        return expansion.text

    def expand_platform(self, start: From) -> str | None:
        """Expand and normalise `FROM --platform`."""
        if not start.platform:
            return None
        expansion = self._expand(start.platform, start.line)
        self._note_platform(start.line, expansion)
        if not expansion.text:
            raise ContainerfileError(
                f"empty platform value from expression {start.platform}; give its arguments values",
                start.line,
            )
        try:
            return str(parse_platform(expansion.text))
        except PlatformError as error:
            raise ContainerfileError(
                f"failed to parse platform {start.platform}: {error}", start.line
            ) from None

    def _note_platform(self, line: int, expansion: Expansion) -> None:
        names = ((expansion.used | expansion.unset) & self.platform.keys()) - self.declared
        if names and self.undeclared_platform is None:
            self.undeclared_platform = (line, min(names))

    def resolve(self, node: Node) -> None:
        """Read the reference of a node's image; where it is wrong, tell which values are missing."""
        try:
            resolve(node)
        except ContainerfileError as error:
            if node.index is None:
                raise
            _, unset = self._origins(self._expand(node.written, node.line))
            raise ContainerfileError(error.message + self._hint(node.written, unset), node.line) from None

    def _hint(self, written: str, unset: Iterable[str]) -> str:
        """Say which values are missing, and what the name looks like without them."""
        names = sorted(unset)
        if not names:
            return ""
        undeclared = [name for name in names if name not in self.declared]
        declare = f"; declare ARG {' '.join(undeclared)} before the first FROM" if undeclared else ""
        return (
            f"; without values for {', '.join(names)} it is {self._pattern(written)}{declare}; "
            "give values with --build-arg, or under [chain.build_args] in imagechain.toml"
        )

    def _pattern(self, written: str) -> str:
        """Expand a word with `*` for all that has no value."""
        values = dict(self.platform if self.syntax.dialect == "buildkit" else {})
        for command in self._declarations:
            for name, default in command.pairs:
                if name in self.build_args:
                    values[name] = self.build_args[name]
                elif default is not None:
                    values[name] = expand(default, values, self.syntax, unset_text="*").text
        return expand(written, values, self.syntax, unset_text="*").text

    def inherited(self) -> Mapping[str, str]:
        """What a stage's `ARG` without a default takes over."""
        return {**self.platform, **self.values}
