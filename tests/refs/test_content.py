"""A content key changes exactly with what a running container, or the build of a child, can notice."""

import copy
import json
from typing import Any

import pytest

from imagechain.refs import content_key, decode_image_config

CONFIG: dict[str, Any] = {
    "created": "2026-01-02T03:04:05Z",
    "author": "somebody",
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "Env": ["PATH=/bin", "LANG=C.UTF-8"],
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", "true"],
        "User": "app",
        "WorkingDir": "/srv",
        "Volumes": {"/data": {}, "/log": {}},
        "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
        "StopSignal": "SIGINT",
        "Labels": {"a": "b"},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30000000000},
        "Shell": ["/bin/bash", "-c"],
        "OnBuild": ["RUN true"],
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64, "sha256:" + "2" * 64]},
    "history": [{"created": "2026-01-02T03:04:05Z", "created_by": "RUN true"}],
}


def key(config: dict[str, Any]) -> str:
    return content_key(decode_image_config(json.dumps(config)))


def changed(path: str, value: object) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    target = config
    *parents, last = path.split(".")
    for part in parents:
        target = target[part]
    target[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("architecture", "arm64"),
        ("variant", "v8"),
        ("os", "freebsd"),
        ("config.Env", ["LANG=C.UTF-8", "PATH=/bin"]),
        ("config.Entrypoint", None),
        ("config.Cmd", ["-c", "false"]),
        ("config.User", "root"),
        ("config.WorkingDir", "/"),
        ("config.Volumes", {"/data": {}}),
        ("config.ExposedPorts", {}),
        ("config.StopSignal", "SIGTERM"),
        ("config.Healthcheck", {"Test": ["NONE"]}),
        ("config.Shell", None),
        ("config.OnBuild", []),
        ("rootfs.diff_ids", ["sha256:" + "2" * 64, "sha256:" + "1" * 64]),
        ("rootfs.diff_ids", ["sha256:" + "1" * 64]),
    ],
)
def test_what_can_be_noticed_changes_the_key(path: str, value: object) -> None:
    assert key(changed(path, value)) != key(CONFIG)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("created", "1970-01-01T00:00:00Z"),
        ("author", "somebody else"),
        ("history", []),
        ("config.Labels", {"dev.imagechain.inputs": "{}"}),
        ("config.Volumes", {"/log": {}, "/data": {}}),
        ("config.Hostname", "3f2a"),
        ("docker_version", "28"),
    ],
)
def test_times_history_labels_and_order_of_sets_do_not(path: str, value: object) -> None:
    assert key(changed(path, value)) == key(CONFIG)


def test_absent_null_and_empty_are_one_thing() -> None:
    bare = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    empty = {**bare, "config": {"Env": [], "Cmd": None, "User": "", "Volumes": {}}}
    assert key(bare) == key(empty)


@pytest.mark.parametrize("data", ["", "[]", '{"rootfs": 3}', '{"config": {"Env": "PATH=/"}}'])
def test_what_is_no_image_config_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match=r"Expected|truncated"):
        decode_image_config(data)
