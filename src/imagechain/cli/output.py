"""Printing: JSON for programs, lines and tables for people.

Results go to standard output, all else to standard error.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from imagechain.chain import Cycle, Problem

Format = Literal["table", "json"]
#: Between the columns of a table.
_GAP = "  "


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def print_error_lines(lines: Iterable[str]) -> None:
    """Print lines to standard error."""
    sys.stdout.flush()
    sys.stderr.writelines(f"{line}\n" for line in lines)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table without frames; colour only on a terminal, and no line is cut when it is piped."""
    if sys.stdout.isatty():
        _print_on_terminal(columns, rows)
        return
    table = [columns, *rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    print_lines(
        _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in table
    )


def _print_on_terminal(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and only terminals need it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    console = Console()
    with console.capture() as drawn:
        console.print(table, highlight=False)
    # Cells are padded to their column, the last one too.
    print_lines(line.rstrip() for line in drawn.get().splitlines())


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
    "ok": "green",
    "warning": "yellow",
    "error": "bold red",
    "interrupted": "yellow",
}


def print_problems(problems: Sequence[Problem], cycles: Sequence[Cycle]) -> None:
    """Tell on standard error what could not be read, and which sources are built from each other."""
    lines = [str(problem) for problem in problems]
    for cycle in cycles:
        lines.append(f"cycle: {' -> '.join([*cycle.members, cycle.members[0]])}; mend one of these lines:")
        lines += [
            f"  {edge.file}:{edge.line}: {edge.child} needs {edge.parent}" for edge in cycle.dependencies
        ]
    print_error_lines(lines)
