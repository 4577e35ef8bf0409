"""Units of a real systemd: who runs what, restarts, rollback, health checks, and the units that are shipped.

They write units and start services, so they run only on a machine that nobody else uses: `scripts/guest`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executor.machine import Machine
from hosts.machines import HostMachine

_UNITS = Path("/etc/systemd/system")
_QUADLETS = Path("/etc/containers/systemd")
_PACKAGING = Path(__file__).parents[2] / "packaging/hosts"
_SLEEPS = ('CMD ["sleep", "1000"]',)
_EXITS = ('CMD ["sh", "-c", "exit 3"]',)
_REFUSES = ('CMD ["/missing"]',)


class Configured(Machine):
    """A podman that is configured in /etc, as for what systemd starts."""

    @property
    def environment(self) -> dict[str, str]:
        own = super().environment
        return {name: text for name, text in own.items() if not name.startswith("CONTAINERS_")}


class Booted(HostMachine):
    """A host whose podman and systemd know of each other."""

    machine_type = Configured

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        own = self.machine.folder
        containers = own / "containers.conf"
        containers.write_text(containers.read_text().replace('cgroup_manager = "cgroupfs"\n', ""))
        # A confined service does not see /tmp.
        for name in ("containers.conf", "storage.conf", "registries.conf"):
            (Path("/etc/containers") / name).write_text((own / name).read_text())
        _QUADLETS.mkdir(exist_ok=True)
        self.files: list[Path] = []

    def systemctl(self, *arguments: str) -> str:
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stderr}{_journal()}"
        return done.stdout.strip()

    def install(self, file: Path, text: str) -> None:
        """Write a unit or a quadlet."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.files.append(file)
        self.systemctl("daemon-reload")

    def quadlet(self, reference: str, container: str = "", service: str = "", *, name: str = "web") -> None:
        """Start what a file `NAME.container` says."""
        own = f"Image={reference}\nContainerName={name}\nPodmanArgs=--init --stop-timeout=2\n{container}"
        self.install(_QUADLETS / f"{name}.container", f"[Container]\n{own}\n[Service]\n{service}\n")
        self.systemctl("start", f"{name}.service")

    def generated(self, *options: str, name: str = "web") -> None:
        """Start what `podman generate systemd` makes of a container."""
        text = self.podman("generate", "systemd", "--name", *options, name)
        if "--new" in options:
            self.podman("rm", name)
        self.install(_UNITS / f"container-{name}.service", text)
        self.systemctl("start", f"container-{name}.service")

    def is_active(self, unit: str) -> bool:
        return self.systemctl("show", "--property=ActiveState", "--value", unit) == "active"

    def results(self) -> list[str]:
        return [f"{one['result']} {' '.join(one['containers'])}" for one in self.update()["outcomes"]]

    def owner(self, name: str) -> str:
        return next(str(row["owner"]) for row in self.status() if row["name"] == name)

    def clean(self) -> None:
        units = [
            file.with_suffix(".service").name if file.parent == _QUADLETS else file.name
            for file in self.files
        ]
        for unit in units:
            subprocess.run(["systemctl", "stop", unit], capture_output=True, check=False)
            subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
        for file in self.files:
            file.unlink(missing_ok=True)
        self.files.clear()
        self.systemctl("daemon-reload")
        self.forget()


