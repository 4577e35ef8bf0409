"""How much the custom executor costs over podman itself.

    .venv/bin/python -m benchmarks.executor [ROUNDS]

Two baselines, measured in the same run and alternating with what is measured: bare `podman exec` of the same
script, for one stage; and a shell script that only makes a network and a container, runs four `podman exec`
and removes both, for a whole job. Needs podman, runc, a static busybox, and root.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from executor.emulator import Attempt, Runner, bash, response
from executor.machine import Machine

ROUNDS = 12
PARALLEL = 4
JOBS = 12
_STAGES = ("prepare_script", "get_sources", "build_script", "cleanup_file_variables")
_SCRIPT = bash("echo hello")

_BASELINE = """
set -eu
podman network create "$1" >/dev/null
podman run --detach --network "$1" --name "$1" --entrypoint sleep localhost/shell 999 >/dev/null
for stage in 1 2 3 4; do podman exec --interactive "$1" sh < "$2"; done
podman rm --force --time 0 "$1" >/dev/null
podman network rm "$1" >/dev/null
"""


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="benchmark-executor-") as folder:
        machine = Machine(Path(folder) / "machine")
        machine.make_image("localhost/shell")
        script = Path(folder) / "script"
        script.write_text(_SCRIPT)
        settings = Path(folder) / "executor.toml"
        settings.write_text(
            'helper_image = "localhost/shell"\nallowed_images = ["localhost/**"]\nrunner_binary = ""\n'
            f'state_dir = "{machine.folder}/state"\n'
        )
        runner = Runner(machine, settings)
        program = Path(sys.executable).parent / "imagechain-executor"
        if program.exists():
            runner.python = [str(program)]
        try:
            _stages(machine, runner, script, rounds)
            _jobs(machine, runner, script, rounds)
            _throughput(machine, runner, script)
        finally:
            machine.remove()


def _stages(machine: Machine, runner: Runner, script: Path, rounds: int) -> None:
    bare: list[float] = []
    ours: list[float] = []

    def during(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        process.wait()
        if stage == "build_script":
            name = _names(machine)
            for _ in range(rounds):
                bare.append(_seconds(lambda: _exec(machine, name, script)))
                ours.append(
                    _seconds(lambda: attempt.run("build_again", "run", [str(script), "build_script"]))
                )

    runner.play(response(), {"build_script": _SCRIPT}, during=during)
    over = (statistics.median(ours) - statistics.median(bare)) * 1000
    print(f"one stage: {_ms(ours)}, bare podman exec {_ms(bare)}: {over:.0f} ms over it (at most 60)")


def _jobs(machine: Machine, runner: Runner, script: Path, rounds: int) -> None:
    bare: list[float] = []
    ours: list[float] = []
    parts: dict[str, list[float]] = {}
    for number in range(rounds):
        bare.append(_seconds(lambda number=number: _baseline(machine, f"bare-{number}", script)))  # type: ignore[misc]
        started = time.perf_counter()
        played = runner.play(response(id=number + 1), dict.fromkeys(_STAGES, _SCRIPT))
        ours.append(time.perf_counter() - started)
        assert played.status == "success", played.log
        for stage, took in played.seconds.items():
            parts.setdefault(stage, []).append(took)
    ratio = statistics.median(ours) / statistics.median(bare)
    print(f"minimal job: {_ms(ours)}, shell script {_ms(bare)}: {ratio:.2f} times (at most 1.50)")
    for stage, seconds in parts.items():
        print(f"    {stage}: {_ms(seconds)}")


def _throughput(machine: Machine, runner: Runner, script: Path) -> None:
    def rate(run: Callable[[int], object]) -> float:
        with ThreadPoolExecutor(PARALLEL) as pool:
            started = time.perf_counter()
            list(pool.map(run, range(JOBS)))
            return JOBS / (time.perf_counter() - started)

    bare = rate(lambda number: _baseline(machine, f"many-{number}", script))
    ours = rate(lambda number: runner.play(response(id=number + 1), dict.fromkeys(_STAGES, _SCRIPT)))
    print(f"{PARALLEL} jobs at once: {ours:.2f}/s, shell script {bare:.2f}/s: {ours / bare:.2f} of it")


def _baseline(machine: Machine, name: str, script: Path) -> None:
    subprocess.run(
        ["sh", "-c", _BASELINE, "sh", name, str(script)],
        env=machine.environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _exec(machine: Machine, name: str, script: Path) -> None:
    with script.open("rb") as file:
        subprocess.run(
            ["podman", "exec", "--interactive", name, "sh"],
            env=machine.environment,
            stdin=file,
            stdout=subprocess.DEVNULL,
            check=True,
        )


def _names(machine: Machine) -> str:
    listed = machine.podman("ps", "--format={{.Names}}").split()
    return next(name for name in listed if name.endswith("-build"))


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
