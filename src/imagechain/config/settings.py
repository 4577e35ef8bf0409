"""The tree of all settings, and how it is read.

A table is a struct here as soon as a part of the program uses it. An unknown key is an error that names the
nearest known one: a misspelt setting must never be silently without effect.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from imagechain.config.bots import BotSettings
from imagechain.config.chain import ChainSettings
from imagechain.config.hosts import HostSettings
from imagechain.config.image import ImageSettings
from imagechain.config.mirror import MirrorSettings
from imagechain.config.pipeline import PipelineSettings
from imagechain.config.policy import PolicySettings
from imagechain.config.registry import RegistrySettings
from imagechain.config.secrets import secret_path
from imagechain.config.service import GitLabSettings, ServerSettings, StoreSettings
from imagechain.config.told import TOLD_VARIABLES
from imagechain.config.values import ConfigError, Duration, convert_custom
from imagechain.config.vetting import VettingSettings

#: Name of the settings file in the top folder of a local chain.
FILE_NAME = "imagechain.toml"
#: Largest settings file that is read.
FILE_BYTES_MAX = 1024 * 1024

#: Settings that name files, by their table; the tables of registries have `auth_file`.
_FILE_KEYS: Mapping[str, tuple[str, ...]] = {
    "gitlab": ("token_file", "ca_file"),
    "server": ("hook_key_file", "api_token_file"),
    "hosts": ("report_token_file",),
}

_VARIABLE_PREFIX = "IMAGECHAIN_"
_VARIABLE_SEPARATOR = "__"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    chain: ChainSettings = ChainSettings()
    mirror: tuple[MirrorSettings, ...] = ()
    pipeline: PipelineSettings = PipelineSettings()
    image: ImageSettings = ImageSettings()
    policy: PolicySettings = PolicySettings()
    gitlab: GitLabSettings = GitLabSettings()
    hosts: HostSettings = HostSettings()
    #: By the host of the registry, with its port if it has one.
    registry: dict[str, RegistrySettings] = {}
    bots: BotSettings = BotSettings()
    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    vet: VettingSettings = VettingSettings()
    #: Where parts that run on a machine keep their state; empty: the usual place (`state_folder`).
    state_dir: str = ""


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings from a file, if one is given, and from `IMAGECHAIN_*` variables.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
    """
    table = _read_file(path) if path is not None else {}
    _check_keys(table, Settings, (), str(path))
    _place_files(table, path.parent if path is not None else Path(), environ)
    settings = _convert(table, str(path))
    variables = {name: text for name, text in environ.items() if _is_setting(name)}
    if not variables:
        return settings
    known = dict(_variables(Settings, ()))
    for name, text in sorted(variables.items()):
        if name not in known:
            raise ConfigError(f"the environment variable {name} is no setting{_nearest(name, known)}")
        field_path, field_type = known[name]
        inner = table
        for key in field_path[:-1]:
            inner = inner.setdefault(key, {})
        inner[field_path[-1]] = _variable_value(name, text, field_type)
        settings = _convert(table, f"the environment variable {name}")
    return settings


def _is_setting(variable: str) -> bool:
    return variable.startswith(_VARIABLE_PREFIX) and variable not in TOLD_VARIABLES


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"the settings file {path} is larger than {FILE_BYTES_MAX} bytes")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not a UTF-8 text") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _place_files(table: dict[str, Any], folder: Path, environ: Mapping[str, str]) -> None:
    """Take relative names of files as lying beside the settings, unless systemd has such a credential."""
    places = [(table.get(name), keys) for name, keys in _FILE_KEYS.items()]
    registries = table.get("registry")
    if isinstance(registries, dict):
        places += [(one, ("auth_file",)) for one in registries.values()]
    for settings, keys in places:
        if isinstance(settings, dict):
            for key in keys:
                name = settings.get(key)
                if isinstance(name, str) and name and not secret_path(name, environ).is_absolute():
                    settings[key] = str(folder / name)


def _struct_type(annotation: object) -> type[msgspec.Struct] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct) else None


def _table_type(annotation: object) -> type[msgspec.Struct] | None:
    """Give the type of the tables in a table that has a name for each (`[registry."HOST"]`)."""
    return _struct_type(get_args(annotation)[1]) if get_origin(annotation) is dict else None


def _check_keys(
    table: Mapping[str, Any], struct: type[msgspec.Struct], path: tuple[str, ...], where: str
) -> None:
    """Refuse unknown keys, before msgspec does so without naming the nearest."""
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in table.items():
        if key not in fields:
            setting = ".".join((*path, key))
            raise ConfigError(f"{where}: unknown setting {setting!r}{_nearest(key, fields)}")
        inner = _struct_type(fields[key])
        if inner is not None and isinstance(value, dict):
            _check_keys(value, inner, (*path, key), where)
        inner = _table_type(fields[key])
        if inner is not None and isinstance(value, dict):
            for name, table_of_name in value.items():
                if isinstance(table_of_name, dict):
                    _check_keys(table_of_name, inner, (*path, key, name), where)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else f"; known are {', '.join(sorted(known))}"


def _convert(table: Mapping[str, Any], where: str) -> Settings:
    try:
        return msgspec.convert(table, Settings, dec_hook=convert_custom)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        setting = path.removesuffix("`").removeprefix(".")
        raise ConfigError(f"{where}: {setting + ': ' if setting else ''}{message}") from error


def _variables(
    struct: type[msgspec.Struct], path: tuple[str, ...]
) -> Iterator[tuple[str, tuple[tuple[str, ...], object]]]:
    """List the variables that exist, each with the path of its setting and its type."""
    for field in msgspec.structs.fields(struct):
        field_path = (*path, field.name)
        inner = _struct_type(field.type)
        if inner is not None:
            yield from _variables(inner, field_path)
        else:
            yield _VARIABLE_PREFIX + _VARIABLE_SEPARATOR.join(field_path).upper(), (field_path, field.type)


def _variable_value(name: str, text: str, field_type: object) -> object:
    """Read a variable: a text as it is, anything else as TOML writes it (`true`, `["a"]`, `{key = "b"}`)."""
    if field_type in {str, Duration}:
        return text
    where = f'the environment variable {name} must be one TOML value, such as true or ["a"]'
    try:
        table = tomllib.loads(f"value = {text}\n")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if len(table) > 1:
        raise ConfigError(where)
    return table["value"]