def _journal() -> str:
    words = ["journalctl", "--no-pager", "--lines=20", "--identifier=imagechain", "--identifier=systemd"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    if os.environ.get("container") != "imagechain-guest":  # noqa: SIM112 - systemd's own name for it
        pytest.skip(
            "needs a machine of its own with systemd: scripts/guest FOLDER .venv/bin/pytest tests/hosts"
        )
    host = Booted(tmp_path_factory.mktemp("hosts") / "host")
    yield host
    host.remove()


@pytest.fixture
def host(booted: Booted) -> Iterator[Booted]:
    yield booted
    booted.clean()


@pytest.fixture
def needs_quadlets() -> None:
    if not Path("/usr/lib/systemd/system-generators/podman-system-generator").exists():
        pytest.skip("podman makes units of quadlets since 4.4")


def push(host: Booted, version: str, changes: tuple[str, ...] = _SLEEPS, *, name: str = "unit") -> str:
    return host.push(name, version=version, changes=changes)


def pulled(host: Booted, version: str) -> str:
    reference = push(host, version)
    host.podman("pull", "--quiet", reference)
    return reference


@pytest.mark.usefixtures("needs_quadlets")
def test_a_quadlet_is_restarted_on_the_new_image(host: Booted) -> None:
    host.quadlet(pulled(host, "1"))
    before = host.inspect("web")
    assert host.owner("web") == "unit"
    push(host, "2")
    assert host.results() == ["updated web"]
    assert (host.version("web"), host.names()) == ("2", ["web"])
    assert host.is_active("web.service")
    after = host.inspect("web")
    assert after["Id"] != before["Id"]
    assert after["Config"]["CreateCommand"] == before["Config"]["CreateCommand"]
    assert host.results() == []


@pytest.mark.usefixtures("needs_quadlets")
@pytest.mark.parametrize("restart", ["no", "always"])
@pytest.mark.parametrize("changes", [_EXITS, _REFUSES], ids=["exits", "refuses"])
def test_a_quadlet_whose_new_image_fails_runs_the_old_one_again(
    host: Booted, restart: str, changes: tuple[str, ...]
) -> None:
    host.quadlet(pulled(host, "1"), service=f"Restart={restart}\nRestartSec=100ms")
    push(host, f"2-{restart}", changes)
    assert host.results() == ["rolled-back web"]
    assert (host.version("web"), host.names()) == ("1", ["web"])
    assert host.is_active("web.service")
    assert host.results() == []
    assert {row["name"]: row["state"] for row in host.status()} == {"web": "held"}
    push(host, "3")
    assert host.results() == ["updated web"]
    assert host.version("web") == "3"


@pytest.mark.usefixtures("needs_quadlets")
def test_the_members_of_a_quadlets_pod_are_restarted_by_their_own_units(host: Booted) -> None:
    if subprocess.run(["/usr/libexec/podman/quadlet", "--version"], check=False).returncode:
        pytest.skip("this podman has no quadlets")
    reference = pulled(host, "1")
    host.install(_QUADLETS / "group.pod", "[Pod]\nPodName=group\n")
    host.quadlet(reference, "Pod=group.pod", name="one")
    host.quadlet(reference, "Pod=group.pod\nLabel=dev.imagechain.update=false", name="two")
    other = host.inspect("two")["State"]["StartedAt"]
    push(host, "2")
    assert host.results() == ["updated one"]
    assert [host.version(name) for name in ("one", "two")] == ["2", "1"]
    assert host.inspect("two")["State"]["StartedAt"] == other
    push(host, "3", _EXITS)
    assert host.results() == ["rolled-back one"]
    assert [host.version(name) for name in ("one", "two")] == ["2", "1"]


def test_a_unit_that_podman_generated_makes_its_container_anew(host: Booted) -> None:
    host.podman("create", "--name=web", "--init", "--stop-timeout=2", "--read-only", pulled(host, "1"))
    host.generated("--new")
    assert host.owner("web") == "unit"
    push(host, "2")
    assert host.results() == ["updated web"]
    assert host.version("web") == "2"
    assert host.inspect("web")["HostConfig"]["ReadonlyRootfs"]
    push(host, "3", _EXITS)
    assert host.results() == ["rolled-back web"]
    assert host.version("web") == "2"
    assert host.is_active("container-web.service")


def test_a_unit_that_keeps_its_container_goes_on_as_before_and_is_told_of(host: Booted) -> None:
    host.podman("create", "--name=web", "--init", "--stop-timeout=2", pulled(host, "1"))
    host.generated()
    before = host.inspect("web")["Id"]
    push(host, "2")
    told = host.update()
    if host.owner("web") == "unit":
        (outcome,) = told["outcomes"]
        assert (outcome["result"], "--new" in outcome["why"]) == ("rolled-back", True)
        assert host.inspect("web")["Id"] == before
    assert host.inspect("web")["State"]["Status"] == "running"
    assert len(host.names()) == 1


def test_a_label_that_names_a_unit_which_does_not_exist_or_does_not_run_it_is_not_believed(
    host: Booted,
) -> None:
    reference = pulled(host, "1")
    host.install(_UNITS / "idle.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    host.systemctl("start", "idle.service")
    for name, unit in (("free", "podman-compose@p.service"), ("foreign", "idle.service")):
        label = f"--label=PODMAN_SYSTEMD_UNIT={unit}"
        host.podman("run", "--detach", "--init", "--stop-timeout=2", f"--name={name}", label, reference)
    push(host, "2")
    assert host.results() == ["updated free"]
    assert [host.version(name) for name in ("free", "foreign")] == ["2", "1"]
    reason = next(row["reason"] for row in host.status() if row["name"] == "foreign")
    assert "idle.service, which does not run it" in reason


def test_timers_of_systemd_run_the_health_checks_of_what_is_made_anew(host: Booted) -> None:
    options = ("--health-cmd=grep -q 1 /version", "--health-interval=1s", "--health-retries=2", "--init")
    host.podman("run", "--detach", "--name=web", "--stop-timeout=2", *options, pulled(host, "1"))
    host.calls()
    push(host, "21")
    assert host.results() == ["updated web"]
    assert not [call for call in host.calls() if call.startswith("healthcheck")]
    push(host, "3")
    assert host.results() == ["rolled-back web"]
    assert host.version("web") == "21"


# --- a user without root --------------------------------------------------------------------------------

_USER, _UID = "somebody", 4711


class Somebody:
    """A user without root, whose services systemd keeps running."""

    def __init__(self) -> None:
        self.home = Path(f"/home/{_USER}")
        if not self.home.exists():
            subprocess.run(["useradd", "--create-home", f"--uid={_UID}", _USER], check=True)
            self.write(".config/containers/storage.conf", '[storage]\ndriver = "vfs"\n')
            self.write(
                ".config/containers/containers.conf",
                f'[engine]\ntmp_dir = "/run/user/{_UID}/libpod/tmp"\nlock_type = "shm"\n'
                f'[network]\nnetwork_config_dir = "{self.home}/networks"\n',
            )
        subprocess.run(["loginctl", "enable-linger", _USER], check=True)
        deadline = time.monotonic() + 60
        while not Path(f"/run/user/{_UID}/bus").exists() and time.monotonic() < deadline:
            time.sleep(0.1)

    def write(self, name: str, text: str) -> None:
        file = self.home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        subprocess.run(["chown", "--recursive", f"{_UID}:{_UID}", str(self.home)], check=True)

    def run(self, *argv: str) -> str:
        runtime = f"/run/user/{_UID}"
        variables = (f"HOME={self.home}", f"XDG_RUNTIME_DIR={runtime}")
        bus = f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus"
        prefix = ("setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--init-groups", "--")
        command = [*prefix, "env", "--chdir=/", *variables, bus, *argv]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{argv}: {done.stderr}{_journal()}"
        return done.stdout.strip()

    def create(self, name: str, reference: str) -> None:
        options = ("--network=none", "--init", "--stop-timeout=2", f"--name={name}")
        self.run("podman", "create", *options, reference)

    def version(self, name: str) -> str:
        return self.run("podman", "exec", name, "cat", "/version")


@pytest.fixture
def somebody(host: Booted) -> Iterator[Somebody]:
    user = Somebody()
    host.write_settings(f'users = ["{_USER}"]')
    yield user
    host.write_settings()
    user.run("podman", "rm", "--all", "--force", "--time=0")


def test_root_restarts_the_units_of_a_user_and_replaces_their_plain_containers(
    host: Booted, somebody: Somebody
) -> None:
    reference = push(host, "1")
    somebody.run("podman", "pull", "--quiet", reference)
    somebody.create("web", reference)
    text = somebody.run("podman", "generate", "systemd", "--new", "--name", "web")
    somebody.run("podman", "rm", "web")
    somebody.write(".config/systemd/user/container-web.service", text)
    somebody.run("systemctl", "--user", "daemon-reload")
    somebody.run("systemctl", "--user", "start", "container-web.service")
    if (
        somebody.run("systemctl", "--user", "show", "--property=ActiveState", "--value", "container-web")
        != "active"
    ):
        pytest.skip("this podman leaves its unit at once: it takes the machine's control groups for its own")
    somebody.create("plain", reference)
    somebody.run("podman", "start", "plain")
    assert {row["name"]: row["owner"] for row in host.status()} == {"plain": "command", "web": "unit"}
    push(host, "2")
    assert sorted(host.results()) == ["updated plain", "updated web"]
    assert [somebody.version(name) for name in ("plain", "web")] == ["2", "2"]
    push(host, "3", _EXITS)
    assert sorted(host.results()) == ["postponed web", "rolled-back plain"]
    assert host.results() == []
    host.update("web")
    assert [somebody.version(name) for name in ("plain", "web")] == ["2", "2"]
    assert somebody.run("systemctl", "--user", "is-active", "container-web.service") == "active"
    somebody.run("systemctl", "--user", "stop", "container-web.service")


# --- the units that are shipped -------------------------------------------------------------------------


@pytest.fixture
def shipped(host: Booted) -> Callable[[], str]:
    """Install imagechain's own units; return what starts the service and tells its log."""
    _install_program()
    settings = host.settings.read_text().replace(f"{host.folder}/state", "/var/lib/imagechain")
    host.install(Path("/etc/imagechain/imagechain.toml"), settings)
    for kind in ("service", "timer"):
        name = f"imagechain-hosts.{kind}"
        host.install(_UNITS / name, (_PACKAGING / name).read_text())

    def run() -> str:
        host.systemctl("start", "imagechain-hosts.service")
        return host.systemctl("show", "--property=Result", "--value", "imagechain-hosts.service")

    return run


def _install_program() -> None:
    program = Path("/usr/bin/imagechain")
    program.write_text(f'#!/bin/sh\nexec {Path(sys.executable).with_name("imagechain")} "$@"\n')
    program.chmod(0o755)


def test_a_users_own_confined_service_keeps_their_containers(host: Booted, somebody: Somebody) -> None:
    if host.podman("version", "--format={{.Client.Version}}").startswith("4.3."):
        pytest.skip("the API of podman 4.3 forgets default_ulimits, without which nothing starts here")
    _install_program()
    # Python may lie in root's home; this is the guest's.
    for folder in Path(sys.base_prefix).parents:
        if os.access(folder, os.W_OK):
            folder.chmod(folder.stat().st_mode | 0o111)
    settings = host.settings.read_text().replace(f"{host.folder}/state", f"{somebody.home}/state")
    somebody.write(".config/imagechain/imagechain.toml", settings)
    unit = (_PACKAGING / "user/imagechain-hosts.service").read_text()
    somebody.write(".config/systemd/user/imagechain-hosts.service", unit)
    somebody.run("systemctl", "--user", "daemon-reload")
    reference = push(host, "1")
    somebody.run("podman", "pull", "--quiet", reference)
    somebody.create("own", reference)
    somebody.run("podman", "start", "own")
    push(host, "2")
    somebody.run("systemctl", "--user", "start", "imagechain-hosts.service")
    assert somebody.version("own") == "2", _journal()


def test_the_confined_service_makes_containers_anew_that_are_not_confined(
    host: Booted, shipped: Callable[[], str]
) -> None:
    reference = pulled(host, "1")
    host.podman("run", "--detach", "--init", "--stop-timeout=2", "--name=web", "--volume=/x", reference)
    before = confinement(host, "web")
    push(host, "2")
    assert shipped() == "success", _journal()
    assert host.version("web") == "2", _journal()
    assert confinement(host, "web") == before
    assert host.inspect("web")["State"]["Status"] == "running"


@pytest.mark.usefixtures("needs_quadlets")
def test_the_confined_service_restarts_units(host: Booted, shipped: Callable[[], str]) -> None:
    host.quadlet(pulled(host, "1"))
    push(host, "2")
    assert shipped() == "success", _journal()
    assert host.version("web") == "2", _journal()
    assert host.is_active("web.service")


def test_the_timer_starts_the_service(host: Booted, shipped: Callable[[], str]) -> None:
    host.install(
        _UNITS / "imagechain-hosts.timer.d/soon.conf",
        "[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=100ms\n",
    )
    host.podman("run", "--detach", "--init", "--stop-timeout=2", "--name=web", pulled(host, "1"))
    push(host, "2")
    host.systemctl("start", "imagechain-hosts.timer")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not host.systemctl(
        "show", "--property=InactiveEnterTimestampMonotonic", "--value", "imagechain-hosts.service"
    ).strip("0"):
        time.sleep(0.2)
    assert host.version("web") == "2", _journal()


def confinement(host: Booted, name: str) -> dict[str, str]:
    """What a container's first process may do, as the kernel tells it."""
    pid = host.inspect(name)["State"]["Pid"]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines)
    kept = {
        key: told[key].strip() for key in ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp", "Seccomp_filters")
    }
    return {**kept, "oom": Path(f"/proc/{pid}/oom_score_adj").read_text()}
