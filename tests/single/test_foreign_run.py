"""RUN for another architecture: by qemu where the kernel hands programs to it, else refused with a hint."""

import struct
from platform import machine

import pytest

from imagechain.cli.doctor_builders import examine_architectures
from single.shops import Shop

pytestmark = [
    pytest.mark.builds,
    pytest.mark.skipif(machine() != "x86_64", reason="the program of the test is foreign on x86_64 only"),
]

#: Makes the folder /made, on aarch64: mkdirat(AT_FDCWD, "/made", 0755), exit(0).
CODE = (0x92800C60, 0x100000E1, 0xD2803DA2, 0xD2800448, 0xD4000001, 0xD2800000, 0xD2800BA8, 0xD4000001)
CONTAINERFILE = 'FROM scratch\nCOPY program /program\nRUN ["/program"]\n'


def program() -> bytes:
    """Give a program without any library: an ELF header, one segment, and the code."""
    code = struct.pack("<8I", *CODE) + b"/made\0"
    start, headers = 0x400000, 64 + 56
    size = headers + len(code)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    elf = struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, start + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, size, size, 0x10000)
    return ident + elf + segment + code


@pytest.fixture
def foreign(shop: Shop) -> Shop:
    shop.write({"Containerfile": CONTAINERFILE})
    (shop.top / "program").write_bytes(program())
    (shop.top / "program").chmod(0o755)
    return shop.commit()


def test_run_for_another_architecture_gives_the_same_twice(foreign: Shop) -> None:
    if "aarch64" not in examine_architectures().text:
        pytest.skip("no qemu for aarch64 is registered here (Debian: qemu-user-static): it is not tested")
    digests = set()
    for job in ("one", "two"):
        repository = f"{foreign.repository}/{job}"
        foreign.pipeline(1, CI_REGISTRY_IMAGE=f"{foreign.registry.address}/{repository}")
        built = foreign.build("--platform=linux/arm64")
        assert not built.json["reused"]
        digests.add(built.json["digest"])
        config = foreign.registry.config(f"{repository}/project", "p-1-arm64")
        assert config["architecture"] == "arm64"
        assert len(config["rootfs"]["diff_ids"]) == 1
    assert len(digests) == 1


def test_a_build_that_fails_for_another_architecture_says_where_to_look(foreign: Shop) -> None:
    foreign.write({"Containerfile": CONTAINERFILE + 'RUN ["/missing"]\n'})
    built = foreign.build("--platform=linux/arm64")
    assert built.code == 1
    assert "RUN for linux/arm64 needs qemu" in built.said
    assert "imagechain doctor" in built.said
    foreign.write({"Containerfile": 'FROM BASE\nRUN ["/missing"]\n'})
    assert "qemu" not in foreign.build().said
