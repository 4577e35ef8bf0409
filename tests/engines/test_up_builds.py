import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.chains import LocalTree, ids
from imagechain.images import choose_builder
from images.stores import BASE, BUSYBOX, buildah, make_store, remove_store

pytestmark = pytest.mark.builds
DRIVER = Path(__file__).with_name("driver.py")
STOP_SECONDS_MAX = 5.0
#: A build that lasts; in the list of processes it is told from those of other test runs.
SLEEP = f"sleep {100_000 + os.getpid()}"


@pytest.fixture
def tree(tmp_path: Path, empty_store: Path) -> LocalTree:
    tree = LocalTree(tmp_path, asyncio.run(choose_builder()))
    tree.write({"base": BASE})
    shutil.copy(BUSYBOX, tree.top / "base" / "busybox")
    return tree


def config(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(json.loads(buildah("inspect", "--type", "image", name))["Config"])
    return found


def labels(name: str) -> dict[str, str]:
    return config(name)["config"]["Labels"]  # type: ignore[index, no-any-return]


def start(tree: LocalTree) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(tree.folders.state.parents[1]),
        "XDG_CACHE_HOME": str(tree.folders.cache.parent),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(tree.top)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.fixture
def started(tree: LocalTree) -> Iterator["subprocess.Popen[str]"]:
    """An `up` whose second image builds for ever."""
    tree.write({"slow": f"FROM localhost/base\nRUN {SLEEP}\n", "below": "FROM localhost/slow\nRUN true\n"})
    process = start(tree)
    try:
        wait_for(lambda: SLEEP in processes())
        yield process
    finally:
        process.kill()
        process.communicate()


def processes() -> str:
    return subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout


def wait_for(condition: object) -> None:
    until = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, "it did not happen within 20 s"
        time.sleep(0.05)


def test_a_chain_is_built_for_real_and_then_nothing_is_to_be_done(tree: LocalTree) -> None:
    tree.write(
        {
            "lib": "FROM localhost/base\nRUN echo lib > /lib.txt\n",
            "app": "FROM localhost/base AS tools\nFROM localhost/lib\n"
            "COPY --from=tools /bin/busybox /copy\nCOPY --from=localhost/base /bin/busybox /bb\n"
            "COPY own.txt /own.txt\n",
            "app/own.txt": "own",
        }
    )
    assert ids(tree.up().built) == ["app", "base", "lib"]
    assert tree.up().built == ()
    assert labels("localhost/app")["org.opencontainers.image.base.name"] == "localhost/lib:latest"
    assert json.loads(labels("localhost/app")["dev.imagechain.inputs"]).keys() == {
        "localhost/base:latest",
        "localhost/lib:latest",
    }
    assert buildah("containers", "-q") == ""
    assert len(buildah("images", "-q", "--all").split()) == 3, "no unfinished image is left"
    assert list(tree.folders.runs.iterdir()) == []


def test_a_rebuild_that_changes_no_content_stops_the_cascade(tree: LocalTree) -> None:
    tree.write({"lib": "FROM localhost/base\nRUN echo lib > /lib.txt\n"})
    tree.up()
    time.sleep(1.1)  # so that times inside the layer would differ
    tree.write({"base": BASE + "LABEL a=b\n"})
    result = tree.up()
    assert [(built.id, built.content_changed) for built in result.built] == [("base", False)]


def test_what_git_knows_is_written_on_the_image_and_a_commit_alone_rebuilds_nothing(tree: LocalTree) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", tree.top, *arguments], check=True, capture_output=True)

    git("init", "-q")
    git("config", "user.email", "a@example.com")
    git("config", "user.name", "a")
    git("remote", "add", "origin", "https://user:secret@git.example.com/group/chain.git")
    git("add", ".")
    git("commit", "-q", "-m", "one", "--date", "2024-02-03T04:05:06Z")
    git("tag", "v1.2.3")
    tree.up()
    told = labels("localhost/base")
    head = subprocess.check_output(["git", "-C", tree.top, "rev-parse", "HEAD"], text=True).strip()
    assert told["org.opencontainers.image.revision"] == head
    assert told["org.opencontainers.image.version"] == "v1.2.3"
    assert told["org.opencontainers.image.source"] == "https://git.example.com/group/chain"
    assert told["org.opencontainers.image.created"] == config("localhost/base")["created"]
    git("commit", "-q", "--allow-empty", "-m", "two")
    assert tree.up().built == ()


def test_what_a_base_says_of_itself_is_not_inherited(tree: LocalTree) -> None:
    tree.write(
        {
            "base": BASE + 'LABEL org.opencontainers.image.version="1" maintainer="somebody"\n',
            "lib": "FROM localhost/base\nRUN true\n",
        }
    )
    tree.up()
    assert labels("localhost/lib")["maintainer"] == "somebody"
    assert "org.opencontainers.image.version" not in labels("localhost/lib")


def test_health_checks_and_triggers_survive(tree: LocalTree) -> None:
    tree.write(
        {
            "base": BASE + "HEALTHCHECK CMD true\nONBUILD RUN echo triggered > /triggered\n",
            "lib": "FROM localhost/base\nRUN cat /triggered\n",
        }
    )
    assert tree.up().failed == ()
    assert "Healthcheck" in config("localhost/lib")["config"]  # type: ignore[operator]
    tree.write(
        {"base": BASE + "# a comment\nHEALTHCHECK CMD true\nONBUILD RUN echo triggered > /triggered\n"}
    )
    result = tree.up()
    assert [(built.id, built.content_changed) for built in result.built] == [("base", False)]


def test_a_short_name_means_what_was_recorded_though_another_image_has_it_locally(tree: LocalTree) -> None:
    tree.write({"tool": "FROM localhost/base\nRUN echo ours > /which\n"})
    tree.up()
    buildah("tag", "localhost/tool", "docker.io/library/thing:latest")
    tree.write({"other": "FROM localhost/base\nRUN echo theirs > /which\n"})
    tree.up()
    buildah("tag", "localhost/other", "localhost/thing:latest")
    tree.write(
        {
            "user": "FROM thing\nRUN grep ours /which\n",
            "indirect": "ARG WHAT=thing\nFROM --platform=linux/amd64 ${WHAT} AS x\nRUN grep ours /which\n",
            "quoted": 'FROM "thing"\nRUN grep ours /which\n',
            "copier": "FROM localhost/base\nCOPY --from=thing /which /which\nRUN grep ours /which\n",
            "mounter": "FROM localhost/base\nRUN --mount=type=bind,from=thing,target=/m grep ours /m/which\n",
        }
    )
    assert tree.up().failed == ()


def test_a_failed_build_shows_the_end_of_its_log_and_leaves_nothing(tree: LocalTree) -> None:
    tree.write({"bad": "FROM localhost/base\nRUN echo so it goes; exit 7\n", "below": "FROM localhost/bad\n"})
    result = tree.up()
    assert ids(result.failed) == ["bad"]
    assert any("so it goes" in line for line in result.failed[0].log_tail)
    assert ids(result.blocked) == ["below"]
    assert buildah("containers", "-q") == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_builds_in_time_and_leaves_no_container(
    tree: LocalTree, started: "subprocess.Popen[str]", number: signal.Signals
) -> None:
    begun = time.monotonic()
    started.send_signal(number)
    output, _ = started.communicate(timeout=20)
    assert time.monotonic() - begun < STOP_SECONDS_MAX
    assert started.returncode == 130
    assert json.loads(output)["interrupted"] == ["slow"]
    assert SLEEP not in processes()
    assert buildah("containers", "-q") == ""
    tree.write({"slow": "FROM localhost/base\nRUN true\n"})
    assert ids(tree.up().built) == ["below", "slow"]


def test_after_a_kill_the_next_run_removes_what_was_left_and_only_that(
    tree: LocalTree, started: "subprocess.Popen[str]"
) -> None:
    own = buildah("from", "localhost/base").strip()
    started.kill()
    started.communicate()
    wait_for(lambda: SLEEP not in processes())
    assert len(buildah("containers", "-q").split()) == 2, "the killed build left its container"
    tree.write({"slow": "FROM localhost/base\nRUN true\n"})
    result = tree.up()
    assert ids(result.built) == ["below", "slow"], "what was built before is not built again"
    assert buildah("containers", "--format", "{{.ContainerName}}").split() == [own]
    assert list(tree.folders.runs.iterdir()) == []


def test_killed_at_any_moment_it_goes_on_and_ends_with_everything_built(tree: LocalTree) -> None:
    tree.write(
        {f"p{n}": f"FROM localhost/{f'p{n - 1}' if n else 'base'}\nRUN echo {n} > /{n}\n" for n in range(3)}
    )
    for milliseconds in (300, 600, 700, 800, 900, 1000, 1300):
        process = start(tree)
        time.sleep(milliseconds / 1000)
        process.kill()
        process.communicate()
    tree.up()
    result = tree.up()
    assert (result.built, len(result.fresh)) == ((), 4)
    assert buildah("containers", "-q") == ""
    assert len(buildah("images", "-q", "--all").split()) == 4, "no unfinished or replaced image is left"
    assert list(tree.folders.runs.iterdir()) == []


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")
def test_pushed_images_have_the_digest_of_the_registry_in_the_record_of_their_children(
    tree: LocalTree, registry: str
) -> None:
    tree.settings_prefix = registry
    tree.write({"child": f"FROM {registry}/base\nRUN true\n"})
    result = tree.up(push=True)
    assert result.failed == ()
    assert sorted(result.pushed) == [f"{registry}/base:latest", f"{registry}/child:latest"]
    digest = labels(f"{registry}/child")["org.opencontainers.image.base.digest"]
    wanted = urllib.request.Request(
        f"http://{registry}/v2/base/manifests/{digest}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(wanted) as answer:  # noqa: S310 - a server of this test
        assert json.load(answer)["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    record = json.loads(labels(f"{registry}/child")["dev.imagechain.inputs"])
    assert record[f"{registry}/base:latest"]["digest"] == digest
    # Built from the same registry by another chain, it is an external image, and pulled.
    buildah("rmi", "--all", "--force")
    other = LocalTree(tree.top.parent / "other", tree.builder)
    other.write({"user": f"FROM {registry}/child\nRUN true\n"})
    assert ids(other.up().built) == ["user"]
    assert labels("localhost/user")["org.opencontainers.image.base.name"] == f"{registry}/child:latest"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registry of its own, on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = tmp_path / "registry.yml"
    settings.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}\n"
        f"http: {{addr: {address!r}}}\n"
    )
    conf = tmp_path / "registries.conf"
    conf.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    monkeypatch.setenv("REGISTRIES_CONFIG_PATH", str(conf))
    with subprocess.Popen(
        ["docker-registry", "serve", settings], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as server:
        try:
            wait_for(lambda: is_listening(address))
            yield address
        finally:
            server.terminate()


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def test_a_second_run_says_who_it_waits_for_and_then_goes_on(
    tree: LocalTree, started: "subprocess.Popen[str]"
) -> None:
    second = start(tree)
    assert second.stderr is not None
    line = second.stderr.readline()
    assert line.strip() == f"Waiting(pid={started.pid})"
    tree.write({"slow": "FROM localhost/base\nRUN true\n"})
    started.terminate()
    output, _ = second.communicate(timeout=30)
    assert [built["id"] for built in json.loads(output)["built"]] == ["slow", "below"]


def test_a_builder_that_is_killed_fails_its_build_and_says_so(
    tree: LocalTree, started: "subprocess.Popen[str]"
) -> None:
    wait_for(lambda: f"RUN {SLEEP}" in (tree.folders.logs / "slow.log").read_text())
    listing = subprocess.run(["ps", "-wweo", "pid,args"], capture_output=True, text=True, check=True).stdout
    builders = [
        line.split()[0]
        for line in listing.splitlines()
        if " build " in line and str(tree.folders.runs) in line
    ]
    assert len(builders) == 1
    os.kill(int(builders[0]), signal.SIGKILL)
    output, _ = started.communicate(timeout=20)
    failed = json.loads(output)["failed"]
    assert [(each["id"], each["message"]) for each in failed] == [("slow", "buildah was killed by SIGKILL")]
    assert buildah("containers", "-q") == ""


def test_a_full_disk_fails_the_build_and_says_so(
    tree: LocalTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here: a full disk is not tested")
    try:
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(make_store(small)))
        monkeypatch.setenv("TMPDIR", str(small))
        tree.write({"big": "FROM localhost/base\nRUN dd if=/dev/zero of=/big bs=1M count=20\n"})
        result = tree.up()
        assert ids(result.failed) in (["big"], ["base"])
        assert "the disk is full; free some space" in result.failed[0].message
    finally:
        remove_store(small)
        subprocess.run(["umount", "-l", small], check=True)
