"""The stages of a file and the images they are built from: names, numbers, ONBUILD, and what a target needs.

Source of the rules: BuildKit's `dockerfile2llb/convert.go` (`buildDispatchStates`,
`buildStageDependencyGraph`, `resolveStages`, `initOnBuildTriggers`) and `convert_runmount.go`.
"""

import re
from collections.abc import Iterable, Sequence

from imagechain.containerfile.body import SCRATCH, UNKNOWN_IMAGE, Reading, Scope, Variables
from imagechain.containerfile.expand import expand
from imagechain.containerfile.instructions import (
    Arg,
    Command,
    Copy,
    Env,
    From,
    Onbuild,
    Run,
    parse_instruction,
)
from imagechain.containerfile.lexer import Syntax
from imagechain.containerfile.lines import split_instructions
from imagechain.containerfile.values import ContainerfileError, ImageKind
from imagechain.refs import Reference, ReferenceError, parse_reference

SCRATCH_NAME = "scratch"
_INDEX = re.compile(r"[+-]?[0-9]{1,18}")
_TRIGGER_SYNTAX = Syntax()


class Edge:
    """A place in a stage that names something to copy from or to mount."""

    __slots__ = ("kind", "line", "source", "written")

    def __init__(self, kind: ImageKind, written: str, line: int, source: "Node") -> None:
        self.kind = kind
        self.written = written
        self.line = line
        self.source = source


class Node:
    """A stage of the file, or an image that a stage copies from or mounts."""

    __slots__ = (
        "base",
        "base_name",
        "commands",
        "edges",
        "fired",
        "image",
        "index",
        "line",
        "name",
        "needed",
        "platform",
        "written",
        "written_name",
    )

    def __init__(self, base_name: str, line: int) -> None:
        #: Name of the image or stage that it is on, expanded.
        self.base_name = base_name
        self.written = base_name
        self.line = line
        #: Number of the stage; None for an image.
        self.index: int | None = None
        self.name: str | None = None
        self.written_name: str | None = None
        self.platform: str | None = None
        self.base: Node | None = None
        #: The image that it is on; None on a stage and on `scratch`.
        self.image: Reference | None = None
        self.commands: list[Command] = []
        self.edges: list[Edge] = []
        self.needed = False
        #: Whether the triggers of its base have been added.
        self.fired = False

    @property
    def title(self) -> str:
        """How messages call the stage."""
        return self.name or f"stage-{self.index}"


