"""`image build` with a real Docker daemon, where one can be run."""

import subprocess

import pytest

from images.docker_daemon import needs_buildx
from single.shops import Shop

pytestmark = pytest.mark.builds


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, check=True, text=True)
    return done.stdout.strip()


@pytest.fixture(params=["docker", "buildx"])
def builder(docker: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "buildx":
        needs_buildx()
    # With a login docker is told a folder of its own for its configuration.
    monkeypatch.setenv("CI_REGISTRY_USER", "ci")
    monkeypatch.setenv("CI_REGISTRY_PASSWORD", "secret")
    return name


def test_the_base_is_what_the_registry_has_whatever_the_daemon_calls_so(shop: Shop, builder: str) -> None:
    base = f"{shop.registry.address}/base"
    # As if it had been pulled long ago.
    (shop.top / "Containerfile").write_text("FROM scratch\nLABEL old=1\nCOPY Containerfile /\n")
    docker("build", "--tag", base, "--file", str(shop.top / "Containerfile"), str(shop.top))
    shop.write({"Containerfile": "FROM BASE\nCOPY data /data\n", "data": "x"}).commit().pipeline(1)
    built = shop.build("--builder", builder).json
    assert built["inputs"] == {f"{base}:latest": shop.registry.manifest("base", "latest")["digest"]}
    config = shop.registry.config(f"{shop.repository}/project", "p-1")
    assert config["rootfs"]["diff_ids"][:-1] == shop.registry.config("base", "latest")["rootfs"]["diff_ids"]
    assert "old" not in config["config"]["Labels"]
    assert shop.build("--builder", builder).json["reused"]


def test_buildx_builds_the_same_twice_and_docker_does_not(shop: Shop, builder: str) -> None:
    files = {"Containerfile": "FROM BASE\nCOPY data /data\n", "data": "x"}
    shop.write(files).commit()
    digests = set()
    for job in ("one", "two"):
        shop.pipeline(1, CI_REGISTRY_IMAGE=f"{shop.registry.address}/{shop.repository}/{job}")
        digests.add(shop.build("--builder", builder, "--rebuild").json["digest"])
        docker("system", "prune", "--all", "--force")
    assert len(digests) == (1 if builder == "buildx" else 2)


def test_a_build_that_fails_shows_what_docker_says_and_pushes_nothing(shop: Shop, builder: str) -> None:
    shop.write({"Containerfile": "FROM BASE\nCOPY missing /\n"}).commit().pipeline(1)
    built = shop.build("--builder", builder)
    assert built.code == 1
    assert "missing" in built.said
    assert shop.registry.tags(f"{shop.repository}/project") == []
