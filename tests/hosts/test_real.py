"""What only real podman can prove: containers come back as they were, whatever they were made with."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from executor.machine import limits_processes
from hosts.machines import HostMachine

_SLEEPS = ('CMD ["sleep", "1000"]',)
#: Thirty-five of them, and the image's own.
_OPTIONS = [
    *(
        "--add-host=a.example:192.0.2.7",
        "--annotation=org.example.a=b",
        "--cap-drop=all",
        "--cap-add=NET_RAW",
    ),
    *("--cpu-shares=512", "--cpus=0.5", "--cgroupns=private", "--device=/dev/null:/dev/nothing"),
    *("--dns=192.0.2.53", "--dns-option=ndots:2", "--dns-search=example.org", '--entrypoint=["sleep"]'),
    *("--env=A=b c", "--expose=81", "--group-add=12", "--health-cmd=true", "--health-interval=5s"),
    *("--hostname=web-1", "--init", "--ip=10.88.77.7", "--label=x=y", "--log-opt=max-size=10k"),
    *("--memory=64m", "--mount=type=tmpfs,destination=/m", "--network-alias=other", "--oom-score-adj=100"),
    *("--pids-limit=50", "--publish=127.0.0.1:18481:80", "--read-only", "--restart=on-failure:4"),
    *("--security-opt=no-new-privileges", "--shm-size=10m", "--stop-timeout=3", "--tz=UTC", "--umask=0077"),
    *("--user=1000", "--volume=data:/data", "--volume=/anonymous", "--workdir=/tmp", "--tmpfs=/t"),
]
#: Of these, what only a kernel that lets control groups limit something takes.
_LIMITS = ("--cpu-shares=", "--cpus=", "--memory=", "--pids-limit=")
#: Says nothing of how a container was made.
_OWN = (
    *("Id", "Created", "State", "Image", "ImageDigest", "GraphDriver", "ResolvConfPath", "HostnamePath"),
    *("HostsPath", "StaticDir", "OCIConfigPath", "ConmonPidFile", "PidFile", "lockNumber"),
)


def same(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out of an answer what belongs to one run of one container; not by the code under test."""
    text = json.dumps({key: value for key, value in document.items() if key not in _OWN})
    text = text.replace(document["Id"], "ID").replace(document["Id"][:12], "SHORT")
    kept: dict[str, Any] = json.loads(text)
    del kept["Config"]["CreateCommand"]
    kept["Config"]["Annotations"].pop("io.kubernetes.cri-o.Created", None)
    for network in (kept["NetworkSettings"], *kept["NetworkSettings"]["Networks"].values()):
        for key in ("MacAddress", "SandboxKey", "IPAddress"):
            network.pop(key, None)
    kept["Mounts"].sort(key=lambda mount: mount["Destination"])
    kept["Config"]["Env"].sort()
    kept["HostConfig"]["Binds"].sort()
    return kept


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[object, object]]:
    """Tell what differs, a level deep."""
    found: dict[str, tuple[object, object]] = {}
    for key in before.keys() | after.keys():
        was, now = before.get(key), after.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            found |= {f"{key}.{inner}": values for inner, values in changed(was, now).items()}
        elif was != now:
            found[key] = (was, now)
    return found


def run(real: HostMachine, reference: str, *options: str, name: str = "web") -> None:
    real.podman("pull", "--quiet", reference)
    real.podman("run", "--detach", f"--name={name}", "--init", "--stop-timeout=2", *options, reference)


def results(real: HostMachine) -> list[str]:
    return [one["result"] for one in real.update()["outcomes"]]


def test_a_container_with_35_options_comes_back_as_it_was_twice(real: HostMachine) -> None:
    options = [one for one in _OPTIONS if limits_processes() or not one.startswith(_LIMITS)]
    assert len(options) >= 35
    reference = real.push("many", version="1", changes=_SLEEPS)
    real.podman("pull", "--quiet", reference)
    real.podman("run", "--detach", "--name=web", *options, reference, "1000")
    before = same(real.inspect("web"))
    volume = next(Path(m["Source"]) for m in before["Mounts"] if m["Destination"] == "/anonymous")
    (volume / "kept").touch()
    for version in ("2", "3"):
        real.push("many", version=version, changes=_SLEEPS)
        assert results(real) == ["updated"]
        assert changed(before, same(real.inspect("web"))) == {}
        assert real.version("web") == version
        assert "kept" in real.podman("exec", "web", "ls", "/anonymous")


