"""Printing: JSON for programs, lines and tables for people. Results go to standard output, all else to standard error."""

import sys
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from imagechain.chain import Problem

Format = Literal["table", "json"]


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table without frames; colour only on a terminal, and no line is cut when it is piped."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and not needed for JSON
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 10_000)
    console.print(table, highlight=False)


#: How states and outcomes are coloured.
STATE_STYLES = {
    "fresh": "green",
    "built": "green",
    "stale": "yellow",
    "building": "cyan",
    "blocked": "magenta",
    "failed": "bold red",
    "cycle": "bold red",
    "paused": "blue",
    "unknown": "dim",
}


def print_problems(problems: Sequence[Problem], cycles: Sequence[Sequence[str]]) -> None:
    """Tell on standard error what could not be read, and which sources wait for each other."""
    for problem in problems:
        place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        sys.stderr.write(f"{place}: {problem.message}\n")
    for cycle in cycles:
        sys.stderr.write(f"cycle: {' -> '.join([*cycle, cycle[0]])}; none of them is built because of another\n")
