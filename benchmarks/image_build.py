"""How much longer `imagechain image build` takes than bare `buildah build` of the same file.

    scripts/benchmark image_build

Both build the same tiny image from a base in the local store, in turns, on a machine that may do other things
too; the least of each counts. `image build` also reads git, writes labels, and names the image. Time of the
processors, of all programs that take part, is printed beside it, for where others use them too; so is what
the bare start of Python costs.
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


def seconds(argv: list[str], cwd: Path) -> tuple[float, float]:
    """Time one command: by the clock, and of the processors."""
    begun = time.perf_counter()
    with subprocess.Popen(argv, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, argv
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime


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
        by_clock, of_processors = (
            [min(times[kind] for times in column) for column in zip(*taken, strict=True)] for kind in (0, 1)
        )
        subprocess.run(["buildah", "rmi", "--all", "--force"], check=True, capture_output=True)
        subprocess.run(["umount", "-l", folder / "graph" / "overlay"], check=False, capture_output=True)
    print("                         by the clock     of processors")
    for name, number in (("imagechain image build", 0), ("buildah build", 1), ("Python's bare start", 2)):
        print(f"{name:24} {by_clock[number]:10.3f} s {of_processors[number]:15.3f} s")
    more = [times[0] - times[1] for times in (by_clock, of_processors)]
    print(f"more than buildah alone  {more[0]:10.3f} s {more[1]:15.3f} s  (aim: below {LIMIT_SECONDS} s)")
    longer = [times[0] / times[1] for times in (by_clock, of_processors)]
    print(f"times as long            {longer[0]:10.2f} {longer[1]:17.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
