"""`imagechain up`: build what is stale."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from imagechain.chain import Graph, plan
from imagechain.cli.ask import Plan, print_plan
from imagechain.cli.build_arguments import BuildArguments
from imagechain.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED
from imagechain.cli.local import discover_local, find_sources
from imagechain.cli.output import (
    Format,
    print_error_lines,
    print_json,
    print_lines,
    print_problems,
    print_table,
)
from imagechain.cli.progress import progress
from imagechain.cli.settings import read_settings
from imagechain.discovery import Discovery
from imagechain.engines.folders import find_folders
from imagechain.engines.local import Options, UpResult, observe, run_up
from imagechain.images import choose_builder


def up(
    directory: Annotated[Path, Parameter(name="DIR")] = Path(),
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    jobs: Annotated[int | None, Parameter(validator=Number(gte=1, lte=256))] = None,
    only: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)] = (),
    fail_fast: Annotated[bool, Parameter(negative=())] = False,
    push: Annotated[bool, Parameter(negative=())] = False,
    build_arg: BuildArguments = (),
    format: Format = "table",
) -> int:
    """Build every stale image of a local chain, in order, in parallel.

    Args:
        directory: The top folder of the chain.
        dry_run: Only tell what would be built, and why.
        jobs: Builds at once; default: one for each processor.
        only: Build this image and what it needs, nothing else; may be given several times.
        fail_fast: Start nothing more after the first failure.
        push: Push each image to the registry of its name, if it is not there yet.
        build_arg: A build argument, NAME=VALUE; may be given several times.
        format: How the result is printed.
    """
    kinds = read_settings(directory).policy.kinds()
    folders = find_folders(directory)
    builder = asyncio.run(choose_builder())
    found: Discovery | None = None

    def discover() -> Discovery:
        nonlocal found
        found = discover_local(directory, build_arguments=build_arg)
        find_sources(Graph(found.sources, found.dependencies, kinds), only)
        return found

    options = Options(
        jobs=jobs or len(os.sched_getaffinity(0)), only=only, fail_fast=fail_fast, push=push, kinds=kinds
    )
    if dry_run:
        local = asyncio.run(observe(discover(), builder, folders, only=only, kinds=kinds))
        print_plan(Plan(plan(local.chain)), format)
        return 0
    with progress() as report:
        result = run_up(discover, builder, folders, options, report)
    if format == "json":
        print_json(result)
    else:
        _print_result(result)
    is_whole = True
    if found is not None:
        cycles = Graph(found.sources, found.dependencies, kinds).cycles
        print_problems(found.problems, cycles)
        is_whole = not (found.unreadable or cycles)
    if result.is_interrupted:
        return EXIT_INTERRUPTED
    return 0 if is_whole and not (result.failed or result.blocked) else EXIT_FAILED


def _print_result(result: UpResult) -> None:
    """Tell how each image ended, what failed with the end of its log, and the count of all."""
    rows = [
        (
            built.id,
            "built",
            f"{built.seconds:.1f} s",
            "; ".join(reason.text for reason in built.reasons)
            + ("" if built.content_changed else " (its content is the same: nothing is rebuilt for it)"),
        )
        for built in result.built
    ]
    rows += [(failed.id, "failed", "", failed.message) for failed in result.failed]
    rows += [(id, "interrupted", "", "the next run builds it") for id in result.interrupted]
    rows += [(blocked.id, "blocked", "", f"by {', '.join(blocked.by)}") for blocked in result.blocked]
    if rows:
        print_table(("IMAGE", "RESULT", "TIME", "WHY"), rows)
    for failed in result.failed:
        if failed.log is not None:
            print_error_lines([f"--- end of the log of {failed.id} ({failed.log})", *failed.log_tail, "---"])
    counts = [
        f"{len(items)} {word}"
        for items, word in (
            (result.built, "built"),
            (result.fresh, "fresh"),
            (result.failed, "failed"),
            (result.interrupted, "interrupted"),
            (result.blocked, "blocked"),
            (result.pushed, "pushed"),
        )
        if items
    ]
    nothing = not (result.built or result.failed or result.interrupted or result.blocked)
    print_lines(
        [f"Nothing to do: {', '.join(counts) or 'no image'}." if nothing else f"{', '.join(counts)}."]
    )
