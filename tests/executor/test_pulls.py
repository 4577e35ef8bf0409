"""Pull policies, credentials and mirrors, against a real registry on loopback."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.conftest import write_settings
from executor.emulator import Runner, bash, response, variable
from executor.machine import Machine
from executor.registry import HTPASSWD, PASSWORD, USER, Registry, auth_config


@pytest.fixture(scope="module")
def registry(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is missing")
    registry = Registry(tmp_path_factory.mktemp("registry") / "r", htpasswd=HTPASSWD)
    machine.registries.write_text(
        f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n'
        '[[registry]]\nprefix = "mirrored.example/group"\n'
        f'location = "{registry.host}/group"\ninsecure = true\n'
    )
    for tag in ("1", "2", "moving"):
        _push(machine, registry, tag, f"version {tag}")
    yield registry
    registry.stop()


def _push(machine: Machine, registry: Registry, tag: str, text: str) -> None:
    name = f"{registry.host}/group/tools:{tag}"
    machine.make_image(name, files={"version": text})
    machine.podman("push", "--quiet", f"--creds={USER}:{PASSWORD}", name)
    machine.podman("rmi", "--force", name)


def _forget(machine: Machine, name: str) -> None:
    machine.podman("rmi", "--force", name, check=False)


_SCRIPT = {"build_script": bash("cat /version")}


@pytest.mark.parametrize("source", ["credentials", "variable", "machine"])
def test_credentials_come_from_the_job_its_variable_or_the_machine(
    machine: Machine, registry: Registry, tmp_path: Path, source: str
) -> None:
    name = f"{registry.host}/group/tools:1"
    _forget(machine, name)
    settings = write_settings(tmp_path / "e.toml", machine)
    job = response(image={"name": name})
    if source == "credentials":
        job["credentials"] = [
            {"type": "registry", "url": registry.host, "username": USER, "password": PASSWORD}
        ]
    elif source == "variable":
        job["variables"] = [variable("DOCKER_AUTH_CONFIG", auth_config(registry.host), public=False)]
    else:
        (tmp_path / "auth.json").write_text(auth_config(registry.host))
        settings = write_settings(tmp_path / "e.toml", machine, f'auth_file = "{tmp_path}/auth.json"\n')
    played = Runner(machine, settings).play(job, _SCRIPT)
    assert played.status == "success", played.log
    assert "version 1" in played.log


@pytest.mark.parametrize(
    "changes",
    [
        {"image": {"name": "HOST/group/tools:1"}},
        {"image": {"name": "HOST/group/missing:1"}, "variables": "GOOD"},
        {"image": {"name": "HOST/group/tools:missing"}, "variables": "GOOD"},
        {"image": {"name": "HOST/group/tools:1"}, "variables": "WRONG"},
        {"image": {"name": "HOST/group/tools:1"}, "variables": "NONSENSE"},
    ],
)
def test_a_denied_or_missing_image_is_a_build_failure_at_the_first_attempt(
    machine: Machine, runner: Runner, registry: Registry, changes: dict[str, object]
) -> None:
    _forget(machine, f"{registry.host}/group/tools:1")
    configs = {
        "GOOD": auth_config(registry.host),
        "WRONG": auth_config(registry.host, password="other"),
        "NONSENSE": '{"auths": 3}',
    }
    image = {"name": str(changes["image"]["name"]).replace("HOST", registry.host)}  # type: ignore[index]
    config = configs.get(str(changes.get("variables")), "")
    variables = [variable("DOCKER_AUTH_CONFIG", config)] if config else []
    played = runner.play(response(image=image, variables=variables), _SCRIPT)
    assert (played.reason, played.attempts) == ("script_failure", 1), played.log
    assert "DOCKER_AUTH_CONFIG" in played.log


def test_a_registry_that_does_not_answer_is_a_system_failure(machine: Machine, runner: Runner) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{probe.getsockname()[1]}/group/x:1"
    played = runner.play(response(image={"name": name}), {})
    assert (played.reason, played.attempts) == ("runner_system_failure", 3), played.log
    assert "connection refused" in played.log


def test_always_sees_a_tag_that_moved_and_if_not_present_does_not(
    machine: Machine, registry: Registry, tmp_path: Path
) -> None:
    name = f"{registry.host}/group/tools:moving"
    policies = 'pull_policy = ["if-not-present", "always", "never"]\n'
    runner = Runner(machine, write_settings(tmp_path / "e.toml", machine, policies))
    login = [variable("DOCKER_AUTH_CONFIG", auth_config(registry.host))]

    def seen(*asked: str) -> str:
        image = {"name": name, "pull_policy": list(asked)}
        return runner.play(response(image=image, variables=login), _SCRIPT).log

    _forget(machine, name)
    assert "is not on this machine" in seen("never")
    assert "version moving" in seen("never", "if-not-present")
    _push(machine, registry, "moving", "version moved")
    assert "version moved" in seen()  # the push above removed the local one
    _push(machine, registry, "moving", "version moved again")
    machine.podman("pull", "--quiet", f"--creds={USER}:{PASSWORD}", name)
    _push_beside(machine, registry, "version at last")
    assert "version moved again" in seen("if-not-present")
    assert "version at last" in seen("always", "if-not-present")
    assert "version at last" in seen("never")


def _push_beside(machine: Machine, registry: Registry, text: str) -> None:
    """Move the tag in the registry and not in the local store."""
    machine.make_image("localhost/beside", files={"version": text})
    target = f"docker://{registry.host}/group/tools:moving"
    machine.podman("push", "--quiet", f"--creds={USER}:{PASSWORD}", "localhost/beside", target)


def test_a_mirror_of_registries_conf_is_used(machine: Machine, registry: Registry, tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "e.toml", machine, f'auth_file = "{tmp_path}/auth.json"\n')
    settings.write_text(settings.read_text().replace("localhost/**", "mirrored.example/**", 1))
    (tmp_path / "auth.json").write_text(auth_config(registry.host))
    played = Runner(machine, settings).play(
        response(image={"name": "mirrored.example/group/tools:2"}), _SCRIPT
    )
    assert "version 2" in played.log, played.log


def test_a_helper_program_that_a_job_names_is_never_run(
    machine: Machine, runner: Runner, registry: Registry, tmp_path: Path
) -> None:
    trap = tmp_path / "docker-credential-trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    runner.environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    config = f'{{"credsStore": "trap", "credHelpers": {{"{registry.host}": "trap"}}, "auths": {{}}}}'
    name = f"{registry.host}/group/tools:1"
    _forget(machine, name)
    runner.play(response(image={"name": name}, variables=[variable("DOCKER_AUTH_CONFIG", config)]), {})
    assert not (tmp_path / "sprung").exists()


def test_a_job_gets_its_image_for_the_platform_that_it_asks_for(
    machine: Machine, runner: Runner, registry: Registry
) -> None:
    index = f"{registry.host}/group/tools:index"
    machine.podman("manifest", "create", index)
    for architecture in ("amd64", "arm64"):
        name = f"localhost/for-{architecture}"
        # Both can run here; only what their configuration says differs.
        machine.make_image(name, files={"version": f"for {architecture}"}, platform=architecture)
        machine.podman("manifest", "add", index, f"containers-storage:{name}")
    machine.podman("manifest", "push", "--all", f"--creds={USER}:{PASSWORD}", index, f"docker://{index}")
    machine.podman("rmi", "--force", index)
    login = [variable("DOCKER_AUTH_CONFIG", auth_config(registry.host))]
    for architecture in ("arm64", "amd64", "arm64"):
        image = {"name": index, "executor_opts": {"docker": {"platform": f"linux/{architecture}"}}}
        played = runner.play(response(image=image, variables=login), _SCRIPT)
        assert played.status == "success", played.log
        assert f"for {architecture}" in played.log
