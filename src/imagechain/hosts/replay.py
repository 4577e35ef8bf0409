"""How a container is made anew: its own create command, edited; pure.

`podman container clone`, `generate spec` and `generate kube` silently drop `--read-only`, `--cap-drop`,
`no-new-privileges`, the user and more, so none of them is used. What was read from the surroundings of the
person who made the container (environment files, values taken from a shell, relative folders, random ports)
is replaced by what podman recorded of it. The edits are idempotent: the next update replays this one's.
"""

import re
import shlex
from collections.abc import Mapping, Sequence

import msgspec

from imagechain.hosts.command_line import CommandLineError, Grammar, Option, parse
from imagechain.hosts.values import Container, Image, Mount

#: Replaced by what is said here, or of no use where nobody waits at a terminal.
_DROPPED = frozenset(
    {
        *("name", "replace", "detach", "attach", "sig-proxy", "detach-keys"),
        *("pull", "authfile", "tls-verify", "creds", "cert-dir", "decryption-key", "quiet"),
        *("env-file", "env-host", "label-file", "pod-id-file"),
    }
)
#: Options with a file or folder of the host, of which podman records no absolute path.
_PATHS = frozenset({"cidfile", "conmon-pidfile", "pidfile", "hooks-dir", "seccomp-profile-root"})
#: Options that may name another container, as `container:NAME`.
_NAMESPACES = frozenset({"network", "pid", "ipc", "uts", "userns", "cgroupns"})
#: Variables that podman itself would heed if they were in its environment: they go onto the command line.
_HEEDED = re.compile(
    r"(PATH|HOME|USER|LOGNAME|TMPDIR|TZ|LD_.*|XDG_.*|CONTAINERS?_.*|_CONTAINERS_.*|PODMAN_.*|STORAGE_.*"
    r"|REGISTRY_.*|SSL_.*|DOCKER_.*|DBUS_.*|NOTIFY_SOCKET|LISTEN_.*|GO[A-Z]+|BUILDAH_.*|NETAVARK_.*|LANG|LC_.*)"
)
_PROXIES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "no_proxy"})
_CONTAINER_PREFIX = "container:"
_ID = re.compile(r"[0-9a-f]{12,64}")


class NotReplayableError(Exception):
    """The container cannot be made anew faithfully; the message says why."""


class Replay(msgspec.Struct, frozen=True):
    """How a container is made anew."""

    #: Arguments of podman.
    argv: tuple[str, ...]
    #: What podman's environment must have besides the usual: values that are not to be seen in `ps`.
    environment: dict[str, str]
    #: Where podman writes the container's id; empty: nowhere.
    cid_file: str = ""


def replay(
    container: Container,
    image: Image,
    grammar: Grammar,
    *,
    names: Mapping[str, str] | None = None,
    reference: str = "",
    name: str = "",
) -> Replay:
    """Edit the command that a container was made with, so that it makes the same one again.

    Args:
        container: what is to be made anew.
        image: what it runs now.
        grammar: the options of podman.
        names: names of all containers by their ids: those that it needs may be made anew, too.
        reference: the image of the new container; by default what the old one was made from.
        name: the name of the new container; by default the old one's.

    Raises:
        NotReplayableError: that cannot be done faithfully.
    """
    command = container.command
    if not command:
        raise NotReplayableError("it was made through podman's API, which records no command")
    try:
        line = parse(command, grammar)
    except CommandLineError as error:
        raise NotReplayableError(str(error)) from error
    given = line.options
    if any(option.name == "rootfs" for option in given):
        raise NotReplayableError("it runs from a folder (--rootfs), not from an image")
    _refuse_relative_paths(given)
    kept = [_renamed(option, names or {}) for option in given if option.name not in _DROPPED]
    kept = [_with_pod_name(option, container) for option in kept]
    environment = _recorded_environment(container, image, given)
    kept = [option for option in kept if option.name != "env" or "=" in (option.value or "")]
    kept += [
        Option("env", f"{key}={value}" if _HEEDED.fullmatch(key) else key)
        for key, value in environment.items()
    ]
    kept += _recorded_labels(container, image, kept)
    kept = _with_recorded_ports(kept, container)
    kept = _with_recorded_volumes(kept, container)
    own = [Option("name", name or container.name), Option("pull", "never")]
    made = msgspec.structs.replace(
        line, options=(*own, *kept), image=reference or container.image_name or container.image
    )
    return Replay(
        made.argv(),
        {key: value for key, value in environment.items() if not _HEEDED.fullmatch(key)},
        next((option.value or "" for option in reversed(kept) if option.name == "cidfile"), ""),
    )


