"""Reads the units that are shipped."""

import subprocess
from pathlib import Path

UNITS = Path(__file__).parents[2] / "packaging/service"


def keys_of(unit: Path, section: str) -> list[tuple[str, str]]:
    """Read the keys of a section; unlike those of other formats, a key may be there several times."""
    found, inside = [], False
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            inside = line == f"[{section}]"
        elif inside and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((key, value))
    return found


def allowed_calls(unit: Path) -> set[str]:
    """Name the system calls that a unit allows its service (systemd.exec, SystemCallFilter=)."""
    allowed: set[str] = set()
    for key, value in keys_of(unit, "Service"):
        if key == "SystemCallFilter":
            calls = {call for name in value.lstrip("~").split() for call in _calls(name)}
            allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def _calls(name: str) -> set[str]:
    """Name the calls of a group, which may hold other groups."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, check=True, text=True
    ).stdout.split("\n")[1:]
    words = [line.strip() for line in listed]
    return {call for word in words if word and not word.startswith("#") for call in _calls(word)}