def test_what_came_from_the_surroundings_of_a_person_is_replaced_by_what_podman_recorded(
    real: HostMachine, tmp_path: Path
) -> None:
    reference = real.push("around", version="1", changes=(*_SLEEPS, "ENV OF_IMAGE=1"))
    real.podman("pull", "--quiet", reference)
    (tmp_path / "env").write_text("FROM_FILE=first\nDB_PASSWORD=hunter2\n")
    (tmp_path / "labels").write_text("from.file=label\n")
    (tmp_path / "folder").mkdir()
    command = (
        "podman run -d --init --name web --env-file env --env TAKEN -e http_proxy=http://proxy:1"
        f" --label-file labels -v ./folder:/f -P --expose 80 -p 81 --cidfile {tmp_path}/cid {reference}"
    )
    subprocess.run(
        command.split(),
        env={**real.machine.environment, "TAKEN": "two\nlines"},
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    before = same(real.inspect("web"))
    for name in ("env", "labels"):
        (tmp_path / name).unlink()
    for version in ("2", "3"):
        real.calls()
        real.push("around", version=version, changes=(*_SLEEPS, f"ENV OF_IMAGE={version}"))
        assert results(real) == ["updated"]
        assert "hunter2" not in "".join(real.calls())
        after = same(real.inspect("web"))
        env = set(after["Config"].pop("Env"))
        assert f"OF_IMAGE={version}" in env
        assert env - {f"OF_IMAGE={version}"} == set(before["Config"]["Env"]) - {"OF_IMAGE=1"}
        assert after == {**before, "Config": {k: v for k, v in before["Config"].items() if k != "Env"}}
        assert (tmp_path / "cid").read_text() == real.inspect("web")["Id"]
    state = "".join(file.read_text() for file in (real.folder / "state").rglob("*") if file.is_file())
    assert "hunter2" not in state


def test_a_container_made_from_an_id_or_a_short_name_follows_the_full_name(real: HostMachine) -> None:
    reference = real.push("named", version="1", changes=_SLEEPS)
    real.podman("pull", "--quiet", reference)
    id = real.podman("image", "inspect", "--format={{.Id}}", reference).strip()
    real.podman("run", "--detach", "--init", "--name=by-id", id)
    repository = reference.partition("/")[2].removesuffix(":latest")
    real.podman("run", "--detach", "--init", "--name=short", repository)
    real.push("named", version="2", changes=_SLEEPS)
    assert results(real) == ["updated", "updated"]
    assert [real.version(name) for name in ("by-id", "short")] == ["2", "2"]


def test_a_member_of_a_pod_is_swapped_and_the_pod_stays(real: HostMachine) -> None:
    reference = real.push("member", version="1", changes=_SLEEPS)
    run(real, reference, "--pod=new:p1", name="m1")
    run(real, reference, "--pod=p1", "--label=dev.imagechain.update=false", name="m2")
    others = {name: real.inspect(name)["State"]["StartedAt"] for name in real.names() if name != "m1"}
    real.push("member", version="2", changes=_SLEEPS)
    assert results(real) == ["updated"]
    assert (real.version("m1"), real.version("m2")) == ("2", "1")
    assert {name: real.inspect(name)["State"]["StartedAt"] for name in others} == others
    real.push("member", version="3", changes=_SLEEPS)
    assert results(real) == ["updated"]


def test_an_index_that_moved_for_others_is_read_once_and_restarts_nothing(real: HostMachine) -> None:
    reference = real.push("index", version="1", changes=_SLEEPS)
    host, repository = reference.removesuffix(":latest").split("/", 1)
    url = f"http://{host}/v2/{repository}/manifests/"
    accept = "application/vnd.oci.image.manifest.v1+json"
    single = httpx2.get(f"{url}latest", headers={"Accept": accept})

    def push_index(note: str) -> None:
        entry = {
            "mediaType": accept,
            "digest": single.headers["docker-content-digest"],
            "size": len(single.content),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        index = {"schemaVersion": 2, "manifests": [entry], "annotations": {"note": note}}
        kind = "application/vnd.oci.image.index.v1+json"
        reply = httpx2.put(f"{url}latest", content=json.dumps(index), headers={"Content-Type": kind})
        assert reply.status_code == 201, reply.text

    push_index("first")
    run(real, reference)
    before = real.inspect("web")["Id"]
    push_index("second")
    for _ in range(2):
        real.calls()
        assert real.update() | {"containers": []} == {
            "containers": [],
            "outcomes": [],
            "code": 0,
            "error": "",
        }
        assert [call.split()[0] for call in real.calls()] == ["ps", "container", "image"]
    assert real.inspect("web")["Id"] == before


def test_containers_that_are_current_cost_three_calls(real: HostMachine) -> None:
    reference = real.push("current", version="1", changes=_SLEEPS)
    real.podman("pull", "--quiet", reference)
    for number in range(5):
        real.podman("create", f"--name=c{number}", reference)
    real.calls()
    assert real.update()["outcomes"] == []
    assert len(real.calls()) == 3


def test_a_container_made_through_the_api_is_only_reported(real: HostMachine) -> None:
    reference = real.push("api", version="1", changes=_SLEEPS)
    real.podman("pull", "--quiet", reference)
    # `podman kube play` records no command either.
    container = {"name": "web", "image": reference, "command": ["/bin/sleep", "1000"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kube"},
        "spec": {"containers": [container]},
    }
    file = real.folder / "kube.yaml"
    file.write_text(json.dumps(pod))
    real.podman("kube", "play", str(file))
    name = "kube-web"
    real.push("api", version="2", changes=_SLEEPS)
    told = real.update()
    row = next(row for row in told["containers"] if row["name"] == name)
    assert (row["state"], row["owner"], told["outcomes"]) == ("manual", "person", [])
    assert "podman kube play --replace" in row["reason"]


@pytest.mark.parametrize("number", range(5, 29, 6))
def test_a_run_killed_at_any_call_of_podman_is_finished_or_undone(real: HostMachine, number: int) -> None:
    reference = real.push("killed", version="1", changes=_SLEEPS)
    run(real, reference, "--publish=127.0.0.1:18482:80", "--volume=/data", *(["--rm"] if number % 2 else []))
    real.push("killed", version=f"2-{number}", changes=_SLEEPS)
    (real.folder / "kill-at").write_text(str(number))
    if number % 4 == 3:
        (real.folder / "kill-after").touch()
    with real.start("update") as process:
        told = process.communicate(timeout=120)
    assert process.returncode in {-signal.SIGKILL, 0}, told
    for name in ("kill-at", "kill-after"):
        (real.folder / name).unlink(missing_ok=True)
    assert any(name.startswith("web") for name in real.names())
    assert len(real.podman("ps", "--format={{.Names}}").split()) <= 1
    real.update()
    real.update()
    assert (real.names(), real.version("web")) == (["web"], f"2-{number}")
    assert real.inspect("web")["State"]["Status"] == "running"
    assert list((real.folder / "state").rglob("journal/*.json")) == []


def test_ctrl_c_brings_the_old_container_back(real: HostMachine) -> None:
    reference = real.push("stopped", version="1", changes=_SLEEPS)
    run(real, reference)
    before = real.inspect("web")["Id"]
    real.push("stopped", version="2", changes=_SLEEPS)
    real.settings.write_text(real.settings.read_text().replace('settle = "0.2s"', 'settle = "60s"'))
    try:
        with real.start("update") as process:
            deadline = time.monotonic() + 60
            while not any(call.startswith("start") for call in real.peek()) and time.monotonic() < deadline:
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGTERM)
            said = process.communicate(timeout=60)
            assert process.returncode == 130, said
    finally:
        real.write_settings()
    assert (real.names(), real.inspect("web")["Id"]) == (["web"], before)
    assert real.inspect("web")["State"]["Status"] == "running"


def test_two_updates_at_once_make_each_container_anew_once(real: HostMachine) -> None:
    reference = real.push("twice", version="1", changes=_SLEEPS)
    run(real, reference)
    real.push("twice", version="2", changes=_SLEEPS)
    real.calls()
    with real.start("update") as first, real.start("update") as second:
        told = [process.communicate(timeout=120) for process in (first, second)]
    assert sorted(process.returncode for process in (first, second)) == [0, 0], told
    assert sum(call.startswith("create --name") for call in real.calls()) == 1
    assert (real.names(), real.version("web")) == (["web"], "2")


def test_a_full_disk_touches_nothing(real: HostMachine, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        reference = real.push("full", version="1", changes=_SLEEPS)
        run(real, reference)
        before = real.inspect("web")["Id"]
        real.push("full", version="2", changes=_SLEEPS)
        real.settings.write_text(real.settings.read_text().replace(f"{real.folder}/state", str(disk)))
        (disk / "hosts/root/journal").mkdir(parents=True)
        (disk / "hosts/lock").touch()
        _fill(disk)
        done = real.command("update")
        assert done.returncode == 3, done.stdout
        assert "free some space" in done.stderr
    finally:
        real.write_settings()
        subprocess.run(["umount", str(disk)], check=True)
    assert (real.inspect("web")["Id"], real.names()) == (before, ["web"])


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 1024)


def test_podmans_own_service_makes_containers_anew_just_as_well(real: HostMachine) -> None:
    socket = real.folder / "podman.sock"
    with subprocess.Popen(
        ["podman", "system", "service", "--time=0", f"unix://{socket}"], env=real.machine.environment
    ) as service:
        try:
            deadline = time.monotonic() + 60
            while not socket.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            real.variables = {"CONTAINER_HOST": f"unix://{socket}"}
            reference = real.push("remote", version="1", changes=_SLEEPS)
            run(real, reference, "--read-only", "--cap-drop=all", "--volume=/x", "--env=A=b")
            before = same(real.inspect("web"))
            for version in ("2", "3"):
                real.push("remote", version=version, changes=_SLEEPS)
                assert results(real) == ["updated"]
                assert changed(before, same(real.inspect("web"))) == {}
                assert real.version("web") == version
        finally:
            real.variables = {}
            service.kill()
