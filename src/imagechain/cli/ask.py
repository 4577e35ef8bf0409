"""`imagechain status`, `explain`, `plan`: questions, answered without changing anything."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from imagechain.chain import Explanation, PlannedBuild, SourceStatus
from imagechain.chain import explain as explain_source
from imagechain.chain import plan as plan_builds
from imagechain.chain import status as status_of_all
from imagechain.cli.local import discover_local, find_sources, read_settings
from imagechain.cli.output import Format, print_json, print_lines, print_problems, print_table
from imagechain.engines.local import LocalChain, Pin, find_folders, observe
from imagechain.images import choose_builder

Directory = Annotated[Path, Parameter(name="--dir")]


class Status(msgspec.Struct, frozen=True):
    """What `status --format json` prints."""

    sources: tuple[SourceStatus, ...]
    #: References that are pinned by a digest, and where their tags are now.
    pins: tuple[Pin, ...]


class Plan(msgspec.Struct, frozen=True):
    """What `plan --format json` prints."""

    builds: tuple[PlannedBuild, ...]


def status(*, dir: Directory = Path(), format: Format = "table") -> int:
    """Show what is fresh, stale, building or blocked.

    Args:
        dir: The top folder of the chain.
        format: How the answer is printed.
    """
    local = _observe(dir)
    answer = Status(status_of_all(local.chain), tuple(local.pins()))
    if format == "json":
        print_json(answer)
        return 0
    print_table(
        ("IMAGE", "STATE", "WHY"),
        [(source.id, source.state, _why(source)) for source in answer.sources if source.kind == "project"],
    )
    print_lines(_pin_lines(answer.pins))
    print_problems(local.discovery.problems, local.graph.cycles)
    return 0


def explain(
    image: Annotated[str, Parameter(name="IMAGE")], /, *, dir: Directory = Path(), format: Format = "table"
) -> int:
    """Explain why an image is in the state that it is in.

    Args:
        image: Its folder, or a reference that it publishes, or an external image.
        dir: The top folder of the chain.
        format: How the answer is printed.
    """
    local = _observe(dir)
    (id,) = find_sources(local.graph, (image,))
    answer = explain_source(local.chain, id, time.time())
    if format == "json":
        print_json(answer)
    else:
        print_lines(_explanation_lines(answer))
    return 0


def plan(*, if_changed: str | None = None, dir: Directory = Path(), format: Format = "table") -> int:
    """Show what would be built, in which order, and why.

    Args:
        if_changed: Show what a change of this image would lead to, instead of what is stale now.
        dir: The top folder of the chain.
        format: How the answer is printed.
    """
    local = _observe(dir)
    changed = find_sources(local.graph, (if_changed,))[0] if if_changed is not None else None
    print_plan(Plan(plan_builds(local.chain, changed)), format)
    return 0


def print_plan(answer: Plan, format: Format) -> None:
    """Print a plan; builds of one wave do not wait for each other."""
    if format == "json":
        print_json(answer)
    elif not answer.builds:
        print_lines(["Nothing would be built."])
    else:
        print_table(
            ("WAVE", "IMAGE", "WHY"),
            [(str(build.wave), build.id, _because(build)) for build in answer.builds],
        )


def _observe(directory: Path) -> LocalChain:
    kinds = read_settings(directory).policy.kinds()
    discovery = discover_local(directory)

    async def read() -> LocalChain:
        return await observe(discovery, await choose_builder(), find_folders(directory), kinds=kinds)

    return asyncio.run(read())


def _why(source: SourceStatus) -> str:
    words = [reason.text for reason in source.reasons]
    if source.blocked_by:
        words.append(
            f"{'blocked by' if source.state == 'blocked' else 'waits for'} {', '.join(source.blocked_by)}"
        )
    return "; ".join(words)


def _because(build: PlannedBuild) -> str:
    words = [reason.text for reason in build.reasons]
    others = [id for id in build.because_of if id != build.id]
    if others:
        words.append(f"follows {', '.join(others)}")
    return "; ".join(words)


def _pin_lines(pins: tuple[Pin, ...]) -> list[str]:
    lines = []
    for pin in pins:
        place = f"{pin.file}:{pin.line}: {pin.image} is pinned to {pin.pinned}"
        if pin.present is None:
            lines.append(f"{place}; how far behind that is cannot be told, its tag is not on this machine")
        else:
            lines.append(
                f"{place}; the tag is now {pin.present}" if pin.behind else f"{place}, where the tag is too"
            )
    return lines


def _explanation_lines(answer: Explanation) -> list[str]:
    lines = [answer.text]
    lines += [f"  {reason.text}" for reason in answer.status.reasons[1:]]
    lines += [f"  {blocker.text} ({' -> '.join(blocker.path)})" for blocker in answer.blockers]
    if answer.waits_for:
        lines.append(answer.waits_for)
    if answer.cycle:
        lines.append(f"It is in a cycle: {' -> '.join([*answer.cycle, answer.cycle[0]])}.")
    if answer.would_build:
        lines.append(f"If its content changed, these would be built: {', '.join(answer.would_build)}.")
    else:
        lines.append("Nothing is built from it.")
    lines += [
        f"{other.dependency.file}:{other.dependency.line}: {other.text} It never makes this image stale."
        for other in answer.uncounted
    ]
    return lines
