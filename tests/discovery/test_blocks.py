"""The blocks that come with imagechain, and those of a repository, which win."""

import shutil
from pathlib import Path

import pytest

from discovery.trees import Chain
from imagechain.config import Settings
from imagechain.discovery.one import find_file, read_one
from imagechain.discovery.reading import HowToRead
from imagechain.refs import Platform

pytestmark = pytest.mark.skipif(shutil.which("cpp") is None, reason="the C preprocessor cpp is not installed")

APPLICATION = '#include "setup-from-base"\n#include "python-requirements"\n#include "cleanup"\n'
NAMED = "#define BASE_IMAGE_NAME registry.example.com/images/base\n"
HOW = HowToRead(platform=Platform("linux", "amd64"), build_platform=None, target=None, dialect="buildah")
BLOCKS = Path(__file__).parents[2] / "src/imagechain/discovery/blocks"


def test_scan_sees_the_text_that_is_built_and_what_the_blocks_are_built_from(chain: Chain) -> None:
    chain.write({"builds/web.in": NAMED + APPLICATION})
    found = chain.discover()
    assert found.problems == ()
    (edge,) = found.dependencies
    assert edge.image == "registry.example.com/images/base:latest"
    assert edge.file == "<imagechain>/setup-from-base"
    place, offered = find_file(chain.top, "web"), {"BASE_IMAGE_TAG": "7", "OTHER": "8"}
    one = read_one(chain.top, place, Settings(), HOW, build_args={}, offered_args=offered)
    assert one.text == found.projects["builds:web"].text
    assert str(BLOCKS).encode() not in one.text
    (located,) = one.dependencies
    assert located.dependency.image == "registry.example.com/images/base:7"
    assert one.build_args == {"BASE_IMAGE_TAG": "7"}, "only what the file declares is taken"


@pytest.mark.parametrize("place", ["includes/cleanup", "builds/cleanup", "cleanup"])
def test_a_block_of_the_repository_wins(chain: Chain, place: str) -> None:
    chain.write({"builds/web.in": 'FROM scratch\n#include "cleanup"\n', place: "RUN own\n"})
    assert b"RUN own" in chain.discover().projects["builds:web"].text


@pytest.mark.parametrize("block", sorted(file.name for file in BLOCKS.iterdir()))
def test_no_block_is_cut_by_the_preprocessor(chain: Chain, block: str) -> None:
    chain.write({"builds/web.in": f'{NAMED}#include "{block}"\n'})
    words = chain.discover().projects["builds:web"].text.decode().split()
    instructions = (BLOCKS / block).read_text().partition("*/\n")[2]
    assert "/*" not in instructions
    if block == "setup-from-base":
        assert words[:3] == ["ARG", "BASE_IMAGE=registry.example.com/images/base", "ARG"]
    else:
        assert words == instructions.replace("\\\n", " ").split()
