"""What `up` costs, against buildah alone: `python benchmarks/up.py [noop|makespan|overhead ...]`.

noop      a chain of 200 images with nothing to do, against `buildah build --layers` over it in order
makespan  a chain of builds that take known times, against the critical-path bound for as many workers
overhead  one build after another, against bare `buildah build`, for builds of 1.5 s and for trivial ones

Every baseline is measured in the same run. Needs buildah and a static /bin/busybox; uses a store of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
BASE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin
"""
WIDTH, DEPTH = 10, 20
WORKERS = 2
#: The best of so many rounds counts: other work on the machine only ever makes them slower.
ROUNDS = 3
#: Seconds of each build of the makespan chain, and what it is built from.
TIMED = {
    "a": (4.0, "base"),
    "b": (2.0, "base"),
    "c": (3.0, "a"),
    "d": (2.0, "b"),
    "e": (3.0, "b"),
    "f": (4.0, "c"),
    "g": (3.0, "d"),
    "h": (2.0, "e"),
    "i": (2.0, "f"),
    "j": (1.0, "g"),
}
#: Runs `up` as the command does: start of Python, imports, discovery and all.
UP = """
import asyncio, sys
from pathlib import Path
from imagechain.config import Settings
from imagechain.discovery.local import discover
from imagechain.engines.folders import find_folders
from imagechain.engines.local import Options, run_up
from imagechain.images import choose_builder
from imagechain.refs import Platform
top = Path(sys.argv[1])
result = run_up(
    lambda: discover(top, Settings(), platform=Platform("linux", "amd64")),
    asyncio.run(choose_builder()), find_folders(top), Options(jobs=int(sys.argv[2])), lambda event: None,
)
if result.failed or result.blocked:
    sys.exit(f"{result.failed} {result.blocked}")
print(len(result.built))
"""


def write(top: Path, containerfiles: Mapping[str, str]) -> None:
    for name, text in {"base": BASE, **containerfiles}.items():
        (top / name).mkdir(parents=True, exist_ok=True)
        (top / name / "Containerfile").write_text(text)
    shutil.copy(BUSYBOX, top / "base" / "busybox")


def up(top: Path, jobs: int) -> tuple[float, int]:
    begun = time.perf_counter()
    built = subprocess.run([sys.executable, "-c", UP, str(top), str(jobs)], check=True, capture_output=True)
    return time.perf_counter() - begun, int(built.stdout)


def build_bare(top: Path, name: str, *flags: str, prefix: str = "localhost") -> float:
    begun = time.perf_counter()
    tag = ("--tag", f"{prefix}/{name}:latest")
    subprocess.run(["buildah", "build", *flags, *tag, str(top / name)], check=True, capture_output=True)
    return time.perf_counter() - begun


def noop(folder: Path) -> None:
    top = folder / "noop"
    chain = {
        f"l{layer:02}-{number}": f"FROM localhost/{'base' if not layer else f'l{layer - 1:02}-{number}'}\n"
        f"COPY own /own-{layer}-{number}\n"
        for layer in range(DEPTH)
        for number in range(WIDTH)
    }
    write(top, chain)
    for name in chain:
        (top / name / "own").write_text(name)
    up(top, WORKERS)
    # Its layers are cached by a first pass; only the second one is measured.
    seconds = [sum(build_bare(top, name, "--layers") for name in ("base", *chain)) for _ in range(2)][-1]
    # The names now point to the images of the baseline: imagechain takes them back, once.
    up(top, WORKERS)
    times = [up(top, WORKERS) for _ in range(5)]
    assert all(built == 0 for _, built in times)
    best = min(taken for taken, _ in times)
    print(
        f"noop: {len(chain) + 1} images: up {best:.3f} s, buildah build --layers {seconds:.2f} s: "
        f"{seconds / best:.0f} times faster (to reach: 20)"
    )


def makespan(folder: Path) -> None:
    top = folder / "makespan"
    write(
        top,
        {
            name: f"FROM localhost/{parent}\nRUN sleep {seconds}\n"
            for name, (seconds, parent) in TIMED.items()
        },
    )
    up(top, WORKERS)
    ratios = []
    for change in range(ROUNDS):
        (top / "base" / "Containerfile").write_text(f"{BASE}RUN echo {change} > /moved\n")
        known = {name: build_bare(top, name, "--timestamp=0") for name in ("base", *TIMED)}
        path = {"base": known["base"]}
        for name, (_, parent) in TIMED.items():
            path[name] = path[parent] + known[name]
        bound = max(*path.values(), known["base"] + sum(known[name] for name in TIMED) / WORKERS)
        taken, built = up(top, WORKERS)
        assert built == len(known)
        ratios.append((taken / bound, taken, bound))
    ratio, taken, bound = min(ratios)
    print(
        f"makespan: {len(known)} builds, {WORKERS} workers: {taken:.2f} s, bound {bound:.2f} s: "
        f"ratio {ratio:.3f} (to reach: 1.10)"
    )


def overhead(folder: Path) -> None:
    for label, command, count in (("builds of 1.5 s", "sleep 1.5", 8), ("trivial builds", "true", 8)):
        top = folder / f"overhead-{command.split()[0]}"
        names = [f"{command.split()[0]}-{number}" for number in range(count)]
        write(top, dict.fromkeys(names, f"FROM localhost/base\nRUN {command}\n"))
        bare, own = [], []
        for _ in range(ROUNDS):
            empty_store()
            bare.append(sum(build_bare(top, name, "--timestamp=0") for name in ("base", *names)))
            empty_store()
            taken, built = up(top, 1)
            assert built == count + 1
            own.append(taken)
        print(
            f"overhead: {count + 1} {label}, one after another: up {min(own):.2f} s, bare {min(bare):.2f} s: "
            f"ratio {min(own) / min(bare):.3f} (to reach for builds of 1 to 2 s: 1.10)"
        )


def empty_store() -> None:
    subprocess.run(["buildah", "rmi", "--all", "--force"], capture_output=True, check=False)


def main() -> None:
    benchmarks = {"noop": noop, "makespan": makespan, "overhead": overhead}
    folder = Path(tempfile.mkdtemp(prefix="imagechain-benchmark-"))
    conf = folder / "storage.conf"
    conf.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder / "graph"}"\nrunroot = "{folder / "run"}"\n'
    )
    os.environ |= {
        "CONTAINERS_STORAGE_CONF": str(conf),
        "BUILDAH_ISOLATION": "chroot",
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    try:
        for name in sys.argv[1:] or benchmarks:
            benchmarks[name](folder)
    finally:
        subprocess.run(["umount", "-l", folder / "graph" / "overlay"], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


main()
