"""What `imagechain vet` finds in the layers of images: in a real registry, with an archive on loopback."""

import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from disks import small_disk
from imagechain.vetting import inside, layers
from registry.pictures import make_image
from registry.servers import Server
from vetting.archives import (
    Pack,
    apkindex,
    as_it_is,
    chunked,
    gz,
    in_parts,
    layer,
    serve,
    signed,
    zstd,
)
from vetting.test_archive import PACKAGES as APKINDEX
from vetting.vetted import OS_RELEASE, settings, vet_json

__all__ = ["settings"]

STATUS = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.0.1-1\n"
DEBIAN = {
    **OS_RELEASE,
    "var/lib/dpkg/status": STATUS.format("libssl3"),
    "etc/apt/sources.list": "deb http://deb.example/debian-security trixie-security main\n",
}
DEBIAN_INDEX = "/debian-security/dists/trixie-security/main/binary-amd64/Packages.gz"
UPDATE = gz(b"Package: libssl3\nArchitecture: amd64\nVersion: 3.0.1-1+deb13u1\n")
ONE_MISSING = "1 security updates are missing: libssl3 3.0.1-1+deb13u1"

#: The fields of apk's database of an Alpine image, of two packages and a file.
ALPINE_INSTALLED = """\
C:Q1p78yvTLG094tHE1+dToJGbmYzQE=
P:musl
V:1.2.5-r8
A:x86_64
S:406789
I:667648
T:the musl c library (libc) implementation
p:so:libc.musl-x86_64.so.1=1
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755
Z:Q1Wq6pFMqo8FxtGUXGyfgPkd2SB/k=

C:Q1hash9W2hYbFZ3qmMkBDQvVTJ5rHk=
P:zlib
V:1.3.1-r2
A:x86_64

"""
ALPINE = {
    "etc/os-release": 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.22.2\n',
    "lib/apk/db/installed": ALPINE_INSTALLED,
    "etc/apk/repositories": "https://apk.example/v3.22/main\n#https://apk.example/v3.22/community\n",
}


def want_packages(settings: Path, here: str, there: str) -> None:
    with settings.open("a") as file:
        file.write(f'[vet.archives]\n"{here}" = "{there}"\n')
        file.write("[vet.policies.default]\nsecurity_updates_max = 0\n")


def rule(found: dict[str, object], name: str = "security_updates_max") -> tuple[str, str]:
    [finding] = [each for each in found["findings"] if each["rule"] == name]  # type: ignore[attr-defined]
    return finding["outcome"], finding["message"]


@pytest.mark.parametrize(
    "pack",
    [as_it_is, gz, zstd, chunked, in_parts(gz)],
    ids=["tar", "gzip", "zstd", "zstd:chunked", "eStargz"],
)
def test_missing_security_updates_are_named_however_the_layers_are_packed(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str], pack: Pack
) -> None:
    image = make_image(layers=[layer(DEBIAN, pack=pack), layer({"opt/x": "y"}, pack=pack)])
    open_registry.push("app", image, "5")
    with serve({DEBIAN_INDEX: UPDATE}) as url:
        want_packages(settings, "http://deb.example", url)
        code, [found] = vet_json(capsys, f"{open_registry.address}/app:5")
    assert (code, rule(found)) == (1, ("violated", ONE_MISSING))
    assert found["distribution"] == "debian 13"


def test_packages_of_alpine_are_compared_with_its_signed_index(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    open_registry.push("alpine", make_image(layers=[layer(ALPINE)]), "3")
    path = "/v3.22/main/x86_64/APKINDEX.tar.gz"
    with serve({path: signed(apkindex(APKINDEX), settings.parent)}) as url:
        want_packages(settings, "https://apk.example", url)
        code, [found] = vet_json(capsys, f"{open_registry.address}/alpine:3")
    assert code == 1
    assert rule(found) == ("violated", "1 security updates are missing: musl 1.2.5-r9")
    assert rule(found, "supported")[1].startswith("alpine 3.22.2 is supported until")


def test_packages_of_alpine_that_are_all_in_the_index_are_up_to_date(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    upper = {"lib/apk/db/installed": ALPINE_INSTALLED.replace("1.2.5-r8", "1.2.5-r9")}
    open_registry.push("alpine", make_image(layers=[layer(ALPINE), layer(upper)]), "up-to-date")
    with serve({"/v3.22/main/x86_64/APKINDEX.tar.gz": apkindex(APKINDEX)}) as url:
        want_packages(settings, "https://apk.example", url)
        _, [found] = vet_json(capsys, f"{open_registry.address}/alpine:up-to-date")
    assert rule(found) == ("pass", "0 security updates are missing")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "is not there"),
        ({DEBIAN_INDEX: b"<html>log in</html>"}, "is no index of packages"),
        ({DEBIAN_INDEX: UPDATE[:-12]}, "is broken"),
        ({DEBIAN_INDEX: gz(b"Package: other\nArchitecture: amd64\nVersion: 1\n")}, "none of its 1 packages"),
        ({DEBIAN_INDEX: gz(b"")}, "none of its 1 packages"),
    ],
    ids=["absent", "page", "cut short", "of something else", "empty"],
)
def test_an_archive_that_tells_nothing_of_the_packages_is_no_pass(
    settings: Path,
    open_registry: Server,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, bytes],
    told: str,
) -> None:
    open_registry.push("app", make_image(layers=[layer(DEBIAN)]), "6")
    with serve(files) as url:
        want_packages(settings, "http://deb.example", url)
        code, [found] = vet_json(capsys, f"{open_registry.address}/app:6")
    outcome, message = rule(found)
    assert (code, outcome) == (1, "unknown")
    assert told in message


