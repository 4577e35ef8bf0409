"""Bad input and faults, on real podman: odd names of images, odd ways to make containers, a full disk."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts.conftest import needs_a_real_host
from hosts.machines import HostMachine
from hosts.test_real import changed, results, run, same
from registry.servers import free_port

_SLEEPS = ('CMD ["sleep", "1000"]',)


def pulled(real: HostMachine, name: str, version: str = "1") -> str:
    reference = real.push(name, version=version, changes=_SLEEPS)
    real.podman("pull", "--quiet", reference)
    return reference


def start(real: HostMachine, name: str, image: str, *options: str) -> None:
    real.podman("run", "--detach", "--init", "--stop-timeout=2", f"--name={name}", *options, image)


def row(real: HostMachine, name: str) -> dict[str, Any]:
    return next(one for one in real.status() if one["name"] == name)


# --- names of images ------------------------------------------------------------------------------------


def test_an_image_pinned_by_its_digest_is_never_moved(real: HostMachine) -> None:
    reference = pulled(real, "pinned")
    repository = reference.removesuffix(":latest")
    digest = real.podman("image", "inspect", "--format={{.Digest}}", reference).strip()
    start(real, "by-digest", f"{repository}@{digest}")
    real.push("pinned", version="2", changes=_SLEEPS)
    assert real.update()["outcomes"] == []
    told = row(real, "by-digest")
    assert (told["state"], told["reason"]) == ("pinned", f"pinned to {digest}")
    assert real.version("by-digest") == "1"


def test_an_image_named_without_a_tag_follows_latest(real: HostMachine) -> None:
    start(real, "no-tag", pulled(real, "untagged").removesuffix(":latest"))
    real.push("untagged", version="2", changes=_SLEEPS)
    assert results(real) == ["updated"]
    assert real.version("no-tag") == "2"


def test_an_image_without_any_name_is_reported(real: HostMachine) -> None:
    reference = pulled(real, "nameless")
    id = real.podman("image", "inspect", "--format={{.Id}}", reference).strip()
    real.podman("untag", id)
    start(real, "nameless", id)
    real.push("nameless", version="2", changes=_SLEEPS)
    assert real.update()["outcomes"] == []
    told = row(real, "nameless")
    assert told["state"] == "manual"
    assert "podman tag" in told["reason"]


# --- ways to make containers ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v4.0.0/libpod/containers/create", "/v1.41/containers/create"])
def test_a_container_that_a_program_made_through_the_api_is_reported_with_what_to_run(
    real: HostMachine, path: str
) -> None:
    reference = pulled(real, "api-made")
    body = {"name": "made", "image": reference, "Image": reference, "command": ["sleep", "1000"]}
    with api(real) as connection:
        url = path if "libpod" in path else f"{path}?name=made"
        connection.request("POST", url, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
    real.podman("start", "made")
    real.push("api-made", version="2", changes=_SLEEPS)
    assert real.update()["outcomes"] == []
    told = row(real, "made")
    assert (told["state"], told["owner"]) == ("manual", "person")
    assert f"run `podman pull {reference}`, then make it anew with the program that made it" in told["reason"]
    assert real.inspect("made")["State"]["Status"] == "running"


@contextlib.contextmanager
def api(real: HostMachine) -> Iterator[http.client.HTTPConnection]:
    """podman's API, for as long as it is needed."""
    file = real.folder / "api.sock"
    command = ["podman", "system", "service", "--time=0", f"unix://{file}"]
    with subprocess.Popen(command, env=real.machine.environment) as service:
        try:
            deadline = time.monotonic() + 60
            while not file.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(file))
            yield connection
            connection.close()
        finally:
            service.kill()
    file.unlink(missing_ok=True)


def test_what_was_made_with_replace_leaves_nobody_without_a_way_back(real: HostMachine) -> None:
    reference = pulled(real, "replaced")
    for _ in range(2):
        start(real, "web", reference, "--replace", "--read-only")
    before, id = same(real.inspect("web")), real.inspect("web")["Id"]
    real.push("replaced", version="2", changes=('CMD ["/missing"]',))
    assert results(real) == ["rolled-back"]
    assert real.inspect("web")["Id"] == id, "--replace would have removed it first"
    real.push("replaced", version="3", changes=_SLEEPS)
    assert results(real) == ["updated"]
    assert changed(before, same(real.inspect("web"))) == {}


