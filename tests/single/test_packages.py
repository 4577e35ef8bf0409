"""Packages of apt and dnf are the same twice with the blocks; without them, `image diff` says why."""

import json
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from imagechain.cli.main import run
from images.stores import buildah
from single.shops import Registry, Shop

pytestmark = pytest.mark.builds

#: As of the machine's own apt, so that its mirrors are used.
SOURCES = """\
apt-get indextargets --format 'deb [trusted=yes] $(REPO_URI) $(CODENAME) main' \
'Created-By: Packages' 'Component: main' 'Origin: Debian' | grep -v -e ' file:' -e backports | sort -u
"""
APT_INSTALL = "RUN apt-get update -qq && apt-get install -qq --no-install-recommends hello >/dev/null\n"
DNF_INSTALL = """\
RUN dnf install --assumeyes --quiet --nogpgcheck --repofrompath=ours,/ours '--disablerepo=*' \
    --enablerepo=ours --releasever=1 hello-once
# As dnf 5 does, which Debian 12 has not.
RUN mkdir -p /usr/lib/sysimage/libdnf5 && date +%N >/usr/lib/sysimage/libdnf5/transaction_history.sqlite
"""
SPEC = """\
Name: hello-once
Version: 1
Release: 1
Summary: A greeting
License: MIT
BuildArch: noarch
%description
A greeting.
%install
mkdir -p %{buildroot}/opt
echo hello > %{buildroot}/opt/hello
%files
/opt/hello
"""
BASE = """\
FROM scratch
ADD rootfs.tar /
COPY hello.spec /ours/
RUN cd /ours && rpmbuild --quiet -bb --define "_topdir /tmp/top" --define "_rpmdir /ours" hello.spec && \
    createrepo_c --quiet /ours
"""


class Debian(msgspec.Struct, frozen=True):
    """An image with apt, mmdebstrap, dnf and a repository for it in the registry."""

    name: str
    sources: str
    suite: str


@pytest.fixture(scope="module")
def debian(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Debian:
    if not all(map(shutil.which, ("apt-get", "mmdebstrap"))):
        pytest.skip("apt and mmdebstrap are not installed: no image with packages is tested")
    sources = subprocess.run(["sh", "-c", SOURCES], check=True, capture_output=True, text=True).stdout
    suite = min((line.split()[3] for line in sources.splitlines()), key=len, default="")
    if not suite:
        pytest.skip("apt knows no archive of Debian here: no image with packages is tested")
    folder = tmp_path_factory.mktemp("debian")
    programs = "--include=mmdebstrap,dnf,rpm,createrepo-c"
    argv = ["mmdebstrap", "--quiet", "--variant=apt", programs, "--skip=output/dev"]
    subprocess.run(
        [*argv, suite, folder / "rootfs.tar", "-"], input=sources.encode(), check=True, capture_output=True
    )
    (folder / "hello.spec").write_text(SPEC)
    (folder / "Containerfile").write_text(BASE)
    name = f"{registry.address}/debian"
    buildah("build", "--quiet", f"--tag={name}", str(folder))
    buildah("push", "--quiet", "--tls-verify=false", name)
    return Debian(name, sources, suite)


def test_a_debian_from_scratch_has_our_sources_and_our_ca(shop: Shop, tmp_path: Path, debian: Debian) -> None:
    shop.write(
        {
            "builds/base.in": '#include "debian-from-scratch"\n#include "cleanup"\n',
            "debian/sources.list": debian.sources,
        }
    )
    new_certificate = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ours")
    places = ("-keyout", tmp_path / "key.pem", "-out", shop.top / "debian" / "ours.crt")
    subprocess.run([*new_certificate, *places], check=True, capture_output=True)
    shop.commit().pipeline(1)
    arguments = (f"--build-arg=DEBIAN_BUILDER={debian.name}", f"--build-arg=DEBIAN_SUITE={debian.suite}")
    built = shop.build("base", *arguments)
    container = buildah("from", "--pull-never", built.json["names"][0]).strip()
    read = ("run", container, "--")
    certificates = buildah(*read, "cat", "/etc/ssl/certs/ca-certificates.crt")
    assert (shop.top / "debian" / "ours.crt").read_text() in certificates
    lists = buildah(*read, "grep", "--recursive", "--no-filename", "^deb ", "/etc/apt")
    assert sorted(lists.splitlines()) == sorted(debian.sources.splitlines())
    buildah("rm", container)


def test_packages_of_apt_are_the_same_twice_after_the_cleanup(
    shop: Shop, debian: Debian, capfd: pytest.CaptureFixture[str]
) -> None:
    begin = f"FROM {debian.name}\n"
    files = differing_files(
        shop, capfd, clean=f'{begin}{APT_INSTALL}#include "cleanup"\n', unclean=begin + APT_INSTALL
    )
    assert {"var/log/apt/history.log", "var/log/dpkg.log"} <= files


def test_packages_of_dnf_are_the_same_twice_after_the_cleanup(
    shop: Shop, debian: Debian, capfd: pytest.CaptureFixture[str]
) -> None:
    """The database of rpm tells when a package was installed, unless the base's block says the time."""
    files = differing_files(
        shop,
        capfd,
        f"--build-arg=BASE_IMAGE={debian.name}",
        clean=f'#include "setup-from-base"\n{DNF_INSTALL}#include "cleanup"\n',
        unclean=f"FROM {debian.name}\n{DNF_INSTALL}",
    )
    # Debian's rpm has its database elsewhere than Fedora's.
    assert {"root/.rpmdb/rpmdb.sqlite", "var/log/dnf.log"} <= files


def differing_files(shop: Shop, capfd: pytest.CaptureFixture[str], *arguments: str, **files: str) -> set[str]:
    """Build both files twice: the clean one is the same; give the files in which the other one differs."""
    shop.write({f"builds/{name}.in": text for name, text in files.items()}).commit()
    digests: dict[str, set[str]] = {name: set() for name in files}
    for job in ("one", "two"):
        shop.pipeline(1, CI_REGISTRY_IMAGE=f"{shop.registry.address}/{shop.repository}/{job}")
        for image, found in digests.items():
            found.add(shop.build(image, *arguments).json["digest"])
    assert len(digests["clean"]) == 1
    assert len(digests["unclean"]) == 2
    images = [f"{shop.registry.address}/{shop.repository}/{job}/unclean:p-1" for job in ("one", "two")]
    capfd.readouterr()
    assert run(["image", "diff", *images, "--dir", str(shop.top), "--format=json"]) == 1
    return {file["path"] for file in json.loads(capfd.readouterr().out)["files"]}
