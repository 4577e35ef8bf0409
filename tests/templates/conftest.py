"""What the tests of the templates share: a registry, a store of images, a repository."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from child_pipeline.schema import check_schema
from images.docker_daemon import docker, docker_daemon
from images.stores import buildah_store
from registry.servers import run_registry
from templates.local_ci import LocalCi, make_repository, trust

__all__ = ["buildah_store", "check_schema", "docker", "docker_daemon"]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a docker-registry."""
    with run_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server.address


@pytest.fixture
def ci(tmp_path: Path, registry: str, buildah_store: Path) -> LocalCi:
    """A repository that jobs build with buildah, and push from to the registry."""
    conf = tmp_path / "registries.conf"
    conf.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    environ = {"CONTAINERS_REGISTRIES_CONF": str(conf), **trust(registry)}
    return make_repository(tmp_path / "repository", registry, environ)
