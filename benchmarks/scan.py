"""How fast a tree is discovered, against reading its files bare and against a naive scan for FROM lines.

Run: `python benchmarks/scan.py [FILES]`. All figures are of one run on one tree, on one core; the ratios are
what to compare, the files a second say whether the aim (2,000) is met on this machine.
"""

import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from imagechain.config import Settings
from imagechain.discovery.local import discover
from imagechain.refs import Platform

SEED = 20_260_101
ROUNDS = 5
FILES_PER_SECOND_MIN = 2_000

_FROM = re.compile(rb"^FROM\s+(\S+)", re.MULTILINE | re.IGNORECASE)
_SHAPES = (
    """\
FROM {base}
RUN apt-get update \\
 && apt-get install -y curl git \\
 && rm -rf /var/lib/apt/lists/*
COPY . /srv
WORKDIR /srv
ENV LANG=C.UTF-8 \\
    MODE=production
CMD ["./run"]
""",
    """\
# syntax=docker/dockerfile:1
ARG REGISTRY=localhost
ARG TAG=latest
FROM {base} AS build
RUN --mount=type=cache,target=/root/.cache make -j4 all
RUN make check
FROM ${{REGISTRY}}/{parent}:${{TAG}}
COPY --from=build /src/out /usr/local/bin/
COPY --from=docker.io/library/busybox:1 /bin/busybox /bin/
USER 1000
ENTRYPOINT ["/usr/local/bin/app"]
""",
    """\
FROM {base}
RUN <<EOF
set -e
FROM not an instruction
echo done
EOF
LABEL a=b c="d e"
EXPOSE 80 443/tcp
HEALTHCHECK --interval=30s CMD curl -f http://localhost/ || exit 1
VOLUME ["/data"]
""",
)


def make_tree(top: Path, files: int) -> None:
    """Write a tree of Containerfiles, each on one that was written before, with other files around them."""
    chance = random.Random(SEED)
    (top / ".gitignore").write_text("node_modules/\n*.log\n/build\n!keep.log\n**/tmp/\n")
    folders: list[str] = []
    for number in range(files):
        folder = f"group{number % 40:02}/team{number % 7}/image{number:05}"
        path = top / folder
        path.mkdir(parents=True)
        parent = chance.choice(folders) if folders else "debian"
        base = (
            f"localhost/{parent}:latest"
            if folders and chance.random() < 0.9
            else "docker.io/library/debian:12"
        )
        (path / "Dockerfile").write_text(chance.choice(_SHAPES).format(base=base, parent=parent))
        for name in ("README.md", "run", "config.yaml"):
            (path / name).write_text("x\n")
        folders.append(folder)


def read_bare(top: Path) -> int:
    """Walk and read, and do nothing with what is read."""
    count = 0
    for folder, _, names in os.walk(top):
        for name in names:
            if name == "Dockerfile":
                count += bool(Path(folder, name).read_bytes())
    return count


def scan_naively(top: Path) -> int:
    """Find FROM lines by a regular expression, as simple tools do: wrong for stages and heredocs."""
    count = 0
    for folder, _, names in os.walk(top):
        for name in names:
            if name == "Dockerfile":
                count += len(_FROM.findall(Path(folder, name).read_bytes()))
    return count


def discover_tree(top: Path) -> int:
    found = discover(top, Settings(), platform=Platform("linux", "amd64"))
    assert not found.problems, found.problems[:3]
    return len(found.projects)


def best_seconds(work: Callable[[Path], int], top: Path) -> float:
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work(top)
        seconds.append(time.process_time() - started)
    return min(seconds)


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        make_tree(top, files)
        assert read_bare(top) == discover_tree(top) == files
        bare = best_seconds(read_bare, top)
        naive = best_seconds(scan_naively, top)
        found = best_seconds(discover_tree, top)
    print(f"{files} files, best of {ROUNDS} rounds, processor time")
    for name, seconds in (("walk and read only", bare), ("naive scan for FROM", naive), ("discover", found)):
        ratio = seconds / bare
        print(f"{name:20} {seconds:7.3f} s {files / seconds:8.0f} files/s {ratio:6.1f} x the bare reading")
    met = "met" if files / found >= FILES_PER_SECOND_MIN else "MISSED"
    print(f"aim of {FILES_PER_SECOND_MIN} files/s: {met}")


if __name__ == "__main__":
    main()
