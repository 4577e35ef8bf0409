"""Images as buildah and skopeo push them, in both formats, from a real registry."""

import asyncio
from pathlib import Path

import pytest

from imagechain.config import RegistrySettings
from imagechain.refs import Platform, parse_reference
from imagechain.registry import RegistryClient, RemoteImage
from images.stores import buildah, buildah_store
from registry.servers import Server

__all__ = ["buildah_store"]

pytestmark = pytest.mark.builds

AMD64 = Platform("linux", "amd64")
S390X = Platform("linux", "s390x")


def build(name: str, *, format: str, architecture: str = "amd64") -> None:
    """Build an image without running anything."""
    container = buildah("from", "scratch").strip()
    buildah("config", "--os", "linux", "--arch", architecture, "--label", f"of={architecture}", container)
    buildah("copy", "--quiet", container, __file__, "/file")
    buildah("commit", "--quiet", "--timestamp", "0", "--format", format, container, name)
    buildah("rm", container)


def read(server: Server, repository: str, platform: Platform) -> RemoteImage:
    async def run() -> RemoteImage:
        async with RegistryClient(settings={server.address: RegistrySettings(insecure=True)}) as client:
            return await client.image(parse_reference(f"{server.address}/{repository}"), platform)

    return asyncio.run(run())


@pytest.mark.usefixtures("buildah_store")
@pytest.mark.parametrize("format", ["oci", "docker"])
def test_an_image_of_buildah_is_read(open_registry: Server, tmp_path: Path, format: str) -> None:
    build(f"localhost/{format}", format=format)
    target = f"docker://{open_registry.address}/real/{format}:latest"
    digest_file = tmp_path / "digest"
    buildah(
        "push",
        "--quiet",
        "--tls-verify=false",
        "--digestfile",
        str(digest_file),
        f"localhost/{format}",
        target,
    )
    image = read(open_registry, f"real/{format}", AMD64)
    assert image.digest == digest_file.read_text()
    assert image.labels["of"] == "amd64"
    assert len(image.diff_ids) == 1


@pytest.mark.usefixtures("buildah_store")
def test_both_formats_of_one_content_have_one_content_key(open_registry: Server) -> None:
    for format in ("oci", "docker"):
        build(f"localhost/same-{format}", format=format)
        target = f"docker://{open_registry.address}/real/same-{format}:latest"
        buildah("push", "--quiet", "--tls-verify=false", f"localhost/same-{format}", target)
    oci = read(open_registry, "real/same-oci", AMD64)
    docker = read(open_registry, "real/same-docker", AMD64)
    assert oci.digest != docker.digest
    assert oci.content_key == docker.content_key


@pytest.mark.usefixtures("buildah_store")
def test_the_platforms_of_an_index_of_buildah_are_read(open_registry: Server) -> None:
    buildah("manifest", "create", "localhost/many")
    for architecture in ("amd64", "s390x"):
        build(f"localhost/one-{architecture}", format="oci", architecture=architecture)
        buildah("manifest", "add", "localhost/many", f"localhost/one-{architecture}")
    target = f"docker://{open_registry.address}/real/many:latest"
    buildah("manifest", "push", "--quiet", "--all", "--tls-verify=false", "localhost/many", target)
    assert read(open_registry, "real/many", AMD64).labels["of"] == "amd64"
    assert read(open_registry, "real/many", S390X).labels["of"] == "s390x"