def without_id_file(made: Replay) -> Replay:
    """Leave the file with the container's id alone: for a copy that is made beside the container."""
    return Replay(
        tuple(word for word in made.argv if not word.startswith("--cidfile=")), made.environment, ""
    )


def redacted(command: Sequence[str], grammar: Grammar) -> str:
    """Write a command as a person wrote it, without the values of its variables: they may be secrets."""
    try:
        line = parse(command, grammar)
    except CommandLineError:
        # What takes a value is not known, so neither is what may be a secret.
        return f"{shlex.join(command[:2])} …"
    words = list(command)
    for option in line.options:
        name, equals, _ = (option.value or "").partition("=")
        if option.name == "env" and equals:
            words = [word.replace(option.value or "", f"{name}=…") for word in words]
    return shlex.join(words)


def _refuse_relative_paths(options: Sequence[Option]) -> None:
    for option in options:
        value = option.value or ""
        if option.name in _PATHS and not value.startswith("/"):
            problem = f"its command has a relative path (--{option.name}={value})"
            raise NotReplayableError(f"{problem}, and podman does not record from where it was run")
        if option.name == "security-opt" and re.match(r"seccomp=\.{0,2}[^/]*/|seccomp=[^/]+\.json", value):
            raise NotReplayableError(f"its command has a relative path (--security-opt={value})")


# --- other containers -----------------------------------------------------------------------------------


def _renamed(option: Option, names: Mapping[str, str]) -> Option:
    """Name other containers by their names: their ids change when they are made anew."""
    value = option.value or ""
    if option.name in _NAMESPACES and value.startswith(_CONTAINER_PREFIX):
        target = value.removeprefix(_CONTAINER_PREFIX)
        return Option(option.name, f"{_CONTAINER_PREFIX}{_name_of(target, names)}")
    if option.name == "requires":
        return Option(option.name, ",".join(_name_of(part, names) for part in value.split(",")))
    if option.name == "volumes-from":
        target, colon, flags = value.partition(":")
        return Option(option.name, f"{_name_of(target, names)}{colon}{flags}")
    return option


def _name_of(text: str, names: Mapping[str, str]) -> str:
    if text in names.values() or not _ID.fullmatch(text):
        return text
    found = [name for id, name in names.items() if id.startswith(text)]
    return found[0] if len(found) == 1 else text


def _with_pod_name(option: Option, container: Container) -> Option:
    """`--pod new:NAME` would make the pod again."""
    if option.name == "pod" and (option.value or "").startswith("new:"):
        return Option("pod", container.pod_name or (option.value or "").removeprefix("new:"))
    return option


# --- what was read from the surroundings ----------------------------------------------------------------


def _recorded_environment(container: Container, image: Image, options: Sequence[Option]) -> dict[str, str]:
    """Find the variables whose values the command does not tell."""
    recorded = _variables(container.config.env)
    of_image = _variables(image.config.env if image.config else None)
    given = [option.value or "" for option in options if option.name == "env"]
    explicit = {text.partition("=")[0] for text in given if "=" in text}
    taken = [text for text in given if "=" not in text]
    everything = any(option.name in {"env-file", "env-host"} for option in options)
    found = {}
    for key, value in recorded.items():
        if key in explicit or (key == "HOSTNAME" and value == container.config.hostname):
            continue
        is_taken = any(key.startswith(text[:-1]) if text.endswith("*") else key == text for text in taken)
        is_own = of_image.get(key) != value and (everything or key.lower() in _PROXIES)
        if is_taken or (is_own and key not in {"container", "HOSTNAME"}):
            found[key] = value
    return found


def _variables(env: Sequence[str] | None) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in env or ())}


