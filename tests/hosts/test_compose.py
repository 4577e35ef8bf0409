"""Projects of the real podman-compose: containers come back as they were, and compose still knows them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hosts.machines import HostMachine
from hosts.test_real import changed, same
from registry.servers import free_port

Compose = Callable[..., str]


@pytest.fixture(params=["of-python", "of-debian"])
def compose(request: pytest.FixtureRequest, real: HostMachine, tmp_path: Path) -> Iterator[Compose]:
    program = Path(sys.executable).with_name("podman-compose")
    command = [sys.executable, str(program)]
    if request.param == "of-debian":
        program = Path("/usr/bin/podman-compose")
        command = [str(program)]
    if not program.exists():
        pytest.skip(f"{program} is not installed (scripts/setup --dev brings the one of Python)")
    # The project has the name of its folder.
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "secrets.env").write_text("DB_PASSWORD=hunter2\n")

    def run(*arguments: str, project: dict[str, Any] | None = None) -> str:
        if project is not None:
            (folder / "compose.yaml").write_text(yaml.safe_dump(project))
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env={**real.machine.environment, "FROM_SHELL": "taken"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield run
    shutil.rmtree(folder)


def project(real: HostMachine) -> dict[str, Any]:
    return {
        "services": {
            "db": {
                "image": pushed(real, "db", "1"),
                "init": True,
                "env_file": ["./secrets.env"],
                "volumes": ["data:/data", "/anonymous", "./:/here:ro"],
                "stop_grace_period": "2s",
            },
            "app": {
                "image": pushed(real, "app", "1"),
                "init": True,
                "depends_on": ["db"],
                "environment": ["FROM_SHELL", "A=b c"],
                "ports": [f"127.0.0.1:{free_port()}:80"],
                "read_only": True,
                "cap_drop": ["all"],
                "labels": {"org.example.x": "y"},
                "stop_grace_period": "2s",
            },
        },
        "volumes": {"data": {}},
    }


def pushed(real: HostMachine, name: str, version: str, *, command: str = "sleep 1000") -> str:
    return real.push(f"compose-{name}", version=version, changes=(f"CMD {json.dumps(command.split())}",))


def plain(real: HostMachine, name: str) -> dict[str, Any]:
    """What `inspect` tells, with other containers by their names: their ids may change."""
    text = json.dumps(same(real.inspect(name)))
    for other in real.names():
        text = text.replace(real.inspect(other)["Id"], other)
    kept: dict[str, Any] = json.loads(text)
    return kept


def outcomes(real: HostMachine) -> list[tuple[str, ...]]:
    return [(one["result"], *one["containers"]) for one in real.update()["outcomes"]]


DB, APP = "shop_db_1", "shop_app_1"


def test_a_project_comes_back_as_it_was_and_compose_still_knows_it(
    real: HostMachine, compose: Compose
) -> None:
    compose("up", "--detach", project=project(real))
    names = real.names()
    assert {DB, APP} <= set(names)
    label = real.inspect(APP)["Config"]["Labels"]["PODMAN_SYSTEMD_UNIT"]
    assert label == "podman-compose@shop.service", "compose names a unit that does not exist"
    assert {row["name"]: row["owner"] for row in real.status()} == {APP: "compose", DB: "compose"}
    before = {name: plain(real, name) for name in (DB, APP)}

    # What only app needs leaves db alone; what needs db is made anew with it.
    pushed(real, "app", "2")
    db = real.inspect(DB)["Id"]
    assert outcomes(real) == [("updated", APP)]
    assert real.inspect(DB)["Id"] == db
    pushed(real, "db", "2")
    real.calls()
    assert outcomes(real) == [("updated", DB, APP)]
    assert [real.version(name) for name in (DB, APP)] == ["2", "2"]
    assert real.names() == names
    for name in (DB, APP):
        assert changed(before[name], plain(real, name)) == {}
    assert real.inspect(APP)["Dependencies"] == [real.inspect(DB)["Id"]]

    compose("stop")
    assert real.podman("ps", "--format={{.Names}}") == ""
    compose("start")
    assert [real.version(name) for name in (DB, APP)] == ["2", "2"]
    compose("down")
    assert real.names() == []


def test_a_project_whose_new_image_fails_comes_back_as_a_whole(real: HostMachine, compose: Compose) -> None:
    compose("up", "--detach", project=project(real))
    before = {name: real.inspect(name)["Id"] for name in real.names()}
    pushed(real, "db", "3", command="false")
    assert outcomes(real) == [("rolled-back", DB, APP)]
    assert {name: real.inspect(name)["Id"] for name in real.names()} == before
    assert {real.inspect(name)["State"]["Status"] for name in (DB, APP)} == {"running"}
    compose("down")
    assert real.names() == []
