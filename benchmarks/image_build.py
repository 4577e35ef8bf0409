"""How much longer `imagechain image build` takes than bare `buildah build` of the same file.

    scripts/benchmark image_build [rounds]

Both build the same tiny image from a base in the local store, in turns, on a machine that may do other things
too; the least of each counts. `image build` also reads git, writes labels, and names the image. What the bare
start of Python costs is printed beside it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = "import sys; from imagechain.cli.main import main; main()"
BASE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin
"""
LIMIT_SECONDS = 0.3


def seconds(argv: list[str], cwd: Path) -> float:
    """Time one command."""
    begun = time.perf_counter()
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - begun


def main(rounds: int) -> None:
    """Compare both."""
    with tempfile.TemporaryDirectory(prefix="imagechain-benchmark-") as name:
        folder = Path(name)
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        os.environ |= {
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "XDG_STATE_HOME": str(folder / "state"),
            # As installed, with its bytecode.
            "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        }
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        top = folder / "repository"
        (top / "base").mkdir(parents=True)
        shutil.copy("/bin/busybox", top / "base" / "busybox")
        (top / "base" / "Containerfile").write_text(BASE)
        (top / "Containerfile").write_text("FROM localhost/base\nCOPY data /data\nRUN echo done > /done\n")
        (top / "data").write_text("data")
        subprocess.run(["buildah", "build", "-q", "-t", "localhost/base", "base"], cwd=top, check=True)
        subprocess.run(["git", "init", "-q", "."], cwd=top, check=True)
        subprocess.run(["git", "add", "-A"], cwd=top, check=True)
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, "commit", "-q", "-m", "x"], cwd=top, check=True)
        ours = [sys.executable, "-c", PROGRAM, "image", "build", "--builder=buildah"]
        bare = ["buildah", "build", "-q", "--timestamp=0", "--layers=false", "-t", "localhost/bare", "."]
        python = [sys.executable, "-c", "pass"]
        for argv in (ours, bare):
            seconds(argv, top)
        taken = [[seconds(argv, top) for argv in (ours, bare, python)] for _ in range(rounds)]
        best_ours, best_bare, best_python = (min(column) for column in zip(*taken, strict=True))
        subprocess.run(["buildah", "rmi", "--all", "--force"], check=True, capture_output=True)
        subprocess.run(["umount", "-l", folder / "graph" / "overlay"], check=False, capture_output=True)
    more = best_ours - best_bare
    print(f"buildah build               {best_bare:6.3f} s")
    print(f"imagechain image build      {best_ours:6.3f} s  ({best_ours / best_bare:.2f} times as long)")
    print(f"more than buildah alone     {more:6.3f} s  (aim: below {LIMIT_SECONDS} s)")
    print(f"of which Python's start     {best_python:6.3f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
