"""The units and the settings that are shipped for hosts: systemd's own judgement, and our own reader's."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from imagechain.config import HostHooks, HostNotify, HostSettings, load_settings

_FOLDER = Path(__file__).parents[2] / "packaging/hosts"
#: Of ten; a service without any protection has 9.6.
_EXPOSURE_MAX = 2.0


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with a program that is there in place of imagechain."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd), and it is what judges units")
    for file in (*_FOLDER.glob("*.service"), *_FOLDER.glob("*.timer")):
        (tmp_path / file.name).write_text(file.read_text().replace("/usr/bin/imagechain", "/bin/true"))
    (tmp_path / "podman.socket").write_text("[Socket]\nListenStream=%t/podman/podman.sock\n")
    (tmp_path / "podman.service").write_text("[Service]\nExecStart=/bin/true\n")
    return tmp_path


def test_systemd_finds_nothing_wrong_with_the_units(installed: Path) -> None:
    files = [str(installed / f"imagechain-hosts.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "imagechain" in line] == []


def test_the_service_is_confined(installed: Path) -> None:
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=yes", "--no-pager"),
            str(installed / "imagechain-hosts.service"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= _EXPOSURE_MAX


def test_no_unit_hands_its_own_priority_on_to_containers() -> None:
    for file in _FOLDER.rglob("*.service"):
        keys = {line.partition("=")[0] for line in file.read_text().splitlines()}
        assert "Environment" in keys, "podman's own service is to make containers"
        assert not keys & {"Nice", "IOSchedulingClass", "CPUSchedulingPolicy", "OOMScoreAdjust"}


def test_the_time_of_the_timer_comes(installed: Path) -> None:
    text = (installed / "imagechain-hosts.timer").read_text()
    (when,) = re.findall(r"^OnCalendar=(.*)$", text, re.MULTILINE)
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=2", when], capture_output=True, text=True, check=True
    ).stdout
    assert "Next elapse: never" not in done
    assert "Persistent=true" in text


def test_the_settings_that_are_shipped_are_the_defaults() -> None:
    shipped = load_settings(_FOLDER / "imagechain.toml", {}).hosts
    default = load_settings(None, {"IMAGECHAIN_HOSTS__USERS": '["root"]'}).hosts
    assert shipped == default


def test_the_page_for_hosts_tells_of_every_setting() -> None:
    page = (_FOLDER.parents[1] / "docs/hosts.md").read_text()
    names = [*HostSettings.__struct_fields__, *HostHooks.__struct_fields__, *HostNotify.__struct_fields__]
    assert [name for name in names if f"`{name}`" not in page and f".{name}`" not in page] == [
        "hooks",
        "notify",
    ]
