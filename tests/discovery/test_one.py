"""One image by its name: what it is called in the store of a laptop."""

import pytest

from discovery.trees import Chain
from imagechain.config import Settings
from imagechain.discovery.one import find_file, read_one
from imagechain.discovery.reading import HowToRead
from imagechain.refs import Platform

HOW = HowToRead(platform=Platform("linux", "amd64"), build_platform=None, target=None, dialect="buildah")


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("builds/web", "localhost/builds/web:latest"),
        ("web/Containerfile", "localhost/web:latest"),
        ("web/Dockerfile", "localhost/web:latest"),
    ],
)
def test_an_image_has_a_name_of_its_own_here(chain: Chain, file: str, image: str) -> None:
    chain.write({file: "FROM scratch\n"})
    found = find_file(chain.top, "web")
    one = read_one(chain.top, found, Settings(), HOW, build_args={}, offered_args={})
    assert (found.file, one.images) == (file, (image,))
