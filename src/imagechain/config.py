"""The settings, as one typed tree: a TOML file, then `IMAGECHAIN_*` variables on top."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

#: Name of the settings file in the top folder of a local chain.
FILE_NAME = "imagechain.toml"
_VARIABLE_PREFIX = "IMAGECHAIN_"


class ConfigError(Exception):
    """The settings are wrong; the message says where and how to mend them."""


class ChainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[chain]`: what a local chain publishes, and how it is built."""

    #: A folder publishes `<prefix>/<folder>:latest`.
    prefix: str = "localhost"
    #: More file name patterns that are read as Containerfiles.
    files: tuple[str, ...] = ()
    #: Glob of folders or of Containerfiles -> reference template, or a list; an empty list publishes nothing.
    images: dict[str, str | list[str]] = {}
    #: Glob of folders or of Containerfiles -> build arguments.
    build_args: dict[str, dict[str, str]] = {}


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[policy]`, as far as it says what makes a project stale."""

    #: Images that CI jobs run in make a project stale.
    ci_images: bool = False
    #: So do included files and components of other projects.
    ci_includes: bool = False


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of a local chain."""

    chain: ChainSettings = ChainSettings()
    policy: PolicySettings = PolicySettings()