def test_an_archive_that_does_not_answer_is_no_pass(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    open_registry.push("app", make_image(layers=[layer(DEBIAN)]), "6")
    want_packages(settings, "http://deb.example", "http://127.0.0.1:9")
    _, [found] = vet_json(capsys, f"{open_registry.address}/app:6")
    assert rule(found)[0] == "unknown"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"opt/x": "y"}, "neither dpkg's nor apk's list"),
        ({"var/lib/dpkg/status": STATUS.format("a")}, "name no package archive"),
        ({**ALPINE, "etc/apk/repositories": "v3 https://apk.example main\n"}, "format of apk 3"),
    ],
)
def test_an_image_whose_packages_cannot_be_compared_says_why(
    settings: Path,
    open_registry: Server,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str],
    told: str,
) -> None:
    open_registry.push("app", make_image(layers=[layer(files)]), "7")
    want_packages(settings, "http://deb.example", "http://127.0.0.1:9")
    _, [found] = vet_json(capsys, f"{open_registry.address}/app:7")
    outcome, message = rule(found)
    assert outcome == "unknown"
    assert told in message


def test_a_layer_that_cannot_be_read_is_named_with_the_reason(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = zstd(b"no archive" * 100)[:-9]
    image = make_image(layers=[broken])
    open_registry.push("app", image, "8")
    _, [found] = vet_json(capsys, f"{open_registry.address}/app:8")
    outcome, message = rule(found, "supported")
    assert outcome == "unknown"
    assert "it is not known which distribution it holds: layer sha256:" in message
    assert "cannot be unpacked" in message


@pytest.mark.parametrize(
    ("module", "bound", "value", "told"),
    [
        (layers, "LAYER_UNPACKED_BYTES_MAX", 1_000, "unpacks to more than 1000 bytes"),
        (layers, "WANTED_BYTES_MAX", 100, "have more than 100 bytes"),
        (inside, "LAYER_BYTES_MAX", 10, "larger than 10 bytes"),
    ],
    ids=["unpacked", "lists of packages", "as it is kept"],
)
def test_a_layer_beyond_a_bound_is_no_pass(
    settings: Path,
    open_registry: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    module: ModuleType,
    bound: str,
    value: int,
    told: str,
) -> None:
    monkeypatch.setattr(module, bound, value)
    files = {f"var/lib/dpkg/status.d/{number}": STATUS.format(number) for number in range(3)}
    open_registry.push("app", make_image(layers=[layer({**OS_RELEASE, **files})]), "9")
    want_packages(settings, "http://deb.example", "http://127.0.0.1:9")
    _, [found] = vet_json(capsys, f"{open_registry.address}/app:9")
    for name in ("supported", "security_updates_max"):
        outcome, message = rule(found, name)
        assert outcome == "unknown"
        assert told in message


def test_a_full_disk_is_told_as_that_and_not_as_a_failure_of_the_registry(
    settings: Path,
    open_registry: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with small_disk(settings.parent / "small", 64) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        image = make_image(layers=[layer({**OS_RELEASE, "opt/x": "x" * 200_000}, pack=as_it_is)])
        open_registry.push("app", image, "12")
        _, [found] = vet_json(capsys, f"{open_registry.address}/app:12")
    outcome, message = rule(found, "supported")
    assert outcome == "unknown"
    assert "No space left on device; let TMPDIR name a folder with room" in message
