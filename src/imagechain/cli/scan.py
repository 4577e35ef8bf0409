"""`imagechain scan`: discover, and print the graph."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from imagechain.chain import Dependency, Graph, Problem, Source
from imagechain.cli import render
from imagechain.cli.build_arguments import BuildArguments
from imagechain.cli.errors import EXIT_FAILED, UsageError
from imagechain.cli.local import Dialect, discover_local
from imagechain.cli.output import print_json, print_lines, print_problems


class Listing(msgspec.Struct, frozen=True):
    """The graph as `scan --format json` and the service's `/api/v1/graph` print it."""

    sources: tuple[Source, ...]
    dependencies: tuple[Dependency, ...]
    #: Each cycle's members once, in the order of its edges.
    cycles: tuple[tuple[str, ...], ...]
    problems: tuple[Problem, ...]


def scan(
    directory: Annotated[Path, Parameter(name="DIR")] = Path(),
    /,
    *,
    group: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)] = (),
    config: Path | None = None,
    format: Literal["tree", "json", "dot", "mermaid"] = "tree",
    strict: Annotated[bool, Parameter(negative=())] = False,
    platform: str | None = None,
    target: str | None = None,
    dialect: Dialect = "buildkit",
    build_arg: BuildArguments = (),
) -> int:
    """Discover the images of a folder, or of groups of GitLab, and what they are built from.

    Args:
        directory: The top folder of the chain.
        group: Path of a group of GitLab, instead of a folder; may be given several times.
        config: The settings with GitLab's address and token, and its groups if --group names none.
        format: How the graph is printed.
        strict: Leave with exit code 1 if there are problems.
        platform: What is built for; default: this machine; for groups the first of policy.platforms.
        target: The stage that is built; default: the last one of each file.
        dialect: Whose rules the files are read by.
        build_arg: A build argument, NAME=VALUE; may be given several times.
    """
    if group or config is not None:
        if directory != Path() or target is not None or build_arg:
            raise UsageError("DIR, --target and --build-arg are of a folder; leave them out with --group")
        # Only here: what talks to GitLab takes longer to load than to scan a folder.
        from imagechain.cli.group import discover_in_groups  # noqa: PLC0415

        found = discover_in_groups(group, config, platform=platform, dialect=dialect)
    else:
        found = discover_local(
            directory, platform=platform, target=target, dialect=dialect, build_arguments=build_arg
        )
    graph = Graph(found.sources, found.dependencies)
    cycles = tuple(cycle.members for cycle in graph.cycles)
    match format:
        case "json":
            listing = Listing(found.sources, found.dependencies, cycles, found.problems)
            print_json(listing)
        case "dot":
            print_lines([render.dot(found.sources, found.dependencies)])
        case "mermaid":
            print_lines([render.mermaid(found.sources, found.dependencies)])
        case "tree":
            print_lines(render.tree_lines(found.sources, found.dependencies, cycles))
    if format != "json":
        print_problems(found.problems, graph.cycles)
    return EXIT_FAILED if strict and (found.problems or graph.cycles) else 0
