"""What differs between two answers of `podman inspect`, but for what must differ; pure.

Ids are replaced by names first, so that paths, host names and aliases made of them compare equal. What the
old container had from its image may differ where the images differ; everything else must be the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from imagechain.hosts.values import Container, Image

#: Texts of a difference that are told.
_TEXT_CHARACTERS_MAX = 120
_SHORT_ID_CHARACTERS = 12

#: What belongs to one run of one container, or is the image itself.
_OWN = frozenset(
    {
        *("Created", "State", "Image", "ImageDigest", "ImageName", "GraphDriver", "ExecIDs", "RestartCount"),
        *("Config.CreateCommand", "Config.Image", "Config.Annotations.io.kubernetes.cri-o.Created"),
        *("lockNumber", "LocalVolumes"),
    }
)
#: Last parts of what the network gives anew.
_OF_NETWORK = frozenset(
    {"MacAddress", "IPAddress", "GlobalIPv6Address", "SandboxKey", "SandboxID", "EndpointID", "Gateway"}
)
#: What podman fills in when a container is started for the first time.
_OF_START = frozenset(
    {
        "NetworkSettings",
        *("ResolvConfPath", "HostnamePath", "HostsPath", "OCIConfigPath"),
        *("Config.Annotations", "HostConfig.Annotations"),
        *("EffectiveCaps", "BoundingCaps", "ProcessLabel", "MountLabel"),
    }
)
#: Since podman 5 both objects have them.
_STOP_ANNOTATIONS = frozenset(
    {
        f"{config}.Annotations.{name}"
        for config in ("Config", "HostConfig")
        for name in ("org.opencontainers.image.stopSignal", "org.systemd.property.KillSignal")
    }
)
_VARIABLES_OF_START = frozenset({"Config.Env[HOME]", "Config.Env[HOSTNAME]"})
#: Part of an image's config -> parts of a container that follow from it.
_OF_IMAGE: Mapping[str, frozenset[str]] = {
    "Cmd": frozenset({"Config.Cmd", "Path", "Args"}),
    "Entrypoint": frozenset({"Config.Entrypoint", "Path", "Args"}),
    "WorkingDir": frozenset({"Config.WorkingDir"}),
    "User": frozenset({"Config.User", "EffectiveCaps", "BoundingCaps"}),
    "StopSignal": frozenset({"Config.StopSignal", *_STOP_ANNOTATIONS}),
    "Healthcheck": frozenset({"Config.Healthcheck"}),
    "Volumes": frozenset({"Mounts", "HostConfig.Binds", "Config.Volumes"}),
    "ExposedPorts": frozenset({"Config.ExposedPorts", "NetworkSettings.Ports", "HostConfig.PortBindings"}),
}
#: Lists in which podman keeps no order.
_UNORDERED = frozenset(
    {
        *("Config.Env", "HostConfig.Binds", "EffectiveCaps", "BoundingCaps", "Mounts", "Dependencies"),
        *("HostConfig.CapAdd", "HostConfig.CapDrop"),
    }
)


def differences(
    old: Container,
    new: Container,
    old_image: Image,
    new_image: Image,
    *,
    names: Mapping[str, str] | None = None,
    is_started: bool = True,
) -> list[str]:
    """List what differs between two containers though it must not, as `path: old -> new`.

    Args:
        old: the container that was.
        new: the container that takes its place.
        old_image: what the old one runs.
        new_image: what the new one runs.
        names: names of other containers by their ids, of old and new ones.
        is_started: whether the new one was started; before that, less is compared.
    """
    allowed = _OWN | _changed_by_image(old_image, new_image) | (frozenset() if is_started else _OF_START)
    before = dict(_flat(_document(old, names or {}), ""))
    after = dict(_flat(_document(new, names or {}), ""))
    ours = _from_image(old_image), _from_image(new_image)
    found = []
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was == now or _is_allowed(path, allowed) or (_is_empty(was) and _is_empty(now)):
            continue
        key = path.partition("[")[0]
        if key in {"Config.Env", "Config.Labels"} and _is_of_image(
            path, was, now, *ours, is_started=is_started
        ):
            continue
        found.append(f"{path}: {_told(path, was)} -> {_told(path, now)}")
    return found


def _document(container: Container, names: Mapping[str, str]) -> Any:
    text = bytes(container.document).decode()
    for id, name in {**names, container.id: "self"}.items():
        text = text.replace(id, f"<{name}>").replace(id[:_SHORT_ID_CHARACTERS], f"<{name}>")
    return msgspec.json.decode(text)


def _flat(value: Any, path: str) -> Iterator[tuple[str, object]]:
    """List the leaves. Variables and labels are leaves by their names."""
    if path == "Config.Env":
        for text in value or ():
            name, _, rest = text.partition("=")
            yield f"{path}[{name}]", rest
    elif path == "Config.Labels":
        for name, rest in (value or {}).items():
            yield f"{path}[{name}]", rest
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        encoded = [msgspec.json.encode(inner, order="sorted").decode() for inner in value]
        yield path, tuple(sorted(encoded) if path in _UNORDERED else encoded)
    else:
        yield path, value


def _is_allowed(path: str, allowed: frozenset[str]) -> bool:
    if path.startswith("NetworkSettings.") and path.rpartition(".")[2] in _OF_NETWORK:
        return True
    return any(path == part or path.startswith((f"{part}.", f"{part}[")) for part in allowed)


def _is_empty(value: object) -> bool:
    return value in (None, "", (), 0, False)


def _changed_by_image(old: Image, new: Image) -> frozenset[str]:
    before, after = _config(old), _config(new)
    changed = [
        paths for key, paths in _OF_IMAGE.items() if (before.get(key) or None) != (after.get(key) or None)
    ]
    return frozenset().union(*changed)


def _config(image: Image) -> dict[str, Any]:
    document = msgspec.json.decode(image.document)
    # The health check is told beside the config.
    return {"Healthcheck": document.get("HealthCheck"), **(document.get("Config") or {})}


def _from_image(image: Image) -> Mapping[str, str]:
    """What an image gives, by the paths where containers have it."""
    config = image.config
    pairs = (
        dict(_flat({"Config": {"Env": list(config.env or ()), "Labels": config.labels}}, ""))
        if config
        else {}
    )
    return {path: str(value) for path, value in pairs.items()}


def _is_of_image(
    path: str, was: object, now: object, old: Mapping[str, str], new: Mapping[str, str], *, is_started: bool
) -> bool:
    """Whether a variable or label changed only because the image gives another one."""
    if not is_started and now is None and path in _VARIABLES_OF_START:
        return True
    if path == "Config.Env[HOME]":
        # Read from the image's /etc/passwd, unless the image says it.
        return path not in old
    return old.get(path) == was and new.get(path) == now


def _told(path: str, value: object) -> str:
    """Tell a value, unless it may be a secret."""
    if value is None:
        return "nothing"
    if path.startswith("Config.Env"):
        return "…"
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= _TEXT_CHARACTERS_MAX else f"{text[:_TEXT_CHARACTERS_MAX]}…"
