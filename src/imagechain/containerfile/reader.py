"""Reading one Containerfile: from its text to the images that a build of it pulls."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from imagechain.containerfile.body import SCRATCH, UNKNOWN_IMAGE, Reading, Scope
from imagechain.containerfile.expand import Expansion, Syntax, expand
from imagechain.containerfile.instructions import Arg, Command, Copy, From, Onbuild, Run, parse_instruction
from imagechain.containerfile.lines import Instruction, decode, find_syntax, split_instructions
from imagechain.containerfile.stages import SCRATCH_NAME, Edge, Graph, Node, mounted_name, parse_trigger, resolve
from imagechain.containerfile.values import (
    Containerfile,
    ContainerfileError,
    Dialect,
    ImageDependency,
    ImageKind,
    Stage,
    Trigger,
    Warning,
)
from imagechain.refs import Platform, PlatformError, ReferenceError, parse_platform, parse_reference

DEFAULT_PLATFORM = Platform("linux", "amd64")
_DEFAULT_TARGET_NAME = "default"
_NO_NAMES: frozenset[str] = frozenset()
_NO_ARGS: Mapping[str, str] = {}


def read_containerfile(
    data: bytes | str,
    *,
    build_args: Mapping[str, str] = _NO_ARGS,
    platform: Platform = DEFAULT_PLATFORM,
    build_platform: Platform | None = None,
    target: str | None = None,
    dialect: Dialect = "buildkit",
) -> Containerfile:
    """Read a Containerfile as a builder does.

    Args:
        data: The file.
        build_args: What `--build-arg` gives.
        platform: What is built for.
        build_platform: What builds; linux/amd64 by default.
        target: The stage to build; the last one by default.
        dialect: Whose reading is wanted, where BuildKit and buildah differ.

    Raises:
        ContainerfileError: the builder refuses the file.
    """
    text = decode(data)
    source = split_instructions(text)
    syntax = Syntax(source.escape, dialect)
    global_args, stages = _split_stages(source.instructions, syntax)
    arguments = Arguments(syntax, build_args)
    platform_args = _platform_args(platform, build_platform or DEFAULT_PLATFORM)
    platform_args["TARGETSTAGE"] = target or stages[-1][0].name or _DEFAULT_TARGET_NAME
    arguments.declare_platform({**platform_args, **_only(build_args, platform_args)})
    for argument in global_args:
        arguments.declare(argument)
    graph = Graph(syntax)
    for start, commands in stages:
        graph.add_stage(start, arguments.expand_base(start), arguments.expand_platform(start), commands)
    reading = Reading(syntax, build_args, arguments.inherited())
    target_node = graph.target(target)
    graph.link(reading)
    for node in graph.nodes:
        arguments.resolve(node)
    graph.reach(target_node)
    graph.check_order()
    _walk(graph.stages, reading)
    warnings = _Warnings(arguments, reading)
    return Containerfile(
        dependencies=_dependencies(graph, text),
        stages=tuple(Stage(name=node.name, line=node.line, needed=node.needed) for node in graph.stages),
        target=graph.stages.index(target_node),
        warnings=warnings.find(source.instructions, graph),
        context_sources=None if reading.is_unknown else tuple(reading.paths),
        triggers=_triggers(target_node, syntax),
        arguments_used=frozenset(arguments.used),
        arguments_unset=frozenset(arguments.unset),
    )


def _split_stages(
    instructions: Iterable[Instruction], syntax: Syntax
) -> tuple[list[Arg], list[tuple[From, list[Command]]]]:
    """Part the instructions into the global arguments and the stages."""
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Command]]] = []
    for instruction in instructions:
        command = parse_instruction(instruction, syntax)
        if isinstance(command, From):
            stages.append((command, []))
        elif stages:
            if command is not None:
                stages[-1][1].append(command)
        elif isinstance(command, Arg):
            global_args.append(command)
        else:
            raise ContainerfileError(
                f"no build stage in current context: {instruction.keyword} before the first FROM; only ARG may be there",
                instruction.line,
            )
    if not stages:
        raise ContainerfileError("dockerfile contains no stages to build: there is no FROM")
    return global_args, stages


def _platform_args(platform: Platform, build_platform: Platform) -> dict[str, str]:
    values: dict[str, str] = {}
    for prefix, value in (("BUILD", build_platform), ("TARGET", platform)):
        values[f"{prefix}PLATFORM"] = str(value)
        values[f"{prefix}OS"] = value.os
        values[f"{prefix}OSVERSION"] = ""
        values[f"{prefix}ARCH"] = value.architecture
        values[f"{prefix}VARIANT"] = value.variant
    return values


def _only(values: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: values[name] for name in names if name in values}


class Arguments:
    """The global arguments: the only variables that FROM knows."""

    def __init__(self, syntax: Syntax, build_args: Mapping[str, str]) -> None:
        self.syntax = syntax
        self.build_args = build_args
        self.values: dict[str, str] = {}
        self.declared: set[str] = set()
        self.platform: Mapping[str, str] = {}
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

    def declare_platform(self, values: Mapping[str, str]) -> None:
        """Set the platform arguments; buildah has them only where the file declares them."""
        self.platform = values
        if self.syntax.dialect == "buildkit":
            self.values.update(values)

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
                f"empty platform value from expression {start.platform}; give its arguments values", start.line
            )
        try:
            return str(parse_platform(expansion.text))
        except PlatformError as error:
            raise ContainerfileError(f"failed to parse platform {start.platform}: {error}", start.line) from None

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


def _walk(stages: Sequence[Node], reading: Reading) -> None:
    """Walk through the needed stages; a stage starts with the variables of the stage that it is on."""
    scopes: dict[int, Scope] = {}
    for node in stages:
        if not node.needed:
            continue
        if node.base is not None:
            base = scopes[id(node.base)]
        else:
            base = SCRATCH if node.base_name == SCRATCH_NAME else UNKNOWN_IMAGE
        scopes[id(node)] = reading.walk(node.commands, base)


def _dependencies(graph: Graph, text: str) -> tuple[ImageDependency, ...]:
    found: list[ImageDependency] = []
    for node in graph.stages:
        found.append(_dependency("from", node.written, node.line, node, node.base, on=node))
        found += (
            _dependency(edge.kind, edge.written, edge.line, node, edge.source, on=edge.source)
            for edge in node.edges
            if edge.written
        )
        for command in node.commands:
            if isinstance(command, Onbuild):
                found += (_onbuild_dependency(edge, node) for edge in _trigger_edges(command, graph.syntax)[0])
    directive = find_syntax(text) if graph.syntax.dialect == "buildkit" else None
    if directive is not None:
        image, line = directive
        found.append(
            ImageDependency(
                kind="syntax", written=image, line=line, stage=None, stage_name=None, image=_normalised(image)
            )
        )
    return tuple(found)


def _dependency(
    kind: ImageKind, written: str, line: int, stage: Node, source: Node | None, *, on: Node
) -> ImageDependency:
    """Describe one dependency: on a stage, `source`, or on the image that `on` has."""
    of_stage = source.index if source is not None else None
    image = on.image if of_stage is None else None
    return ImageDependency(
        kind=kind,
        written=written,
        line=line,
        stage=stage.index,
        stage_name=stage.name,
        platform=stage.platform if kind == "from" else None,
        image=str(image) if image is not None else None,
        of_stage=of_stage,
        scratch=of_stage is None and image is None,
        needed=stage.needed,
    )


def _onbuild_dependency(edge: ImageDependency, node: Node) -> ImageDependency:
    return msgspec.structs.replace(edge, kind="onbuild", stage=node.index, stage_name=node.name)


def _trigger_edges(command: Onbuild, syntax: Syntax) -> tuple[list[ImageDependency], bool]:
    """Read what a trigger names, and whether it reads the build context; nothing, if it cannot be parsed."""
    try:
        trigger = parse_trigger(command.expression, syntax)
    except ContainerfileError:  # its children will be refused, this file is not
        return [], False
    names: list[tuple[ImageKind, str]] = []
    reads_context = False
    if isinstance(trigger, Copy):
        reads_context = not trigger.source_image and bool(trigger.sources)
        names = [("copy-from", trigger.source_image)] if trigger.source_image else []
    elif isinstance(trigger, Run):
        names = [("mount-from", name) for fields in trigger.mounts if (name := mounted_name(fields))]
        reads_context = any(_is_bind(fields) and not mounted_name(fields) for fields in trigger.mounts)
    dependencies = [
        ImageDependency(
            kind=kind, written=name, line=command.line, stage=None, stage_name=None, image=_normalised(name)
        )
        for kind, name in names
    ]
    return dependencies, reads_context


def _is_bind(fields: Sequence[tuple[str, str | None]]) -> bool:
    return (dict(fields).get("type") or "bind").lower() == "bind"


def _normalised(name: str) -> str | None:
    """Normalise an image's name; None for a number, which means a stage of the child, and for what is no name."""
    try:
        return None if name.isdecimal() else str(parse_reference(name))
    except ReferenceError:
        return None


