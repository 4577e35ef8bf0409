"""Where BuildKit and buildah do not read a file alike: said for the first line of each kind of difference.

Source: measured with buildah 1.28 against BuildKit; heredocs from buildah's change log (1.33).
"""

from collections.abc import Iterable, Iterator, Sequence

from imagechain.containerfile.arguments import Arguments
from imagechain.containerfile.body import Reading
from imagechain.containerfile.instructions import STAGE_NAME, Run
from imagechain.containerfile.lines import Instruction
from imagechain.containerfile.mounts import BUILDAH_KEYS
from imagechain.containerfile.stages import Node
from imagechain.containerfile.values import Warning


def find_differences(
    instructions: Iterable[Instruction], stages: Sequence[Node], arguments: Arguments, reading: Reading
) -> tuple[Warning, ...]:
    """Find what the builder that does not speak the file's dialect would make of it."""
    found: list[tuple[int, str]] = []
    for instruction in instructions:
        if instruction.heredocs:
            found.append(
                (instruction.line, "buildah before 1.33 takes the lines of a heredoc for instructions")
            )
            break
    modern_lines = [line for line in (arguments.modern_line, reading.modern_line) if line is not None]
    if modern_lines:
        message = "older versions of buildah know no substitutions but ${x}, ${x:-w} and ${x:+w}"
        found.append((min(modern_lines), message))
    if arguments.undeclared_platform is not None:
        line, name = arguments.undeclared_platform
        found.append((line, f"{name} is empty for buildah unless ARG {name} stands before the first FROM"))
    found += _of_buildah(stages) if arguments.syntax.dialect == "buildah" else _of_buildkit(stages)
    return tuple(Warning(line=line, message=message) for line, message in sorted(set(found)))


def _of_buildkit(stages: Sequence[Node]) -> Iterator[tuple[int, str]]:
    """Find names of stages that buildah, which minds their case, takes for images."""
    for node in stages:
        named = [(node.line, node.base_name, node.base)] if node.base is not None else []
        named += [(edge.line, edge.written, edge.source) for edge in node.edges]
        for line, name, stage in named:
            if stage.written_name and name.lower() == stage.name and name != stage.written_name:
                yield line, f"buildah minds the case of stage names: {name} is not {stage.written_name}"


def _of_buildah(stages: Sequence[Node]) -> Iterator[tuple[int, str]]:
    """Find what BuildKit refuses, or takes for an image."""
    for node in stages:
        if node.base is not None and node.base_name != node.base_name.lower():
            yield node.line, f"BuildKit finds the stage {node.base_name} only in lower case"
        if node.name and not STAGE_NAME.fullmatch(node.name.lower()):
            yield node.line, f"BuildKit refuses the stage name {node.name}"
        for edge in node.edges:
            if "$" in edge.written:
                yield edge.line, f"BuildKit expands no variables in --from={edge.written}"
        for command in node.commands:
            if isinstance(command, Run):
                for key in (key for fields in command.mounts for key, _ in fields if key in BUILDAH_KEYS):
                    yield command.line, f"BuildKit refuses the mount option {key}"
