"""Files of images: os-release, history, layers, sources."""

from datetime import date
from importlib import resources
from pathlib import Path

import pytest

from imagechain.vetting.distribution import (
    Distribution,
    ReleasesError,
    Snapshot,
    Support,
    find_support,
    is_over,
    read_history,
    read_os_release,
    read_releases,
)
from imagechain.vetting.layers import LayerError, LayerFiles, read_layer, stack
from imagechain.vetting.sources import IndexAddress, alpine_indexes, debian_indexes
from vetting.archives import Pack, as_it_is, gz, layer, zstd


def test_os_release_is_read_with_its_quotes() -> None:
    text = '# x\nNAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nBROKEN="a\n'
    assert read_os_release(text) == Distribution("debian", "12", "bookworm")
    assert read_os_release("NAME=x\n") is None


def test_the_history_of_official_images_tells_their_archive() -> None:
    line = "RUN # debian.sh --arch 'amd64' out/ 'bookworm' '@1740355200'"
    assert read_history(["CMD x", line]) == Snapshot(Distribution("debian", "12", "bookworm"), 1740355200.0)
    assert read_history(["ADD alpine-minirootfs-3.21.3-x86_64.tar.gz / # buildkit"]) == Snapshot(
        Distribution("alpine", "3.21")
    )
    assert read_history(["RUN # debian.sh --arch 'amd64' out/ 'unheard-of' '@1'"]) == Snapshot(None, 1.0)
    assert read_history([]) == Snapshot()


def test_the_shipped_ends_of_life_can_be_read_and_are_found_by_less_of_a_version() -> None:
    releases = read_releases((resources.files("imagechain.vetting") / "releases.toml").read_text())
    assert find_support(releases, Distribution("debian", "12")) == Support(
        date(2026, 7, 11), date(2028, 6, 30)
    )
    assert find_support(releases, Distribution("alpine", "3.21.3")) == Support(date(2026, 11, 1))
    assert find_support(releases, Distribution("alpine", "3.1")) is None
    assert find_support(releases, Distribution("unheard-of", "1")) is None


def test_support_ends_after_its_last_day() -> None:
    support = Support(date(2026, 11, 1))
    assert not is_over(support, 1_793_577_599)
    assert is_over(support, 1_793_577_600)


def test_a_wrong_table_of_releases_says_what_is_wrong() -> None:
    with pytest.raises(ReleasesError, match="end"):
        read_releases('[debian]\n12 = {end = "x"}\n')


@pytest.mark.parametrize("pack", [gz, zstd, as_it_is])
def test_wanted_files_are_taken_out_of_a_layer(tmp_path: Path, pack: Pack) -> None:
    path = tmp_path / "layer"
    files = {
        "./etc/os-release": "ID=debian\n",
        "var/lib/dpkg/status.d/tzdata": "Package: tzdata\n",
        "etc/passwd": "root\n",
        "usr/.wh.lib": "",
        "opt/.wh..wh..opq": "",
    }
    path.write_bytes(layer(files, pack=pack))
    assert read_layer(path) == LayerFiles(
        {"etc/os-release": "ID=debian\n", "var/lib/dpkg/status.d/tzdata": "Package: tzdata\n"},
        ("usr/lib", "usr/lib/", "opt/"),
    )


@pytest.mark.parametrize("data", [b"", b"\x1f\x8bnot gzip", layer({"etc/os-release": str(2**9000)})[:200]])
def test_a_broken_layer_is_an_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "layer"
    path.write_bytes(data)
    with pytest.raises(LayerError):
        read_layer(path)


def test_upper_layers_win_and_remove() -> None:
    lower = LayerFiles(
        {"etc/os-release": "ID=a\n", "usr/lib/os-release": "ID=a\n", "lib/apk/db/installed": "x"}
    )
    upper = LayerFiles({"etc/os-release": "ID=b\n"}, ("usr/lib/", "lib/apk/db/installed"))
    assert stack([lower, upper]) == {"etc/os-release": "ID=b\n"}
    assert stack([upper, lower]) == lower.files


def test_both_styles_of_apt_sources_are_read() -> None:
    files = {
        "etc/apt/sources.list": "deb [signed-by=/x] http://a.example/debian bookworm main contrib # x\n"
        "deb-src http://a.example/debian bookworm main\n",
        "etc/apt/sources.list.d/debian.sources": "Types: deb\nURIs: http://s.example/debian-security/\n"
        "Suites: bookworm-security\nComponents: main\n non-free\n\nTypes: deb\nEnabled: no\nURIs: http://x.example\n"
        "Suites: y\nComponents: z\n",
        "etc/apt/sources.list.d/notes.txt": "deb http://no.example x y\n",
    }
    assert debian_indexes(files, "i386") == [
        IndexAddress(f"http://a.example/debian/dists/bookworm/{name}/binary-i386/Packages", is_security=False)
        for name in ("contrib", "main")
    ] + [
        IndexAddress(
            f"http://s.example/debian-security/dists/bookworm-security/{name}/binary-i386/Packages",
            is_security=True,
        )
        for name in ("main", "non-free")
    ]


def test_repositories_of_apk_are_read_without_tagged_ones() -> None:
    text = "https://a.example/v3.21/main\n#https://a.example/off\n@edge https://a.example/edge/main\n"
    assert alpine_indexes({"etc/apk/repositories": text}, "aarch64") == [
        IndexAddress("https://a.example/v3.21/main/aarch64/APKINDEX", is_security=True)
    ]


def test_repositories_of_apk_3_are_read_as_far_as_their_indexes_are() -> None:
    files = {
        "etc/apk/repositories": "v2 https://a.example/x main community\nndx https://a.example/y/own.tar.gz\n",
        "etc/apk/repositories.d/00.list": "set mirror=https://m.example\nv2 @edge https://no.example\n",
        "etc/apk/repositories.d/one.list": "${mirror}/${APK_ARCH}\n",
        "lib/apk/repositories.d/one.list": "https://hidden.example\n",
        "lib/apk/repositories.d/two.list": "set -default mirror=https://other.example\n${mirror}/z\n",
        "lib/apk/repositories.d/notes": "https://no.example\n",
    }
    assert [address.url for address in alpine_indexes(files, "x86_64")] == [
        "https://a.example/x/main/x86_64/APKINDEX",
        "https://a.example/x/community/x86_64/APKINDEX",
        "https://a.example/y/own",
        "https://m.example/x86_64/x86_64/APKINDEX",
        "https://m.example/z/x86_64/APKINDEX",
    ]


@pytest.mark.parametrize(
    "line", ["v3 https://a.example main", "ndx https://a.example/x.adb", "https://a/b.adb"]
)
def test_an_index_of_apk_3_is_named(line: str) -> None:
    with pytest.raises(LayerError, match="apk 3"):
        alpine_indexes({"etc/apk/repositories": line}, "x86_64")
