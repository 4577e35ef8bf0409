import pytest

from containerfile.traps import ALL, Trap
from imagechain.containerfile import ContainerfileError, read_containerfile
from imagechain.refs import parse_platform


def read(trap: Trap) -> frozenset[str]:
    containerfile = read_containerfile(
        trap.file, build_args=trap.build_args, platform=parse_platform(trap.platform), target=trap.target
    )
    return frozenset(d.image for d in containerfile.dependencies if d.needed and d.image is not None)


@pytest.mark.parametrize("trap", [trap for trap in ALL if not trap.error], ids=lambda trap: trap.name)
def test_a_build_pulls_exactly_these_images(trap: Trap) -> None:
    assert read(trap) == trap.images


@pytest.mark.parametrize("trap", [trap for trap in ALL if trap.error], ids=lambda trap: trap.name)
def test_a_refused_file_says_why_and_where(trap: Trap) -> None:
    with pytest.raises(ContainerfileError) as caught:
        read(trap)
    assert trap.error in caught.value.message
    if trap.line is not None:
        assert caught.value.line == trap.line
