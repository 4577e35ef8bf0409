"""Bytes from elsewhere: packed in any way, in parts, too many, broken."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.vetting import unpack
from imagechain.vetting.unpack import UnpackError, members, unpacking
from vetting.archives import Pack, as_it_is, chunked, gz, in_parts, tar, zstd

FILES = {"a": b"first", "folder/b": b"second" * 1_000, "c": b""}


PACKS = [as_it_is, gz, zstd, lzma.compress, bz2.compress]


def read(data: bytes, bytes_max: int = 1_000_000) -> dict[str, bytes]:
    with unpacking(io.BytesIO(data), bytes_max) as unpacked:
        return {name: file.read() for name, _, file in members(unpacked) if file is not None}


@pytest.mark.parametrize("pack", [*PACKS, *map(in_parts, PACKS[1:]), chunked])
def test_all_of_an_archive_is_read_however_it_is_packed(pack: Pack) -> None:
    assert read(pack(tar(FILES))) == FILES


@pytest.mark.parametrize("pack", PACKS)
def test_what_unpacks_to_more_than_may_be_is_not_unpacked(pack: Pack) -> None:
    data = tar({"large": bytes(1_000_000)})
    with pytest.raises(UnpackError, match="unpacks to more than 1000000 bytes"):
        read(pack(data))
    assert read(pack(data), len(data)) == {"large": bytes(1_000_000)}


def test_a_bomb_costs_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    # 64 MB in 64 KB; it is in front of what is wanted, so that it has to be skipped.
    bomb = gz(tar({"bomb": bytes(64 * 1024 * 1024), "wanted": b"x"}))
    assert len(bomb) < 100_000
    given_out = 0
    original = gzip.GzipFile.read

    def counting(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal given_out
        data = original(file, size)
        given_out += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    with pytest.raises(UnpackError, match="unpacks to more than"):
        read(bomb, 2_000_000)
    assert given_out <= 2_000_001


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory_is_refused(kind: bytes) -> None:
    header = tarfile.TarInfo("header")
    header.type, header.size = kind, 8 * 1024 * 1024
    with pytest.raises(UnpackError, match="a header in it is larger"):
        read(header.tobuf() + bytes(header.size), 16_000_000)


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MEMBERS_MAX", 2)
    with pytest.raises(UnpackError, match="more than 2 files"):
        read(tar(FILES))


@pytest.mark.parametrize("pack", PACKS[1:])
def test_an_archive_cut_short_anywhere_is_an_error(pack: Pack) -> None:
    data = pack(tar({"a": os.urandom(3_000)}))
    for length in (6, 20, len(data) // 2, len(data) - 20):
        with (
            pytest.raises(UnpackError),
            unpacking(io.BytesIO(data[:length]), 1_000_000) as unpacked,
        ):
            unpacked.read()


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([as_it_is, gz, zstd]),
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 255)), max_size=6),
)
def test_bytes_that_are_not_what_they_should_be_raise_nothing_else(
    pack: Pack, changes: list[tuple[int, int]]
) -> None:
    inner = bytearray(tar({"a": b"x", "b" * 90: b"y"}))
    for at, value in changes:
        inner[at % len(inner)] = value
    packed = bytearray(pack(bytes(inner)))
    for at, value in changes[:2]:
        packed[at % len(packed)] = value
    with contextlib.suppress(UnpackError):
        read(bytes(packed))


@given(st.binary(max_size=2_000))
def test_no_bytes_at_all_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(UnpackError):
        read(data)
