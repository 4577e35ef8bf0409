"""The settings, as one typed tree: a TOML file, then `IMAGECHAIN_*` variables on top.

A table is a struct here as soon as a part of the program uses it. An unknown key is an error that names the
nearest known one: a misspelt setting must never be silently without effect.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from imagechain.chain import BUILD_KINDS, DependencyKind, Policy
from imagechain.refs import ReferenceError, parse_reference

#: Name of the settings file in the top folder of a local chain.
FILE_NAME = "imagechain.toml"
#: Largest settings file that is read.
FILE_BYTES_MAX = 1024 * 1024
#: Most branches that are tracked besides the default one; GitLab refuses queries for many more.
BRANCHES_MAX = 20
#: Largest file with a token or a key that is read.
SECRET_BYTES_MAX = 64 * 1024

_VARIABLE_PREFIX = "IMAGECHAIN_"
_VARIABLE_SEPARATOR = "__"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = frozenset({"path", "name"})
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|h|d)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
#: systemd puts the credentials of a service into this folder (systemd.exec, LoadCredential=).
_CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"


class ConfigError(Exception):
    """The settings are wrong; the message says where and how to mend them."""


class Duration(float):
    """A span of time in seconds; written as a number with a unit: `"90s"`, `"5m"`, `"2h"`, `"7d"`."""


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

    def __post_init__(self) -> None:
        """Refuse a prefix or a template that can give no image reference."""
        try:
            parse_reference(f"{self.prefix}/name")
        except ReferenceError as error:
            raise ValueError(f"prefix {self.prefix!r} begins no image reference: {error}") from error
        for key, templates in self.images.items():
            for template in [templates] if isinstance(templates, str) else templates:
                _check_template(key, template)


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[policy]`: what makes a project stale, and when the service starts its build."""

    #: A moved external image must have been still this long.
    quiet: Duration = Duration(300)
    #: How often everything is read again.
    reconcile: Duration = Duration(900)
    #: How often external images are looked at.
    external: Duration = Duration(900)
    #: Waits before the first, second, ... retry of a failed build; then it is held.
    retry: tuple[Duration, ...] = (
        Duration(0),
        Duration(60),
        Duration(300),
        Duration(1_800),
        Duration(7_200),
    )
    #: A span of time, after which children go on without a failed parent; empty: never.
    hold_max: str = ""
    #: A build that lasts longer counts as failed.
    build_max: Duration = Duration(21_600)
    #: Builds at once, whoever started them.
    builds_max: int = 8
    starts_per_minute_max: int = 20
    #: Cron expressions: builds are started in every minute that one of them names, in UTC; none: always.
    windows: tuple[str, ...] = ()
    #: Images that CI jobs run in make a project stale.
    ci_images: bool = False
    #: So do included files and components of other projects.
    ci_includes: bool = False

    def __post_init__(self) -> None:
        """Refuse what no build could ever start by."""
        self.policy()
        for name, value in (
            ("reconcile", self.reconcile),
            ("external", self.external),
            ("builds_max", self.builds_max),
            ("starts_per_minute_max", self.starts_per_minute_max),
        ):
            if value <= 0:
                raise ValueError(f"{name} must be more than 0")

    def policy(self) -> Policy:
        """Give the policy of the chain."""
        return Policy(
            quiet_seconds=self.quiet,
            retry_seconds=self.retry,
            hold_max_seconds=_duration(self.hold_max) if self.hold_max else None,
            build_max_seconds=self.build_max,
            builds_max=self.builds_max,
            starts_per_minute_max=self.starts_per_minute_max,
            windows=self.windows,
        )

    def kinds(self) -> frozenset[DependencyKind]:
        """Name the kinds of dependencies that make a project stale."""
        kinds = BUILD_KINDS
        if self.ci_images:
            kinds |= {"ci-image", "ci-service"}
        if self.ci_includes:
            kinds |= {"ci-include"}
        return kinds


class GitLabSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[gitlab]`: which projects of which GitLab make up the chain."""

    url: str = ""
    #: Paths of groups; their subgroups belong to them.
    groups: tuple[str, ...] = ()
    #: Globs of project paths; if there are any, only these count.
    include: tuple[str, ...] = ()
    #: Globs of project paths that are left out.
    exclude: tuple[str, ...] = ()
    #: Branches that are tracked besides the default branch of each project.
    branches: tuple[str, ...] = ()
    #: Path of a file, or the name of a systemd credential.
    token_file: str = ""
    #: Certificates of an own authority, in PEM; by default those of the system count.
    ca_file: str = ""

    def __post_init__(self) -> None:
        """Refuse an address that no request can be made from, and more branches than fit into a query."""
        if len(self.branches) > BRANCHES_MAX:
            raise ValueError(f"branches has more than {BRANCHES_MAX} entries; name fewer")
        if self.url:
            parts = urlsplit(self.url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
                raise ValueError(f"url {self.url!r} is no address; write one like https://gitlab.example.com")
            if parts.username is not None:
                raise ValueError("url must not hold a name or a password; put the token into token_file")


class RegistrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[registry."HOST"]`: how one registry is talked to."""

    #: Logins in the format of docker and podman; by default the usual places are looked at.
    auth_file: str = ""
    #: Plain HTTP.
    insecure: bool = False
    requests_per_minute_max: int = 600

    def __post_init__(self) -> None:
        """Refuse a budget that lets nothing through."""
        if self.requests_per_minute_max < 1:
            raise ValueError("requests_per_minute_max must be at least 1")


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[server]`: the service's HTTP."""

    #: Address and port that it listens on.
    listen: str = "127.0.0.1:8080"
    #: The service as GitLab reaches it; hooks go to `<url>/hooks/gitlab`. Empty: no hooks are installed.
    url: str = ""
    #: Path of a file, or the name of a systemd credential; each project's hook secret is derived from it.
    hook_key_file: str = ""
    #: The same; the token is needed by requests that change something.
    api_token_file: str = ""

    def __post_init__(self) -> None:
        """Refuse an address that nothing can listen on, or be sent to."""
        host, colon, port = self.listen.rpartition(":")
        if not (colon and host and port.isdecimal() and int(port) < 65_536):
            raise ValueError(f"listen {self.listen!r} is no address; write one like 127.0.0.1:8080")
        parts = urlsplit(self.url)
        if self.url and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query):
            raise ValueError(f"url {self.url!r} is no address; write one like https://imagechain.example.com")


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[store]`."""

    #: `sqlite:////PATH`, or `postgresql://...`.
    url: str = "sqlite:////var/lib/imagechain/imagechain.db"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    chain: ChainSettings = ChainSettings()
    policy: PolicySettings = PolicySettings()
    gitlab: GitLabSettings = GitLabSettings()
    #: By the host of the registry, with its port if it has one.
    registry: dict[str, RegistrySettings] = {}
    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings from a file, if one is given, and from `IMAGECHAIN_*` variables.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
    """
    table = _read_file(path) if path is not None else {}
    _check_keys(table, Settings, (), str(path))
    settings = _convert(table, str(path))
    variables = {name: text for name, text in environ.items() if name.startswith(_VARIABLE_PREFIX)}
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


def secret_path(name: str, environ: Mapping[str, str]) -> Path:
    """Tell which file `token_file` and the like mean: the systemd credential of that name, or a path."""
    folder = environ.get(_CREDENTIALS_VARIABLE)
    if folder and "/" not in name and (credential := Path(folder) / name).exists():
        return credential
    return Path(name)


def read_secret(path: Path) -> str:
    """Read a token or a key from its file, without the white space around it.

    Raises:
        ConfigError: it cannot be read, or is empty. The message never holds what the file says.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
        text = data.decode("ascii").strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read the secret file {path}: {error.strerror}; name a file that this user may read, "
            "or a systemd credential (LoadCredential=)"
        ) from error
    except UnicodeDecodeError:
        # Without the cause: the error would show the secret's bytes.
        raise ConfigError(f"the secret file {path} holds more than a line of ASCII text") from None
    if not text or len(data) > SECRET_BYTES_MAX or not text.isprintable():
        raise ConfigError(f"the secret file {path} must hold one line with the secret, and nothing else")
    return text


def _check_template(key: str, template: str) -> None:
    for placeholder in _PLACEHOLDER.findall(template):
        if placeholder not in _PLACEHOLDERS:
            known = "{path} and {name}"
            raise ValueError(f"images.{key!r}: {template!r} has a placeholder other than {known}")
    try:
        reference = parse_reference(_PLACEHOLDER.sub("x", template))
    except ReferenceError as error:
        raise ValueError(f"images.{key!r}: {error}") from error
    if reference.digest is not None:
        raise ValueError(f"images.{key!r}: {template!r} has a digest, which is known only after the build")


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


def convert_custom(wanted: type, value: object) -> object:
    """Read a setting of a type that TOML does not have, for `msgspec.convert`."""
    if wanted is not Duration:
        raise NotImplementedError(f"settings of the type {wanted}")
    return _duration(value)


def _duration(value: object) -> Duration:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no span of time; write it with its unit, such as 90s, 5m, 2h")
    return Duration(float(match[1]) * _UNIT_SECONDS[match[2]])


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
