"""`imagechain status`, `explain`, `plan`: questions, answered without changing anything."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from imagechain.chain import Explanation, Pin, PlannedBuild, SourceStatus, find_pins
from imagechain.chain import explain as explain_source
from imagechain.chain import plan as plan_builds
from imagechain.chain import status as status_of_all
from imagechain.cli.errors import UsageError
from imagechain.cli.local import discover_local, find_sources
from imagechain.cli.output import Format, print_json, print_lines, print_problems, print_table
from imagechain.cli.settings import read_settings
from imagechain.engines.folders import find_folders
from imagechain.engines.local import LocalChain, observe
from imagechain.images import choose_builder

if TYPE_CHECKING:
    from imagechain.cli.remote import RemoteService

Directory = Annotated[Path, Parameter(name="--dir")]
Server = Annotated[str | None, Parameter(name="--server")]
Config = Annotated[Path | None, Parameter(name="--config")]


class Status(msgspec.Struct, frozen=True):
    """What `status --format json` prints."""

    sources: tuple[SourceStatus, ...]
    #: References that are pinned by a digest, and where their tags are now.
    pins: tuple[Pin, ...] = ()
    #: What else a person should know; of a service only.
    notices: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """What `plan --format json` prints."""

    builds: tuple[PlannedBuild, ...]


def status(
    *,
    hosts: Annotated[bool, Parameter(negative=())] = False,
    dir: Directory = Path(),
    server: Server = None,
    config: Config = None,
    format: Format = "table",
) -> int:
    """Show what is fresh, stale, building or blocked: in a local chain, or in a running service.

    Args:
        hosts: Show what the hosts run instead, and how long fixes took to their last container.
        dir: The top folder of the chain.
        server: Address of a running service, to be asked instead.
        config: The settings of that service, for its address.
        format: How the answer is printed.
    """
    service = _service(server, config)
    if hosts:
        _print_hosts(service, format)
        return 0
    if service is not None:
        _print_status(service.ask("status", Status), format)
        return 0
    local = _observe(dir)
    _print_status(Status(status_of_all(local.chain), find_pins(local.graph, local.digests)), format)
    if format != "json":
        print_problems(local.discovery.problems, local.graph.cycles)
    return 0


def explain(
    image: Annotated[str, Parameter(name="IMAGE")],
    /,
    *,
    dir: Directory = Path(),
    server: Server = None,
    config: Config = None,
    format: Format = "table",
) -> int:
    """Explain why an image is in the state that it is in.

    Args:
        image: Its folder, or a reference that it publishes, or an external image; in a service, its id.
        dir: The top folder of the chain.
        server: Address of a running service, to be asked instead.
        config: The settings of that service, for its address.
        format: How the answer is printed.
    """
    if (service := _service(server, config)) is not None:
        answer = service.ask(f"explain/{quote(image)}", Explanation)
    else:
        local = _observe(dir)
        (id,) = find_sources(local.graph, (image,))
        answer = explain_source(local.chain, id, time.time(), local.digests)
    if format == "json":
        print_json(answer)
    else:
        print_lines(explanation_lines(answer))
    return 0


def plan(
    *,
    if_changed: str | None = None,
    dir: Directory = Path(),
    server: Server = None,
    config: Config = None,
    format: Format = "table",
) -> int:
    """Show what would be built, in which order, and why.

    Args:
        if_changed: Show what a change of this image would lead to, instead of what is stale now.
        dir: The top folder of the chain.
        server: Address of a running service, to be asked instead.
        config: The settings of that service, for its address.
        format: How the answer is printed.
    """
    if (service := _service(server, config)) is not None:
        print_plan(service.ask("plan", Plan, {"if_changed": if_changed} if if_changed else {}), format)
        return 0
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


def _print_status(answer: Status, format: Format) -> None:
    if format == "json":
        print_json(answer)
        return
    print_table(
        ("IMAGE", "STATE", "WHY"),
        [(source.id, source.state, _why(source)) for source in answer.sources if source.kind == "project"],
    )
    print_lines([*_pin_lines(answer.pins), *(f"Note: {notice}." for notice in answer.notices)])


def _print_hosts(service: "RemoteService | None", format: Format) -> None:
    if service is None:
        raise UsageError("hosts report to a service: name it with --server URL or --config FILE")
    from imagechain.cli.ask_hosts import print_hosts  # noqa: PLC0415 - as in `_service`

    print_hosts(service, format)


def _service(server: str | None, config: Path | None) -> "RemoteService | None":
    """Find the service that is to be asked, if one is; only then what talks to it is loaded."""
    if server is None and config is None:
        return None
    from imagechain.cli.remote import find_service  # noqa: PLC0415

    return find_service(server, config)


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
            lines.append(f"{place}; how far behind that is cannot be told, what its tag is now is not known")
        else:
            lines.append(
                f"{place}; the tag is now {pin.present}" if pin.behind else f"{place}, where the tag is too"
            )
    return lines


def explanation_lines(answer: Explanation) -> list[str]:
    """Say in lines why a source is in the state that it is in."""
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
        lines.append(answer.would_build_none or "Nothing is built from it.")
    lines += [
        f"{other.dependency.file}:{other.dependency.line}: {other.text} It never makes this image stale."
        for other in answer.uncounted
    ]
    return lines
