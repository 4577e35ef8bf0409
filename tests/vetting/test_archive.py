"""Indexes of package archives as their servers send them, and what else servers send."""

import asyncio
import bz2
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2
import pytest

from imagechain.vetting import archive as archive_module
from imagechain.vetting.archive import Archive, ArchiveError
from imagechain.vetting.packages import Package
from imagechain.vetting.sources import IndexAddress
from vetting.archives import apkindex, gz, signed, tar

#: As it is in Alpine's: more fields than are read, and a blank line after each package.
PACKAGES = """\
C:Q1p78yvTLG094tHE1+dToJGbmYzQE=
P:musl
V:1.2.5-r9
A:x86_64
S:406789
I:667648
T:the musl c library (libc) implementation
U:https://musl.libc.org/
L:MIT
o:musl
m:Natanael Copa <ncopa@alpinelinux.org>
t:1738858263
c:8b48a2f0c1e3d4b5a69788796a5b4c3d2e1f0a9b
p:so:libc.musl-x86_64.so.1=1

C:Q1hash9W2hYbFZ3qmMkBDQvVTJ5rHk=
P:zlib
V:1.3.1-r2
A:x86_64
D:so:libc.musl-x86_64.so.1
p:so:libz.so.1=1.3.1

"""
MUSL_AND_ZLIB = (Package("musl", "1.2.5-r9", "x86_64"), Package("zlib", "1.3.1-r2", "x86_64"))
URL = "http://apk.example/v3.21/main/x86_64/APKINDEX"
DEBIAN_URL = "http://deb.example/dists/x/main/binary-amd64/Packages"


def sent(body: bytes) -> httpx2.Response:
    return httpx2.Response(200, stream=httpx2.ByteStream(body))


def read(
    files: Mapping[str, bytes],
    url: str = URL,
    *,
    mirrors: Mapping[str, str] | None = None,
    asked: list[str] | None = None,
) -> tuple[Package, ...]:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if asked is not None:
            asked.append(str(request.url))
        body = files.get(str(request.url))
        return httpx2.Response(404) if body is None else sent(body)

    return ask(answer, url, mirrors=mirrors)


def ask(
    answer: Callable[[httpx2.Request], httpx2.Response],
    url: str = URL,
    *,
    mirrors: Mapping[str, str] | None = None,
) -> tuple[Package, ...]:
    async def run() -> tuple[Package, ...]:
        async with Archive(mirrors or {}, httpx2.MockTransport(answer)) as archive:
            addresses = [IndexAddress(url, is_security=True)] * 2
            first, second = await archive.indexes(addresses, is_alpine=url.endswith("APKINDEX"))
            assert first == second
            return first.packages

    return asyncio.run(run())


def test_a_signed_index_of_alpine_is_read(tmp_path: Path) -> None:
    assert read({f"{URL}.tar.gz": signed(apkindex(PACKAGES), tmp_path)}) == MUSL_AND_ZLIB


def test_so_is_one_that_nobody_signed() -> None:
    assert read({f"{URL}.tar.gz": apkindex(PACKAGES)}) == MUSL_AND_ZLIB


def test_so_is_one_whose_signature_ends_as_an_archive_does() -> None:
    signature = gz(tar({".SIGN.RSA.key.rsa.pub": b"signature"}))
    assert read({f"{URL}.tar.gz": signature + apkindex(PACKAGES)}) == MUSL_AND_ZLIB


def test_an_index_is_fetched_once_however_many_images_name_it(tmp_path: Path) -> None:
    asked: list[str] = []
    read({f"{URL}.tar.gz": apkindex(PACKAGES)}, asked=asked)
    assert asked == [f"{URL}.tar.gz"]


def test_an_index_cut_short_anywhere_is_never_taken_for_a_shorter_one(tmp_path: Path) -> None:
    data = signed(apkindex(PACKAGES * 40), tmp_path)
    for length in range(0, len(data), 7):
        with pytest.raises(ArchiveError, match=r"APKINDEX\.tar\.gz"):
            read({f"{URL}.tar.gz": data[:length]})


def test_an_index_with_a_changed_byte_is_broken() -> None:
    data = bytearray(apkindex(PACKAGES))
    data[-6] ^= 1  # of the checksum of gzip
    with pytest.raises(ArchiveError, match="is broken: it cannot be unpacked"):
        read({f"{URL}.tar.gz": bytes(data)})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"<html>Please log in to this network</html>", "is broken"),
        (gz(b"<html>Please log in to this network</html>" * 50), "is broken"),
        (gz(tar({"DESCRIPTION": "v3.21", "Packages": PACKAGES})), "holds no APKINDEX"),
        (gz(tar({"APKINDEX": "<html>\nno index\n</html>"})), "is no index of packages"),
    ],
    ids=["page", "packed page", "other archive", "other content"],
)
def test_what_is_no_index_is_told_and_does_not_pass_for_an_empty_one(data: bytes, told: str) -> None:
    with pytest.raises(ArchiveError, match=told):
        read({f"{URL}.tar.gz": data})


def test_an_empty_index_is_one() -> None:
    assert read({f"{URL}.tar.gz": apkindex("")}) == ()
    assert read({f"{DEBIAN_URL}.xz": lzma.compress(b"")}, DEBIAN_URL) == ()


def test_an_index_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "INDEX_UNPACKED_BYTES_MAX", 100_000)
    bomb = apkindex(PACKAGES, description="x" * 1_000_000)
    assert len(bomb) < 10_000
    with pytest.raises(ArchiveError, match="unpacks to more than 100000 bytes"):
        read({f"{URL}.tar.gz": bomb})


def test_an_index_that_is_too_large_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "INDEX_BYTES_MAX", 100)
    with pytest.raises(ArchiveError, match="larger than 100 bytes"):
        read({f"{URL}.tar.gz": bytes(200)})


@pytest.mark.parametrize("ending", ["xz", "gz", "bz2"])
def test_an_index_of_debian_is_read_however_it_is_packed(ending: str) -> None:
    text = b"Package: a\nArchitecture: amd64\nVersion: 1:2-3\n"
    pack = {"xz": lzma.compress, "gz": gz, "bz2": bz2.compress}[ending]
    assert read({f"{DEBIAN_URL}.{ending}": pack(text)}, DEBIAN_URL) == (Package("a", "1:2-3", "amd64"),)


def test_a_page_in_place_of_an_index_of_debian_is_told() -> None:
    with pytest.raises(ArchiveError, match="is no index of packages"):
        read({f"{DEBIAN_URL}.xz": b"<html>Please log in to this network</html>"}, DEBIAN_URL)


def test_a_mirror_is_asked_in_place_of_the_archive() -> None:
    asked: list[str] = []
    with pytest.raises(ArchiveError, match=r"^http://mirror\.example/alpine/main"):
        read({}, mirrors={"http://apk.example/v3.21": "http://mirror.example/alpine"}, asked=asked)
    assert asked == ["http://mirror.example/alpine/main/x86_64/APKINDEX.tar.gz"]


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_a_server_that_fails_is_told(status: int) -> None:
    with pytest.raises(ArchiveError, match=f"status {status}"):
        ask(lambda _: httpx2.Response(status))


def test_a_server_that_breaks_off_is_told() -> None:
    def breaks(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("connection reset", request=request)

    with pytest.raises(ArchiveError, match=r"connection reset; name a mirror in vet\.archives"):
        ask(breaks)


def test_nothing_is_packed_for_the_way_so_that_digests_and_bounds_are_of_the_file() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["accept-encoding"] == "identity"
        return sent(apkindex(PACKAGES))

    assert ask(answer) == MUSL_AND_ZLIB
