"""How a running `up` looks: bars on a terminal, plain lines in a log. Goes to standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from imagechain.engines.local import (
    Began,
    Built,
    Event,
    Failed,
    Noted,
    Output,
    Planned,
    Pulling,
    Reporter,
    Waiting,
)

_LINE_CHARACTERS_MAX = 60


@contextmanager
def progress() -> Iterator[Reporter]:
    """Show events as bars while a terminal is there, else as lines."""
    if sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _print_line


def _print_line(event: Event) -> None:
    text = _sentence(event)
    if text:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _sentence(event: Event) -> str:
    """Tell an event in a line; empty for what is too small for one."""
    match event:
        case Waiting(pid=pid):
            holder = f" (pid {pid})" if pid is not None else ""
            return f"another imagechain{holder} works in this folder; waiting for it"
        case Noted(text=text):
            return text
        case Pulling(image=image):
            return f"pulling {image}"
        case Began(id=id, reasons=reasons):
            return f"building {id}: {'; '.join(reason.text for reason in reasons)}"
        case Built(id=id, seconds=seconds, content_changed=changed):
            return f"built {id} in {seconds:.1f} s{'' if changed else ', its content is the same'}"
        case Failed(id=id, message=message):
            return f"failed {id}: {message}"
        case Planned() | Output():
            return ""


@contextmanager
def _bars() -> Iterator[Reporter]:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and only terminals need it
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[line]}", markup=True),
        console=console,
        transient=True,
    )
    total = bars.add_task("all", total=None, visible=False, line="", count="")
    running: dict[str, TaskID] = {}
    planned = done = 0

    def report(event: Event) -> None:
        nonlocal planned, done
        match event:
            case Planned(projects=projects):
                planned = len(projects)
                bars.update(total, total=planned, visible=True, count=f"0/{planned}")
            case Began(id=id):
                running[id] = bars.add_task(f"[cyan]{escape(id)}", total=None, line="", count="")
            case Output(id=id, chunk=chunk):
                lines = chunk.decode(errors="replace").split("\n")
                line = next((line.strip() for line in reversed(lines) if line.strip()), "")
                if line and id in running:
                    printable = "".join(character for character in line if character.isprintable())
                    bars.update(running[id], line=escape(printable[:_LINE_CHARACTERS_MAX]))
            case Built(id=id) | Failed(id=id):
                if id in running:
                    bars.remove_task(running.pop(id))
                done += 1
                bars.update(total, completed=done, count=f"{done}/{planned}")
                style = "green" if isinstance(event, Built) else "bold red"
                console.print(f"[{style}]{escape(_sentence(event))}", highlight=False)
            case _:
                console.print(escape(_sentence(event)), highlight=False)

    with bars:
        yield report
