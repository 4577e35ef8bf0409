"""What the comparison of old and new finds, and what it lets pass."""

import json
from typing import Any

import pytest

from hosts.test_replay import container, image
from imagechain.hosts.differences import differences
from imagechain.hosts.values import Container, Image


def made(**more: Any) -> Container:
    return container("podman", "run", "app", **more)


def found(
    old: Container, new: Container, before: Image | None = None, after: Image | None = None
) -> list[str]:
    return differences(old, new, before or image(), after or image())


_OLD: dict[str, Any] = {
    "HostConfig": {"ReadonlyRootfs": True, "CapDrop": ["CAP_CHOWN"], "SecurityOpt": ["no-new-privileges"]},
    "EffectiveCaps": ["CAP_KILL"],
    "config": {"User": "1000", "Hostname": "1" * 12, "Env": ["A=secret", "OF=old", "HOME=/root"]},
    "HostsPath": "/run/" + "1" * 64 + "/hosts",
}


def test_ids_addresses_and_times_may_differ() -> None:
    new = json.loads(json.dumps(_OLD).replace("1" * 64, "2" * 64).replace("1" * 12, "2" * 12))
    network = {"MacAddress": "aa", "IPAddress": "10.0.0.1", "Networks": {"n": {"IPAddress": "10.0.0.1"}}}
    old = made(**_OLD, NetworkSettings=network, State={"Pid": 1}, Created="2026-01-01T00:00:00Z")
    assert found(old, made(Id="2" * 64, **new, State={"Pid": 2})) == []


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("ReadonlyRootfs", False),
        ("CapDrop", []),
        ("SecurityOpt", []),
    ],
)
def test_what_clone_loses_is_found(part: str, value: object) -> None:
    new = {**_OLD, "HostConfig": {**_OLD["HostConfig"], part: value}}
    (difference,) = found(made(**_OLD), made(**new))
    assert difference.startswith(f"HostConfig.{part}: ")


def test_a_lost_variable_is_found_and_its_value_is_not_told() -> None:
    new = {**_OLD, "config": {**_OLD["config"], "Env": ["OF=old", "HOME=/root"]}}
    assert found(made(**_OLD), made(**new)) == ["Config.Env[A]: … -> nothing"]


def test_what_the_image_says_may_change_with_the_image() -> None:
    new = {**_OLD, "config": {**_OLD["config"], "Env": ["A=secret", "OF=new", "HOME=/home"], "Cmd": ["b"]}}
    before, after = image(Env=["OF=old"], Cmd=["a"]), image(Env=["OF=new"], Cmd=["b"])
    assert found(made(**_OLD), made(**new), before, after) == []
    assert found(made(**_OLD), made(**new), before, image(Env=["OF=old"], Cmd=["a"])) == [
        'Config.Cmd: nothing -> "b"',
        "Config.Env[OF]: … -> …",
    ]


def test_other_containers_compare_by_their_names() -> None:
    old = made(Dependencies=["a" * 64], HostConfig={"NetworkMode": "container:" + "a" * 64})
    new = made(Id="2" * 64, Dependencies=["b" * 64], HostConfig={"NetworkMode": "container:" + "b" * 64})
    assert found(old, new) != []
    assert differences(old, new, image(), image(), names={"a" * 64: "db", "b" * 64: "db"}) == []


def test_before_the_start_what_podman_fills_in_then_is_not_missed() -> None:
    old = made(**_OLD, NetworkSettings={"Ports": {"80/tcp": None}}, ResolvConfPath="/x")
    new = {**_OLD, "config": {**_OLD["config"], "Env": ["A=secret", "OF=old"]}, "EffectiveCaps": None}
    assert differences(old, made(**new), image(), image(), is_started=False) == []
    assert found(old, made(**new)) == [
        'EffectiveCaps: "CAP_KILL" -> nothing',
        "ResolvConfPath: /x -> nothing",
    ]


def test_what_podman_5_tells_of_each_container_anew_is_not_missed() -> None:
    annotations = {"io.container.manager": "libpod", "org.example.a": "b"}
    stop = {
        f"org.{name}": "15" for name in ("opencontainers.image.stopSignal", "systemd.property.KillSignal")
    }
    old = made(lockNumber=5, HostConfig={"Annotations": {**annotations, **stop}})
    new = made(lockNumber=9, HostConfig={"Annotations": {"org.example.a": "b"}})
    assert differences(old, new, image(), image(), is_started=False) == []
    lost = made(HostConfig={"Annotations": {"io.container.manager": "libpod", **stop}})
    assert found(old, lost) == ["HostConfig.Annotations.org.example.a: b -> nothing"]
    other = made(HostConfig={"Annotations": {**annotations, **dict.fromkeys(stop, "2")}})
    assert found(old, other, image(), image(StopSignal="SIGINT")) == []
    assert len(found(old, other)) == 2
