"""The units of systemd and podman: systemd's own judgement, and the secrets that the settings speak of."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shipped.units import UNITS, keys_of

SERVICES = ["imagechain.service", "imagechain-sync.service", "imagechain-backup.service"]
TIMERS = ["imagechain-sync.timer", "imagechain-backup.timer"]
#: Of ten; a service without any protection has 9.6.
EXPOSURE_MAX = 1.5
#: The keys of podman-systemd.unit(5), table "Container units", that came with podman 4.4 to 4.6.
QUADLET_KEYS = """
    AddCapability AddDevice Annotation AutoUpdate ContainerName DropCapability Environment EnvironmentFile
    EnvironmentHost Exec ExposeHostPort Group HealthCmd HealthInterval HealthOnFailure HealthRetries
    HealthStartPeriod HealthTimeout HostName IP IP6 Image Label LogDriver Mask Mount Network NoNewPrivileges
    Notify PodmanArgs PublishPort Pull ReadOnly RunInit SeccompProfile Secret SecurityLabelDisable
    SecurityLabelFileType SecurityLabelLevel SecurityLabelNested SecurityLabelType Sysctl Timezone Tmpfs
    Unmask User UserNS Volume WorkingDir
"""
GENERATOR = Path("/usr/lib/systemd/system-generators/podman-system-generator")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with a program that is there in place of imagechain."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd), and it is what judges units")
    for name in (*SERVICES, *TIMERS):
        text = (UNITS / name).read_text().replace("ExecStart=imagechain ", "ExecStart=/bin/true ")
        (tmp_path / name).write_text(text)
    return tmp_path


def test_systemd_finds_nothing_wrong_with_the_units(installed: Path) -> None:
    files = [str(installed / name) for name in (*SERVICES, *TIMERS)]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_confined(installed: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(installed / name)],
        capture_output=True,
        text=True,
        check=True,
    )
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= EXPOSURE_MAX


@pytest.mark.parametrize("name", TIMERS)
def test_each_timer_has_its_service_and_a_time_that_comes(installed: Path, name: str) -> None:
    assert (UNITS / name).with_suffix(".service").exists()
    (when,) = [value for key, value in keys_of(UNITS / name, "Timer") if key == "OnCalendar"]
    done = subprocess.run(
        ["systemd-analyze", "calendar", when], capture_output=True, text=True, check=True
    ).stdout
    assert "Next elapse: never" not in done


def test_the_quadlet_has_only_keys_that_podman_knows() -> None:
    keys = {key for key, _ in keys_of(UNITS / "imagechain.container", "Container")}
    assert keys
    assert keys <= set(QUADLET_KEYS.split())


def test_podman_makes_a_service_of_the_quadlet(tmp_path: Path) -> None:
    if not GENERATOR.exists():
        pytest.skip("podman has no quadlets here (they came with 4.4), so only their keys are compared")
    for name in ("imagechain.container", "imagechain.volume"):
        shutil.copy(UNITS / name, tmp_path)
    done = subprocess.run(
        [GENERATOR, "--dryrun"],
        env={"QUADLET_UNIT_DIRS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "podman run" in done.stdout


def test_service_and_quadlet_give_the_same_secrets() -> None:
    loaded = {
        value.partition(":")[0]
        for key, value in keys_of(UNITS / "imagechain.service", "Service")
        if key == "LoadCredential"
    }
    mounted = {
        Path(value.partition("target=")[2]).name
        for key, value in keys_of(UNITS / "imagechain.container", "Container")
        if key == "Secret"
    }
    assert loaded == mounted == {"gitlab-token", "hook-key", "api-token"}
