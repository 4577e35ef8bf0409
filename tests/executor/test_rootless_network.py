"""Without root but with a range of user ids and a network: services, isolation, `keep-id`.

The other rootless tests need neither; these are for a user of this machine whom `/etc/subuid` gives a range.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from executor.conftest import needs_root_and_podman, user_runner, write_settings
from executor.emulator import Runner, bash, response, variable
from executor.machine import Machine
from imagechain.executor import host_helper

_SOURCE = Path(__file__).parents[2] / "src"
_SERVICE = {
    "name": "localhost/shell",
    "alias": "db",
    "entrypoint": [""],
    "command": ["sh", "-c", "while :; do echo served | nc -l -p 4000; done"],
    "variables": [variable("HEALTHCHECK_TCP_PORT", "4000")],
}


class _MachineWithTun(Machine):
    """One that may open `/dev/net/tun`, as on machines that are set up for rootless containers."""

    def as_user(self, argv: Sequence[str]) -> list[str]:
        tun = self.folder.parent / "tun"
        bind = f'mount --bind {tun} /dev/net/tun && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", bind, "sh", *super().as_user(argv)]


def _user() -> int:
    for line in Path("/etc/subuid").read_text().splitlines() if Path("/etc/subuid").exists() else []:
        try:
            user = pwd.getpwnam(line.partition(":")[0])
        except KeyError:
            continue
        if user.pw_uid:
            return user.pw_uid
    pytest.skip("no user of this machine has a range of user ids in /etc/subuid")


@pytest.fixture(scope="module")
def rootless() -> Iterator[Machine]:
    needs_root_and_podman()
    if shutil.which("slirp4netns") is None or not Path("/dev/net/tun").exists():
        pytest.skip("networks without root need slirp4netns and /dev/net/tun")
    uid = _user()
    top = Path(tempfile.mkdtemp(prefix="imagechain-rootless-"))
    top.chmod(0o755)
    os.mknod(top / "tun", 0o020666, os.makedev(10, 200))
    (top / "tun").chmod(0o666)
    shutil.copytree(_SOURCE, top / "src", ignore=shutil.ignore_patterns("__pycache__"))
    machine = _MachineWithTun(top / "machine", uid=uid)
    try:
        machine.make_image("localhost/shell")
        machine.podman("network", "create", "trial")
        machine.podman("run", "--rm", "--network=trial", "localhost/shell", "true")
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"podman has no network without root on this machine: {error}")
    yield machine
    machine.podman("unshare", "rm", "-rf", str(machine.folder / "graph"), check=False)
    machine.remove()
    shutil.rmtree(top, ignore_errors=True)


def _runner(machine: Machine, more: str = "") -> Runner:
    return user_runner(machine, write_settings(machine.folder / "e.toml", machine, more))


_SCRIPTS = {
    "get_sources": bash("echo source > file"),
    "build_script": bash("id -u; cat file; echo mine > made"),
}


def test_a_service_is_found_by_name_without_root(rootless: Machine) -> None:
    played = _runner(rootless).play(
        response(services=[_SERVICE]), {"build_script": bash("nc db 4000 < /dev/null")}
    )
    assert played.status == "success", played.log
    assert "served\n" in played.log
    assert "warning" not in played.log
    assert rootless.listing("ps", "--all") == []


def test_the_network_of_a_job_is_kept_apart_in_podmans_own_namespace(rootless: Machine) -> None:
    rootless.podman("run", "--detach", "--name=other", "--network=trial", "localhost/shell", "sleep", "60")
    try:
        assert _runner(rootless).play(response(), _SCRIPTS).status == "success"
        rules = rootless.podman("unshare", "--rootless-netns", "iptables", "-S", "FORWARD")
    finally:
        rootless.podman("rm", "--force", "--time=0", "other")
    assert rules.count('--comment "imagechain keeps jobs apart" -j NETAVARK_ISOLATION_1') == 1, rules


def test_keep_id_gives_the_job_the_runners_own_user_and_its_helper_root(rootless: Machine) -> None:
    played = _runner(rootless, 'userns = "keep-id"\n').play(response(), _SCRIPTS)
    assert played.status == "success", played.log
    assert f"{rootless.uid}\nsource\n" in played.log


@pytest.mark.parametrize("userns", ["", "keep-id"])
def test_git_of_this_machine_is_the_helper_under_every_mapping(rootless: Machine, userns: str) -> None:
    if lacking := host_helper.missing():
        pytest.skip(f"this machine cannot be its own helper for want of {lacking}")
    runner = _runner(rootless, f'userns = "{userns}"\n')
    text = runner.settings.read_text()
    runner.settings.write_text(text.replace('helper_image = "localhost/shell"\n', ""))
    played = runner.play(response(), _SCRIPTS | {"after_script": bash("cat made")})
    assert played.status == "success", played.log
    assert "source\nmine\n" in played.log


def test_automatic_user_ids_work_or_say_that_the_range_is_too_small(rootless: Machine) -> None:
    played = _runner(rootless, 'userns = "auto"\n').play(response(), _SCRIPTS)
    too_small = "needs a larger range of user ids in /etc/subuid" in played.log
    assert too_small or played.status == "success", played.log
    assert rootless.listing("ps", "--all") == []
