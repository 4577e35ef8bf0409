"""What a job writes changes nothing that it may not change, and no secret of it stays anywhere."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from executor.emulator import Attempt, Runner, bash, response, variable
from executor.machine import Machine

_SECRET = "s3cret-0f-th3-j0b"
_LIES = {
    "CI_JOB_ID": "1",
    "CI_PROJECT_ID": "1",
    "CI_CONCURRENT_PROJECT_ID": "../../7",
    "CI_JOB_IMAGE": "docker.io/library/evil",
    "CI_JOB_SERVICES": '[{"name":"evil"}]',
    "CI_BUILDS_DIR": "/etc",
    "CI_PROJECT_DIR": "/etc",
    "JOB_RESPONSE_FILE": "/etc/passwd",
    "IMAGECHAIN_EXECUTOR_JOB": "/etc",
    "BUILD_EXIT_CODE_FILE": "/etc/exit",
    "CONTAINERS_CONF": "/dev/null",
    "TMPDIR": "/etc",
    "PATH": "/nowhere",
    "XDG_RUNTIME_DIR": "/nowhere",
    "settings": "/evil.toml",
    "WITH SPACE": "a 'b' \"c\"",
}


def test_job_variables_change_neither_identity_nor_image_nor_settings(
    machine: Machine, runner: Runner
) -> None:
    names: list[str] = []

    def look(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage == "build_script":
            names.extend(machine.podman("ps", "--format={{.Names}} {{.Labels}}").splitlines())

    lies = [variable(key, value) for key, value in _LIES.items()]
    script = bash("sleep 0.5; exit 5")
    played = runner.play(response(variables=lies), {"build_script": script}, custom=_LIES, during=look)
    assert (played.reason, played.exit_code) == ("script_failure", 5), played.log
    assert len(names) == 2
    assert all("imagechain-4711-" in line and "project:23" in line for line in names)
    assert machine.listing("ps", "--all") == []


def test_no_secret_is_in_arguments_inspections_environments_or_files(
    machine: Machine, runner: Runner
) -> None:
    found: list[str] = []

    def look(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage != "build_script":
            return
        for _ in range(100):
            if "ready" in (attempt.folder / "log-build_script").read_text():
                break
            process.poll()
            os.sched_yield()
            subprocess.run(["sleep", "0.05"], check=True)
        found.extend(_where(machine, process.pid))

    script = bash(f"echo ready; TOKEN={_SECRET}; sleep 2; echo $SECRET", variables={"SECRET": _SECRET})
    played = runner.play(
        response(
            token=_SECRET,
            variables=[
                variable("SECRET", _SECRET, public=False),
                variable("MASKED", _SECRET, masked=True),
                variable("FILE", _SECRET, file=True),
            ],
            credentials=[{"type": "registry", "url": "r.example", "username": "u", "password": _SECRET}],
        ),
        {"build_script": script},
        custom={"SECRET": _SECRET},
        during=look,
    )
    assert played.status == "success", played.log
    assert _SECRET in played.log  # the script itself has it
    assert found == []


def _where(machine: Machine, driver: int) -> list[str]:
    """Return all places on this machine that hold the secret, besides the runner's own."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) in {driver, os.getpid()}:
            continue
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if _SECRET.encode() in command:
            found.append(f"arguments of {command!r}")
        # The script's own children have what it exports; they run in the container.
        inside = (process / "ns/pid").stat().st_ino != Path("/proc/self/ns/pid").stat().st_ino
        if _SECRET.encode() in environment and not inside:
            found.append(f"environment of {command!r}")
    containers = machine.podman("ps", "--all", "--quiet").split()
    found += ["podman inspect" for container in containers if _SECRET in machine.podman("inspect", container)]
    for path in machine.folder.rglob("*"):
        mine = path.is_relative_to(machine.folder / "runner")
        if not mine and path.is_file() and not path.is_symlink() and _SECRET.encode() in path.read_bytes():
            found.append(str(path))
    return found


def test_the_executor_imports_the_standard_library_only_and_little_of_it(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "src/imagechain/executor"
    allowed = set(sys.stdlib_module_names) | {"imagechain"}
    for path in source.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in allowed, f"{path.name} imports {name}"
                if name.startswith("imagechain"):
                    assert name == "imagechain._version" or name.startswith("imagechain.executor"), name


@pytest.mark.parametrize(("stage", "modules_max"), [("run", 110), ("cleanup", 110), ("prepare", 170)])
def test_a_stage_starts_with_few_modules(stage: str, modules_max: int) -> None:
    program = (
        f"import imagechain.executor.main, imagechain.executor.{stage}, sys, json;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    modules = json.loads(done.stdout)
    assert len(modules) <= modules_max, modules
    assert not {"dataclasses", "argparse", "asyncio", "logging", "pathlib"} & set(modules)