def _triggers(target: Node, syntax: Syntax) -> tuple[Trigger, ...]:
    triggers = []
    for command in target.commands:
        if isinstance(command, Onbuild):
            dependencies, reads_context = _trigger_edges(command, syntax)
            triggers.append(
                Trigger(
                    instruction=command.expression,
                    line=command.line,
                    reads_context=reads_context,
                    dependencies=tuple(dependencies),
                )
            )
    return tuple(triggers)


class _Warnings:
    """Finds what the two builders do not read alike; once for each kind of difference."""

    def __init__(self, arguments: Arguments, reading: Reading) -> None:
        self.arguments = arguments
        self.reading = reading

    def find(self, instructions: Iterable[Instruction], graph: Graph) -> tuple[Warning, ...]:
        differences = self._of_variables() + self._of_heredocs(instructions)
        if graph.syntax.dialect == "buildah":
            differences += self._of_stages(graph.stages)
        return tuple(Warning(line=line, message=message) for line, message in sorted(differences))

    def _of_variables(self) -> list[tuple[int, str]]:
        found = []
        lines = [line for line in (self.arguments.modern_line, self.reading.modern_line) if line is not None]
        if lines:
            found.append((min(lines), "older versions of buildah know no substitutions but ${x}, ${x:-w} and ${x:+w}"))
        if self.arguments.undeclared_platform is not None:
            line, name = self.arguments.undeclared_platform
            found.append((line, f"{name} is empty for buildah unless ARG {name} stands before the first FROM"))
        return found

    @staticmethod
    def _of_heredocs(instructions: Iterable[Instruction]) -> list[tuple[int, str]]:
        for instruction in instructions:
            if instruction.heredocs:
                return [(instruction.line, "buildah before 1.33 takes the lines of a heredoc for instructions")]
        return []

    @staticmethod
    def _of_stages(stages: Sequence[Node]) -> list[tuple[int, str]]:
        found = []
        names: set[str] = set()
        for node in stages:
            if node.base is not None and node.base_name != node.base_name.lower():
                found.append((node.line, f"BuildKit finds the stage {node.base_name} in lower case only"))
            names.add(node.name or "")
            edges: list[Edge] = node.edges
            found += [
                (edge.line, f"BuildKit expands no variables in --from={edge.written}") for edge in edges if "$" in edge.written
            ]
        return found
