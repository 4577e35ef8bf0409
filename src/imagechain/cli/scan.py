"""`imagechain scan`: discover, and print the graph."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from imagechain.chain import Dependency, Graph, Problem, Source
from imagechain.cli import render
from imagechain.cli.errors import EXIT_FAILED
from imagechain.cli.local import BuildArguments, discover_local
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
    format: Literal["tree", "json", "dot", "mermaid"] = "tree",
    strict: Annotated[bool, Parameter(negative=())] = False,
    platform: str | None = None,
    target: str | None = None,
    dialect: Literal["buildkit", "buildah"] = "buildkit",
    build_arg: BuildArguments = (),
) -> int:
    """Discover the images of a folder and what they are built from.

    Args:
        directory: The top folder of the chain.
        format: How the graph is printed.
        strict: Leave with exit code 1 if there are problems.
        platform: The platform that is built for, such as linux/arm64; default: this machine's.
        target: The stage that is built; default: the last one of each file.
        dialect: Whose rules the files are read by.
        build_arg: A build argument, NAME=VALUE; may be given several times.
    """
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