class Graph:
    """All stages, and the images that they name."""

    def __init__(self, syntax: Syntax) -> None:
        self.syntax = syntax
        #: Stages first, in order; images after them, as BuildKit numbers them for `COPY --from=N`.
        self.nodes: list[Node] = []
        self.stages: list[Node] = []
        self._by_name: dict[str, Node] = {}

    def add_stage(
        self, instruction: From, base_name: str, platform: str | None, commands: list[Command]
    ) -> None:
        """Add the next stage; its base is an earlier stage if one has exactly that name."""
        node = Node(base_name, instruction.line)
        node.written = instruction.base
        node.index = len(self.stages)
        node.name = instruction.name
        node.written_name = instruction.written_name
        node.platform = platform
        node.commands = commands
        node.base = self._by_name.get(base_name)
        self.nodes.append(node)
        self.stages.append(node)
        if instruction.name:
            self._by_name[instruction.name] = node

    def find(self, name: str) -> Node | None:
        """Find a stage by name: in any case in BuildKit, as written in buildah."""
        return self._by_name.get(name if self.syntax.dialect == "buildah" else name.lower())

    def target(self, name: str | None) -> Node:
        """Find the stage to build; the last one by default."""
        if name is None:
            return self.stages[-1]
        node = self._find_for_buildah(name) or self.find(name)
        if node is None:
            names = ", ".join(stage.name for stage in self.stages if stage.name) or "no stage has a name"
            raise ContainerfileError(f"target stage {name!r} could not be found; stages: {names}")
        return node

    def link(self, reading: Reading) -> None:
        """Find what each stage copies from and mounts, needed or not."""
        scopes: dict[int, Scope] = {}
        for stage in self.stages:
            base = scopes.get(id(stage.base)) or (
                SCRATCH if stage.base_name == SCRATCH_NAME else UNKNOWN_IMAGE
            )
            variables = Variables(reading, base)
            for command in stage.commands:
                if self.syntax.dialect == "buildah" and isinstance(command, Arg | Env):
                    variables.step(command)
                stage.edges += self._edges_of(command, variables)
            scopes[id(stage)] = variables.scope()
        _check_circles(self.stages)

    def _edges_of(self, command: Command, variables: Variables | None, line: int | None = None) -> list[Edge]:
        """Find what an instruction copies from or mounts; a trigger does it on its stage's line."""
        line = command.line if line is None else line
        try:
            if isinstance(command, Copy) and command.source_image:
                written = command.source_image
                return [
                    Edge("copy-from", written, line, self._copy_source(self._name(written, variables), line))
                ]
            if isinstance(command, Run):
                edges = []
                for written in map(mounted_name, command.mounts):
                    name = written if self.syntax.dialect == "buildkit" else self._name(written, variables)
                    # Without a name BuildKit takes `scratch`, which may be a stage's name too.
                    edges.append(
                        Edge("mount-from", written, line, self._mount_source(name or SCRATCH_NAME, line))
                    )
                return edges
        except ContainerfileError as error:
            raise error.at(line) from None
        return []

    def _name(self, written: str, variables: Variables | None) -> str:
        """Read the name after `--from`: only buildah expands variables in it."""
        if self.syntax.dialect == "buildah" and variables is not None:
            name = variables.expand(written)
            if name is None:
                raise ContainerfileError(
                    f"--from={written} has a variable without a value; declare it with ARG in this stage"
                )
            return name
        if expand(written, {}, self.syntax).text != written:
            raise ContainerfileError(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from "
                "global scope as a workaround"
            )
        return written

    def _copy_source(self, name: str, line: int) -> Node:
        if not _INDEX.fullmatch(name):
            return self.find(name) or self._add_image(name, line)
        numbered = self.stages if self.syntax.dialect == "buildah" else self.nodes
        if not 0 <= int(name) < len(numbered):
            raise ContainerfileError(
                f"invalid stage index {int(name)}; the file has stages 0 to {len(self.stages) - 1}", line
            )
        node = numbered[int(name)]
        if node.index is None:  # BuildKit gives an image one more number each time that it is named
            self.nodes.append(node)
        return node

    def _mount_source(self, name: str, line: int) -> Node:
        return self.find(name) or self._find_for_buildah(name) or self._add_image(name, line)

    def _find_for_buildah(self, name: str) -> Node | None:
        """Find a stage by its number, which buildah takes for a name wherever a name may stand."""
        is_index = self.syntax.dialect == "buildah" and _INDEX.fullmatch(name) is not None
        return self.stages[int(name)] if is_index and 0 <= int(name) < len(self.stages) else None

    def _add_image(self, name: str, line: int) -> Node:
        node = Node(name, line)
        self.nodes.append(node)
        return node

    def reach(self, target: Node) -> None:
        """Mark what the target needs, and run the ONBUILD triggers of stages that needed stages are on."""
        while True:
            for node in reachable(target):
                node.needed = True
            waiting = [
                stage for stage in self.stages if stage.needed and stage.base is not None and not stage.fired
            ]
            if sum(self._fire(stage) for stage in waiting) == 0:
                return

    def _fire(self, stage: Node) -> bool:
        """Put the triggers of a stage's base before its own instructions; tells whether it needs more now."""
        stage.fired = True
        assert stage.base is not None  # noqa: S101 - the caller asks for stages on stages
        triggers = [command for command in stage.base.commands if isinstance(command, Onbuild)]
        commands, edges = [], []
        for trigger in triggers:
            try:
                command = parse_trigger(trigger.expression, self.syntax)
            except ContainerfileError as error:
                raise ContainerfileError(
                    f"ONBUILD of stage {stage.base.title}: {error.message}", stage.line
                ) from None
            if command is not None:
                commands.append(command)
                edges += self._edges_of(command, None, stage.line)
        stage.commands = commands + stage.commands
        stage.edges = edges + stage.edges
        for edge in edges:
            resolve(edge.source)
        return bool(edges)

    def check_order(self) -> None:
        """Check that needed stages copy and mount from earlier ones only."""
        for stage in self.stages:
            if not stage.needed:
                continue
            for edge in stage.edges:
                position = edge.source.index
                if not edge.written or position is None or stage.index is None or position <= stage.index:
                    continue
                what = "copy" if edge.kind == "copy-from" else "mount"
                raise ContainerfileError(
                    f'cannot {what} from stage "{edge.written}", it needs to be defined before current stage '
                    f'"{stage.title}"; move it up',
                    edge.line,
                )


def resolve(node: Node) -> None:
    """Read the reference of the image that a node is on, if it is on one."""
    if node.base is not None or node.base_name == SCRATCH_NAME:
        return
    try:
        node.image = parse_reference(node.base_name)
    except ReferenceError as error:
        raise ContainerfileError(
            f"failed to parse stage name {node.base_name!r}: {error}", node.line
        ) from None


def mounted_name(fields: Iterable[tuple[str, str | None]]) -> str:
    """Give what a mount is from, as written; empty for the build context, or for nothing."""
    return dict(fields).get("from") or ""


def parse_trigger(expression: str, syntax: Syntax) -> Command | None:
    """Parse an ONBUILD instruction where it runs; the child's escape directive does not reach it."""
    instructions = split_instructions(expression).instructions
    if len(instructions) != 1:
        raise ContainerfileError("onbuild trigger should be a single expression")
    return parse_instruction(instructions[0], Syntax(_TRIGGER_SYNTAX.escape, syntax.dialect))


def reachable(target: Node) -> list[Node]:
    """Follow bases and edges from a node; gives all that is reached, the node first."""
    reached = {id(target): target}
    waiting = [target]
    while waiting:
        node = waiting.pop()
        for following in (node.base, *(edge.source for edge in node.edges)):
            if following is not None and id(following) not in reached:
                reached[id(following)] = following
                waiting.append(following)
    return list(reached.values())


def _check_circles(stages: Sequence[Node]) -> None:
    """Refuse stages that copy from each other in a circle, needed or not."""
    done: set[int] = set()
    for start in stages:
        path: dict[int, None] = {}
        waiting: list[tuple[Node, bool]] = [(start, False)]
        while waiting:
            node, is_left = waiting.pop()
            if is_left:
                del path[id(node)]
                done.add(id(node))
            elif id(node) in path:
                raise ContainerfileError(
                    f"circular dependency detected on stage: {node.title}; stages copy from each other",
                    node.line,
                )
            elif id(node) not in done:
                path[id(node)] = None
                waiting.append((node, True))
                waiting += [(edge.source, False) for edge in node.edges]