def _recorded_labels(container: Container, image: Image, options: Sequence[Option]) -> list[Option]:
    """Find the labels that the command does not tell: from a file, or from podman's surroundings."""
    explicit = {(option.value or "").partition("=")[0] for option in options if option.name == "label"}
    of_image = (image.config.labels if image.config else None) or {}
    return [
        Option("label", f"{key}={value}")
        for key, value in container.labels.items()
        if key not in explicit and of_image.get(key) != value
    ]


def _with_recorded_ports(options: Sequence[Option], container: Container) -> list[Option]:
    """Keep the ports of the host that podman chose: whoever talks to the container knows them."""
    published = [option.value or "" for option in options if option.name == "publish"]
    is_random = any(option.name == "publish-all" for option in options) or any(
        not _names_host_port(value) for value in published
    )
    if not is_random:
        return list(options)
    # podman publishes "all" that is not published already.
    kept = [option for option in options if option.name != "publish"]
    for port, bindings in sorted((container.host_config.port_bindings or {}).items()):
        for binding in bindings or ():
            address = f"[{binding.host_ip}]" if ":" in binding.host_ip else binding.host_ip
            kept.append(Option("publish", f"{address}:{binding.host_port}:{port}".lstrip(":")))
    return kept


def _names_host_port(value: str) -> bool:
    host, colon, _ = value.rpartition(":")
    host_port = host.rpartition(":")[2] if host else ""
    return bool(colon) and bool(host_port) and host_port.strip("-0123456789") == "" and host_port != "0"


# --- volumes --------------------------------------------------------------------------------------------


def _with_recorded_volumes(options: Sequence[Option], container: Container) -> list[Option]:
    """Give the new container the same volumes and folders, also those that nobody gave a name."""
    mounts = {mount.destination.rstrip("/"): mount for mount in container.mounts}
    seen: set[str] = set()
    kept: list[Option] = []
    for option in options:
        if option.name == "volume":
            option = _volume(option.value or "", mounts, seen)  # noqa: PLW2901 - the edited one
        elif option.name == "mount":
            option = _mount(option.value or "", mounts, seen)  # noqa: PLW2901
        kept.append(option)
    shares_volumes = any(option.name == "volumes-from" for option in options)
    for destination, mount in mounts.items():
        # What the image declares as a volume; other containers' are mounted with --volumes-from.
        if mount.type == "volume" and _is_anonymous(mount) and destination not in seen and not shares_volumes:
            kept.append(Option("volume", f"{mount.name}:{mount.destination}"))
    return kept


def _is_anonymous(mount: Mount) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", mount.name) is not None


def _volume(value: str, mounts: Mapping[str, Mount], seen: set[str]) -> Option:
    source, _, rest = value.partition(":")
    if not rest:
        source, rest = "", value
    destination, _, _ = rest.partition(":")
    destination = destination.rstrip("/")
    seen.add(destination)
    mount = mounts.get(destination)
    if mount is None:
        if source.startswith("."):
            raise NotReplayableError(f"its command has a relative folder (--volume={value})")
        return Option("volume", value)
    if not source:
        return Option("volume", f"{mount.name}:{rest}")
    return Option("volume", f"{mount.source}:{rest}") if source.startswith(".") else Option("volume", value)


def _mount(value: str, mounts: Mapping[str, Mount], seen: set[str]) -> Option:
    parts = [part.partition("=") for part in value.split(",")]
    told = {key: text for key, _, text in parts}
    destination = next((told[key] for key in ("destination", "dst", "target") if key in told), "").rstrip("/")
    source = next((told[key] for key in ("source", "src") if key in told), "")
    seen.add(destination)
    mount = mounts.get(destination)
    kind = told.get("type", "volume")
    if kind == "volume" and not source and mount is not None:
        return Option("mount", f"{value},source={mount.name}")
    if source.startswith("."):
        if mount is None:
            raise NotReplayableError(f"its command has a relative folder (--mount={value})")
        edited = [
            f"{key}{equals}{mount.source if key in {'source', 'src'} else text}"
            for key, equals, text in parts
        ]
        return Option("mount", ",".join(edited))
    return Option("mount", value)
