import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.vetting.packages import (
    Index,
    Lagging,
    Package,
    architecture_of,
    compare_debian,
    is_any_known,
    lagging_alpine,
    lagging_debian,
    read_apk,
    read_debian_index,
    read_dpkg_status,
)

STATUS = """\
Package: base-files
Status: install ok installed
Architecture: amd64
Version: 12.4+deb12u5
Description: Debian base system miscellaneous files
 Version: 9 is written in a description, too.

Package: old-one
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2024a-0+deb12u1
"""

upstream = st.text("0123456789abzAZ.+~", min_size=1, max_size=8).map(lambda text: f"1{text}")
versions = st.builds(
    lambda epoch, version, revision: f"{epoch}{version}{revision}",
    st.sampled_from(["", "0:", "1:"]),
    upstream,
    st.sampled_from(["", "-1", "-1~bpo12+1", "-1+deb12u2", "-0.1", "-01"]),
)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is the oracle, and is not here")
@given(versions, versions)
@settings(max_examples=150, deadline=None)
def test_versions_are_compared_as_dpkg_does(left: str, right: str) -> None:
    compared = compare_debian(left, right)
    relation = "lt" if compared < 0 else "gt" if compared > 0 else "eq"
    assert subprocess.run(["dpkg", "--compare-versions", left, relation, right], check=False).returncode == 0


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1-1", "1.0-1"),
        ("1.0-1", "1.0-1+deb12u1"),
        ("9.9-1", "1:1.0-1"),
        ("1.2-9", "1.10-1"),
        ("2.36-9+deb12u9", "2.36-9+deb12u10"),
        ("1.0a", "1.0+"),
    ],
)
def test_known_orders(older: str, newer: str) -> None:
    assert compare_debian(older, newer) < 0 < compare_debian(newer, older)


def test_dpkg_status_names_what_is_installed_only() -> None:
    assert read_dpkg_status(STATUS) == [
        Package("base-files", "12.4+deb12u5", "amd64"),
        Package("tzdata", "2024a-0+deb12u1", "all"),
    ]


def test_a_file_of_status_d_has_no_status() -> None:
    text = "Package: libc6\nVersion: 2.36-9\nArchitecture: arm64\n"
    assert read_dpkg_status(text) == [Package("libc6", "2.36-9", "arm64")]


def test_security_updates_are_told_from_others() -> None:
    installed = [Package("a", "1-1", "amd64"), Package("b", "1-1", "amd64"), Package("c", "1-1", "amd64")]
    main = Index(packages=(Package("a", "1-2", "amd64"), Package("c", "1-1", "amd64")), is_security=False)
    security = Index(packages=(Package("b", "1-1+deb12u1", "amd64"),), is_security=True)
    assert lagging_debian(installed, [main, security]) == [
        Lagging("a", "1-1", "1-2", is_security=False),
        Lagging("b", "1-1", "1-1+deb12u1", is_security=True),
    ]


def test_an_update_that_went_from_security_to_a_point_release_is_still_one() -> None:
    installed = [Package("b", "1-1", "amd64")]
    update = (Package("b", "1-1+deb12u1", "amd64"),)
    both = [Index(packages=update, is_security=False), Index(packages=update, is_security=True)]
    assert lagging_debian(installed, both) == lagging_debian(installed, reversed(both))
    assert lagging_debian(installed, both)[0].is_security


def test_a_version_that_is_newer_than_the_archive_is_not_behind() -> None:
    index = Index(packages=(Package("a", "1-1", "amd64"),), is_security=False)
    assert lagging_debian([Package("a", "1-1~bpo1", "amd64")], [index]) != []
    assert lagging_debian([Package("a", "1-2", "amd64")], [index]) == []


def test_packages_of_another_architecture_are_not_compared() -> None:
    index = Index(packages=(Package("a", "2", "arm64"),), is_security=True)
    assert lagging_debian([Package("a", "1", "amd64")], [index]) == []


def test_an_index_of_debian_is_read() -> None:
    text = "Package: a\nArchitecture: amd64\nVersion: 1:2-3\nFilename: pool/a\n\nPackage: b\nVersion: 4\n"
    assert read_debian_index(text) == [Package("a", "1:2-3", "amd64"), Package("b", "4")]


def test_packages_of_alpine_are_behind_when_no_repository_has_their_version() -> None:
    installed = read_apk("C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\n\nP:zlib\nV:1.3-r0\n\nP:mine\nV:1\n\n")
    assert installed[0] == Package("musl", "1.2.4-r2", "x86_64")
    index = Index(packages=tuple(read_apk("P:musl\nV:1.2.4-r3\n\nP:zlib\nV:1.3-r0\n")), is_security=True)
    assert lagging_alpine(installed, [index]) == [Lagging("musl", "1.2.4-r2", "1.2.4-r3", is_security=True)]


def test_the_architecture_of_an_image_is_that_of_most_of_its_packages() -> None:
    packages = [("libc6", "i386"), ("dpkg", "amd64"), ("tar", "amd64"), *((name, "all") for name in "abc")]
    assert architecture_of(Package(name, "1", found) for name, found in packages) == "amd64"
    assert architecture_of([Package("scripts", "1", "noarch")]) == ""


def test_nothing_is_compared_where_no_index_has_any_of_the_packages() -> None:
    index = Index(packages=(Package("a", "1", "amd64"),), is_security=True)
    assert is_any_known([Package("b", "1"), Package("a", "9")], [index])
    assert not is_any_known([Package("b", "1")], [index])
    assert not is_any_known([Package("b", "1")], [])
