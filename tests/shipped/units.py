"""Reads the units that are shipped."""

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
