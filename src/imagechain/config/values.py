"""What settings are made of: their error, and the types that TOML does not have."""

import re

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|h|d)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class ConfigError(Exception):
    """The settings are wrong; the message says where and how to mend them."""


class Duration(float):
    """A span of time in seconds; written as a number with a unit: `"90s"`, `"5m"`, `"2h"`, `"7d"`."""


def convert_custom(wanted: type, value: object) -> object:
    """Read a setting of a type that TOML does not have, for `msgspec.convert`."""
    if wanted is not Duration:
        raise NotImplementedError(f"settings of the type {wanted}")
    return read_duration(value)


def read_duration(value: object) -> Duration:
    """Read a span of time.

    Raises:
        ValueError: it is none.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no span of time; write it with its unit, such as 90s, 5m, 2h")
    return Duration(float(match[1]) * _UNIT_SECONDS[match[2]])
