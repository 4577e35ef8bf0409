"""One log file for each build, of bounded size: of a runaway log the beginning and the end are kept."""

import contextlib
import hashlib
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

HEAD_BYTES_MAX = 8 * 1024 * 1024
TAIL_BYTES_MAX = 2 * 1024 * 1024
#: Log files of one chain; the oldest go first.
LOG_FILES_MAX = 2000
#: The end of a log that is shown when its build failed.
SHOWN_LINES_MAX = 20
_SHOWN_BYTES_MAX = 16 * 1024
_NAME_CHARACTERS_MAX = 150
#: How buildah and podman begin the line that says why a build failed.
_COMPLAINT = "Error: "
_COMPLAINT_CHARACTERS_MAX = 300


def log_file(folder: Path, project: str) -> Path:
    """Name the log of a project."""
    name = quote(project, safe=":@+=, ")
    if len(name) > _NAME_CHARACTERS_MAX:
        name = f"{name[:_NAME_CHARACTERS_MAX]}-{hashlib.sha256(project.encode()).hexdigest()[:12]}"
    return folder / f"{name}.log"


def prune_logs(folder: Path) -> None:
    """Remove the oldest logs where there are too many."""
    with contextlib.suppress(OSError):
        files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)
        for file in files[: max(0, len(files) - LOG_FILES_MAX)]:
            file.unlink()


class BuildLog:
    """A log being written. A disk that is full costs the rest of the log, never the build."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._written_bytes = 0
        self._dropped_bytes = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._is_lost = False
        self._last = b""
        self.was_opened = False

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # The log of the build before stays for comparison.
            self.file.replace(self.file.with_suffix(".previous.log"))
        try:
            self._stream = self.file.open("wb", buffering=0)
        except OSError:
            self._is_lost = True
        else:
            self.was_opened = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._dropped_bytes:
            self._put(f"\n[... {self._dropped_bytes} bytes were left out here ...]\n".encode())
        for chunk in self._tail:
            self._put(chunk)
        if not self._is_lost:
            self._stream.close()

    def write(self, chunk: bytes) -> None:
        """Add output: to the file while there is room, else to the end that is kept in memory."""
        self._last = (self._last + chunk)[-_SHOWN_BYTES_MAX:]
        if self._written_bytes < HEAD_BYTES_MAX:
            self._put(chunk)
            self._written_bytes += len(chunk)
        else:
            self._tail.append(chunk)
            self._tail_bytes += len(chunk)
            while self._tail_bytes - len(self._tail[0]) >= TAIL_BYTES_MAX:
                dropped = len(self._tail.popleft())
                self._tail_bytes -= dropped
                self._dropped_bytes += dropped

    def last_lines(self) -> tuple[str, ...]:
        """Give the end of what was written, also where no file could be."""
        return tuple(self._last.decode(errors="replace").splitlines()[-SHOWN_LINES_MAX:])

    def complaint(self) -> str:
        """Give what the builder said last of its failure; empty if it said nothing."""
        told = (line.removeprefix(_COMPLAINT) for line in self.last_lines() if line.startswith(_COMPLAINT))
        return next(iter(reversed(list(told))), "")[:_COMPLAINT_CHARACTERS_MAX]

    def _put(self, chunk: bytes) -> None:
        if not self._is_lost:
            try:
                self._stream.write(chunk)
            except OSError:
                self._is_lost = True
                self._stream.close()
