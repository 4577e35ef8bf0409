import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from images.docker_daemon import docker, docker_daemon
from images.stores import BUSYBOX, buildah, buildah_store, empty_store
from registry.servers import Server, password_registry, run_registry
from single.shops import BASE, Registry, Shop

__all__ = ["buildah_store", "docker", "docker_daemon", "empty_store", "password_registry"]


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Build as on a laptop, wherever the tests run; try again at once."""
    for name in list(os.environ):
        if name.startswith(("CI_", "IMAGE_", "IMAGECHAIN_")) or name in {"CHANGES", "BASE_IMAGE_TAG"}:
            monkeypatch.delenv(name)
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, buildah_store: Path) -> Iterator[Registry]:
    """A registry of the session, with a base image in it."""
    folder = tmp_path_factory.mktemp("registry")
    with run_registry(folder) as server:
        registry = Registry(server.address, folder / "log")
        context = tmp_path_factory.mktemp("base")
        (context / "busybox").write_bytes(BUSYBOX.read_bytes())
        (context / "busybox").chmod(0o755)
        (context / "Containerfile").write_text(BASE)
        push_base(server, context)
        yield registry


def push_base(server: Server, context: Path) -> None:
    name = f"{server.address}/base"
    buildah("build", "--quiet", "--timestamp=0", f"--tag={name}", str(context))
    buildah("push", "--quiet", "--tls-verify=false", name)
    buildah("rmi", "--all", "--force")


@pytest.fixture
def shop(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Shop:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Shop(tmp_path / "repository", registry, monkeypatch, capfd)
