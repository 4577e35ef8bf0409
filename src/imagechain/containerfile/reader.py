"""Reading one Containerfile: from its text to the images that a build of it pulls."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from imagechain.containerfile.arguments import Arguments, platform_args
from imagechain.containerfile.body import SCRATCH, UNKNOWN_IMAGE, Reading, Scope, is_remote
from imagechain.containerfile.differences import find_differences
from imagechain.containerfile.instructions import Arg, Command, Copy, From, Onbuild, Run, parse_instruction
from imagechain.containerfile.lexer import Syntax
from imagechain.containerfile.lines import Instruction, decode, find_syntax, split_instructions
from imagechain.containerfile.stages import SCRATCH_NAME, Graph, Node, mounted_name, parse_trigger
from imagechain.containerfile.values import (
    Containerfile,
    ContainerfileError,
    Dialect,
    ImageDependency,
    ImageKind,
    Stage,
    Trigger,
)
from imagechain.refs import Platform, ReferenceError, parse_reference

DEFAULT_PLATFORM = Platform("linux", "amd64")
_DEFAULT_TARGET_NAME = "default"
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
    target_name = target or stages[-1][0].name or _DEFAULT_TARGET_NAME
    arguments = Arguments(
        syntax, build_args, platform_args(platform, build_platform or DEFAULT_PLATFORM, target_name)
    )
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
    return Containerfile(
        dependencies=_dependencies(graph, text),
        stages=tuple(Stage(name=node.name, line=node.line, needed=node.needed) for node in graph.stages),
        target=graph.stages.index(target_node),
        warnings=find_differences(source.instructions, graph.stages, arguments, reading),
        context_sources=None if reading.is_unknown else tuple(reading.paths),
        triggers=_triggers(target_node, syntax),
        arguments_used=frozenset(arguments.used - arguments.platform.keys()),
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
                f"no build stage in current context: {instruction.keyword} before the first FROM, where only "
                "ARG may stand",
                instruction.line,
            )
    if not stages:
        raise ContainerfileError("dockerfile contains no stages to build: there is no FROM")
    return global_args, stages


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
                found += (
                    _onbuild_dependency(edge, node) for edge in _trigger_edges(command, graph.syntax)[0]
                )
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
        reads_context = not trigger.source_image and not all(map(is_remote, trigger.sources))
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
    """Normalise an image's name; None for a number, which means a stage of the child, and for no name."""
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
