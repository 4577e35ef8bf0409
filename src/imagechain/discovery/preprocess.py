"""`.in` files: what the C preprocessor makes of them, run as buildah runs it.

Source of the rules: buildah's `imagebuildah/build.go`: `cpp -E -iquote <context> -traditional -undef -`, with
the content on its standard input; a `cpp` that fails but gives output only warns. One departure: a missing
`#include` is an error, because what follows it is then missing too. The system's `cpp` is used, as buildah
does: preprocessors written in Python take `//` in an address for a comment.

What is in the folder `blocks` here can be included everywhere; a file of the same name in the tree wins.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import msgspec

from imagechain.chain.values import Problem
from imagechain.discovery.names import join

#: Longest run of the preprocessor.
SECONDS_MAX = 10.0
#: Largest output: files may include each other without end.
OUTPUT_BYTES_MAX = 4 * 1024 * 1024
#: As much is kept of what it complains of.
COMPLAINT_BYTES_MAX = 16 * 1024

#: Folder of the context for blocks of its own.
INCLUDES_FOLDER = "includes"
#: The blocks that come with imagechain.
_BLOCKS = Path(__file__).parent / "blocks"
_MARKER = re.compile(rb'# (?P<line>[0-9]+) "(?P<file>(?:[^"\\]|\\.)*)"')
_COMPLAINT = re.compile(
    r"(?P<file>[^:\n]+):(?P<line>[0-9]+):(?:[0-9]+:)? (?P<kind>fatal error|error): (?P<text>.*)"
)
_HINT = "look for blocks that include each other"
_STANDARD_INPUT = "<stdin>"


class Preprocessed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a `.in` file."""

    text: bytes = b""
    #: For each line of the text the file and the line that it comes from.
    origins: tuple[tuple[str, int], ...] = ()
    warnings: tuple[Problem, ...] = ()
    #: Why there is no text, or not all of it.
    refused: Problem | None = None

    def origin(self, line: int) -> tuple[str, int]:
        """Tell the file and the line that a line of the text comes from."""
        return self.origins[min(line, len(self.origins)) - 1]

    def files(self, file: str) -> tuple[str, ...]:
        """List `file`, which was preprocessed, and the files of the tree that it includes."""
        included = {origin for origin, _ in self.origins if not origin.startswith(("/", "<", ".."))}
        return file, *sorted(included - {file})


def preprocess(root: str, file: str, context: str) -> Preprocessed:
    """Run the C preprocessor over a file of the tree, and wait for it.

    `file` and `context` are relative to `root`. `#include "block"` is looked for in the context, then in the
    file's own folder, then in the folder `includes` of the context; last among the blocks of imagechain.
    """
    folder = os.path.relpath(f"{root}/{file.rpartition('/')[0]}", f"{root}/{context}")
    # Paths are given relative to the context, so that the text is the same wherever the tree stands.
    folders = (".", folder, INCLUDES_FOLDER, str(_BLOCKS))
    options = [option for place in folders for option in ("-iquote", place)]
    command = ["cpp", "-E", *options, "-traditional", "-undef", "-"]
    try:
        output, complaints, in_time = _run(command, f"{root}/{file}", f"{root}/{context}")
    except FileNotFoundError:
        message = "needs the C preprocessor `cpp`, which is not installed: install the package cpp"
        return Preprocessed(refused=Problem(file=file, line=None, message=message))
    except OSError as error:
        message = f"cannot be preprocessed: {error.strerror}"
        return Preprocessed(refused=Problem(file=file, line=None, message=message))
    text, origins = _without_markers(output, file, context)
    warnings, fatal = _read_complaints(complaints, file, context)
    refused = fatal
    if not in_time:
        message = f"the C preprocessor took longer than {SECONDS_MAX:.0f} s; {_HINT}"
        refused = Problem(file=file, line=None, message=message)
    elif len(output) > OUTPUT_BYTES_MAX:
        message = f"the C preprocessor gives more than {OUTPUT_BYTES_MAX} bytes; {_HINT}"
        refused = Problem(file=file, line=None, message=message)
    elif not output and refused is None:
        message = f"the C preprocessor gives nothing: {complaints.strip() or 'the file is empty'}"
        refused = Problem(file=file, line=None, message=message)
    return Preprocessed(text=text, origins=origins, warnings=warnings, refused=refused)


def _run(command: list[str], file: str, cwd: str) -> tuple[bytes, str, bool]:
    """Run it with the file as its input; gives output, complaints, and whether it ended in time."""
    timed_out = threading.Event()
    environ = {**os.environ, "LC_ALL": "C"}
    with Path(file).open("rb") as source, tempfile.TemporaryFile() as complaints:
        # A session of its own: `cpp` is a driver, and the program that it starts must be stopped with it.
        with subprocess.Popen(
            command,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=cwd,
            env=environ,
            start_new_session=True,
        ) as process:

            def stop() -> None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

            def time_out() -> None:
                timed_out.set()
                stop()

            timer = threading.Timer(SECONDS_MAX, time_out)
            timer.start()
            try:
                output = process.stdout.read(OUTPUT_BYTES_MAX + 1) if process.stdout else b""
                if len(output) > OUTPUT_BYTES_MAX:
                    stop()
                process.wait()
            finally:
                timer.cancel()
                stop()
        complaints.seek(0)
        return output, complaints.read(COMPLAINT_BYTES_MAX).decode(errors="replace"), not timed_out.is_set()


def _without_markers(output: bytes, file: str, context: str) -> tuple[bytes, tuple[tuple[str, int], ...]]:
    """Take out the lines that tell where the others come from; return that for each of the others.

    They differ from one version of the preprocessor, and from one place of imagechain, to the next.
    """
    lines: list[bytes] = []
    origins: list[tuple[str, int]] = []
    here, line = file, 1
    for text in output.split(b"\n"):
        marker = _MARKER.match(text)
        if marker is not None:
            here, line = _path(os.fsdecode(marker["file"]), file, context), int(marker["line"])
        else:
            lines.append(text)
            origins.append((here, line))
            line += 1
    return b"\n".join(lines), tuple(origins)


def _path(written: str, file: str, context: str) -> str:
    """Make a path of the preprocessor, relative to the context, relative to the top."""
    if written == _STANDARD_INPUT:
        return file
    if written.startswith(f"{_BLOCKS}/"):
        return f"<imagechain>/{written.removeprefix(f'{_BLOCKS}/')}"
    return written if written.startswith(("/", "<")) else os.path.normpath(join(context, written))


def _read_complaints(text: str, file: str, context: str) -> tuple[tuple[Problem, ...], Problem | None]:
    warnings: list[Problem] = []
    fatal: Problem | None = None
    for match in _COMPLAINT.finditer(text):
        is_fatal = match["kind"] == "fatal error"
        # With -traditional, cpp has read the line after an `#include` when it finds that the file is missing.
        line = max(1, int(match["line"]) - is_fatal)
        message = f"the C preprocessor says: {match['text']}"
        problem = Problem(file=_path(match["file"], file, context), line=line, message=message)
        if not is_fatal:
            warnings.append(problem)
        elif fatal is None:
            fatal = problem
    return tuple(warnings), fatal
