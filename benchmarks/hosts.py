"""How long a container is gone when it is updated, and what a look at 100 containers costs.

    .venv/bin/python -m benchmarks.hosts [ROUNDS]

Baselines, measured in the same run and alternating with what is measured: `podman restart` of the same
container for the downtime (a probe of its port every 4 ms), and `podman ps` with one `podman inspect` of all
for the look. Needs podman, runc, a static busybox, docker-registry, and root.
"""

import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hosts.machines import HostMachine

ROUNDS = 8
CONTAINERS, IMAGES = 100, 40
PORT = 18_490
_PROBE_SECONDS = 0.004
_SERVES = ('CMD ["sh", "-c", "while true; do echo ok | nc -l -p 80 >/dev/null; done"]',)
_OPTIONS = ("--init", "--read-only", "--volume=data:/data", f"--publish=127.0.0.1:{PORT}:80")


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="benchmark-hosts-") as folder:
        host = HostMachine(Path(folder) / "host")
        try:
            _downtime(host, rounds)
            host.forget()
            _look(host, rounds)
        finally:
            host.remove()


def _downtime(host: HostMachine, rounds: int) -> None:
    reference = host.push("web", version="0", changes=("ENTRYPOINT []", *_SERVES))
    host.podman("pull", "--quiet", reference)
    host.podman("run", "--detach", "--name=web", *_OPTIONS, reference)
    ours: list[float] = []
    bare: list[float] = []
    for number in range(1, rounds + 1):
        host.push("web", version=str(number), changes=("ENTRYPOINT []", *_SERVES))
        # Pulled before: a download is no downtime.
        ours.append(_gone(lambda: host.command("update")))
        assert host.version("web") == str(number)
        bare.append(_gone(lambda: host.podman("restart", "web")))
    ratio = statistics.median(ours) / statistics.median(bare)
    print(f"downtime: {_ms(ours)}, podman restart {_ms(bare)}: {ratio:.2f} times (at most 1.20)")


def _gone(act: Callable[[], object]) -> float:
    """Act, and tell how long nobody could connect to what is published."""
    gaps: list[float] = []
    done = threading.Event()
    answered = [time.perf_counter()]

    def probe() -> None:
        while not done.is_set():
            if _answers():
                now = time.perf_counter()
                gaps.append(now - answered[0])
                answered[0] = now
            time.sleep(_PROBE_SECONDS)

    while not _answers():
        time.sleep(_PROBE_SECONDS)
    answered[0] = time.perf_counter()
    thread = threading.Thread(target=probe)
    thread.start()
    act()
    while not _answers():
        time.sleep(_PROBE_SECONDS)
    time.sleep(0.1)
    done.set()
    thread.join()
    return max(gaps)


def _answers() -> bool:
    """Whether a process in the container answers; a port that is only forwarded does not."""
    try:
        with socket.create_connection(("127.0.0.1", PORT), timeout=0.2) as connection:
            return bool(connection.recv(2))
    except OSError:
        return False


def _look(host: HostMachine, rounds: int) -> None:
    for number in range(IMAGES):
        reference = host.push(f"app-{number}", version=str(number), changes=_SERVES)
        host.podman("pull", "--quiet", reference)
        copies = CONTAINERS * (number + 1) // IMAGES - CONTAINERS * number // IMAGES
        for copy in range(copies):
            host.podman("create", f"--name=c{number}-{copy}", reference)
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(rounds):
        host.calls()
        ours.append(_seconds(lambda: host.command("update")))
        calls = len(host.calls())
        bare.append(_seconds(lambda: _list(host)))
    print(
        f"nothing to do for {CONTAINERS} containers of {IMAGES} images: {_ms(ours)} with {calls} calls of"
        f" podman (at most 3), podman ps and inspect alone {_ms(bare)}: "
        f"{statistics.median(ours) / statistics.median(bare):.2f} times"
    )


def _list(host: HostMachine) -> None:
    host.podman("container", "inspect", *host.podman("ps", "--all", "--quiet").split())


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _ms(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"{statistics.median(ordered) * 1000:.0f} ms ({ordered[0] * 1000:.0f} to {ordered[-1] * 1000:.0f})"


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("this benchmark needs root")
    main()