def test_a_file_with_an_id_that_another_container_owns_is_left_alone(
    real: HostMachine, tmp_path: Path
) -> None:
    reference = pulled(real, "cid")
    file = tmp_path / "cid"
    start(real, "web", reference, f"--cidfile={file}")
    before = real.inspect("web")["Id"]
    file.write_text("f" * 64)
    real.push("cid", version="2", changes=_SLEEPS)
    (outcome,) = real.update()["outcomes"]
    assert outcome["result"] == "failed"
    assert "nothing was touched" in outcome["why"]
    assert "holds the id of another container" in outcome["why"]
    assert (real.inspect("web")["Id"], file.read_text()) == (before, "f" * 64)
    assert real.inspect("web")["State"]["Status"] == "running"


def test_a_static_address_and_a_published_port_are_free_again_when_the_new_one_starts(
    real: HostMachine,
) -> None:
    options = ("--ip=10.88.77.9", "--mac-address=92:d0:c6:0a:29:33", f"--publish=127.0.0.1:{free_port()}:80")
    start(real, "web", pulled(real, "static"), *options)
    for version, command in (("2", _SLEEPS), ("3", ('CMD ["false"]',))):
        real.push("static", version=version, changes=command)
        assert results(real) == ["updated" if version == "2" else "rolled-back"]
        network = next(iter(real.inspect("web")["NetworkSettings"]["Networks"].values()))
        assert (network["IPAddress"], network["MacAddress"]) == ("10.88.77.9", "92:d0:c6:0a:29:33")


# --- registries and disks -------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[str]:
    """A registry that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


def test_a_registry_that_hangs_holds_up_nobody_else(real: HostMachine, silent: str) -> None:
    reference = pulled(real, "beside")
    run(real, reference)
    real.podman("tag", reference, f"{silent}/app:1")
    start(real, "stuck", f"{silent}/app:1")
    real.push("beside", version="2", changes=_SLEEPS)
    impatient = "import imagechain.registry.http as http; http.EXCHANGE_SECONDS_MAX = 0.5"
    with real.start("update", "--format=json", before=impatient) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    told = json.loads(out)
    assert [(one["result"], *one["containers"]) for one in told["outcomes"]] == [("updated", "web")]
    stuck = next(one for one in told["containers"] if one["name"] == "stuck")
    assert stuck["state"] == "unknown"
    assert "could not be checked" in stuck["reason"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[HostMachine]:
    """A host whose images lie on a small disk."""
    needs_a_real_host()
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed (Debian: e2fsprogs)")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True)
    host = HostMachine(tmp_path / "host")
    graph = host.machine.folder / "graph"
    graph.mkdir()
    done = subprocess.run(
        ["mount", "-o", "loop", str(disk), str(graph)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        host.remove()
        pytest.skip(f"no file can be mounted on this machine: {done.stderr.strip()}")
    yield host
    host.forget()
    # podman keeps its own mount within.
    subprocess.run(["umount", "--recursive", str(graph)], check=True)
    host.remove()


def test_without_room_for_the_new_image_nothing_is_touched(small: HostMachine) -> None:
    reference = pulled(small, "large")
    run(small, reference)
    before = small.inspect("web")["Id"]
    small.builder.make_image("localhost/large", files={"version": "2"}, changes=_SLEEPS)
    small.push("large", version="2", changes=_SLEEPS)
    graph = small.machine.folder / "graph"
    filler = graph / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while os.statvfs(graph).f_bavail * os.statvfs(graph).f_frsize > 256 << 10:
            file.write(os.urandom(64 << 10))
    (outcome,) = small.update()["outcomes"]
    assert outcome["result"] == "failed"
    assert "nothing was touched" in outcome["why"]
    assert "no space left on device" in outcome["why"]
    assert (small.inspect("web")["Id"], small.names()) == (before, ["web"])
    assert small.inspect("web")["State"]["Status"] == "running"
    filler.unlink()
    assert results(small) == ["updated"]
    assert small.version("web") == "2"
