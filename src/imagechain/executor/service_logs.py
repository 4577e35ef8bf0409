"""What services say: the end of it where one fails, and all of it for a job with `CI_DEBUG_SERVICES`."""

from collections.abc import Sequence

from imagechain.executor.log import say
from imagechain.executor.shell import last_lines

_LINES_MAX = 100
_NEW_LINES_MAX = 10_000
_END_BYTES_MAX = 256 * 1024
_NEW_BYTES_MAX = 1024 * 1024


def read_end(folder: str, number: int) -> str:
    """Return the end of a service's log."""
    with open(f"{folder}/service-{number}.log", "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _END_BYTES_MAX))
        return last_lines(file.read().decode(errors="replace"), _LINES_MAX)


def show_new(folder: str, names: Sequence[str]) -> None:
    """Tell what the services have said since this was last done, in the order of their numbers."""
    for number, name in enumerate(names):
        with (
            open(f"{folder}/service-{number}.log", "rb") as file,
            open(f"{folder}/seen-{number}", "a+") as seen,
        ):
            seen.seek(0)
            file.seek(int(seen.read() or 0))
            text = file.read(_NEW_BYTES_MAX).decode(errors="replace")
            seen.truncate(0)
            seen.write(str(file.tell()))
        for line in last_lines(text, _NEW_LINES_MAX).splitlines():
            say(f"[service {name}] {line}")
