"""The same commit gives the same digest, whatever differs around it."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images.stores import buildah, make_store, remove_store
from single.shops import PROGRAM, Shop

pytestmark = pytest.mark.builds

#: What is built, and with which arguments.
RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("FROM BASE\nCOPY . /app/\nRUN date > /dev/null; mkdir -p /a/b; echo x > /a/b/c\n", ()),
    "stages": (
        "FROM BASE AS one\nRUN echo 1 > /one\nFROM BASE\nCOPY --from=one /one /\nCOPY data /data/\n",
        (),
    ),
    "docker-format": ("FROM BASE\nCOPY data /data/\nHEALTHCHECK CMD true\nRUN echo > /x\n", ()),
    "preprocessed": ('#include "block"\nCOPY data /data/\n', ()),
    "foreign": ("FROM scratch\nCOPY data /data/\nENV A=b\n", ("--platform=linux/arm64",)),
}


def prepare(shop: Shop, recipe: str) -> tuple[str, ...]:
    text, arguments = RECIPES[recipe]
    name = "builds/app.in" if recipe == "preprocessed" else "app/Containerfile"
    context = "" if recipe == "preprocessed" else "app/"
    shop.write({name: text, "includes/block": "FROM BASE\nRUN echo block > /block\n"})
    shop.write({f"{context}data/{name}": f"{name}\n" * 1000 for name in "cab"})
    (shop.top / f"{context}data/a").chmod(0o755)
    shop.commit()
    return arguments


def loosen(top: Path) -> None:
    """Check out as GitLab's runner does: with the umask 0000, as another user, and at another time."""
    for path in [*top.rglob("*")]:
        if not path.is_symlink() and ".git" not in path.parts:
            path.chmod(0o777 if path.is_dir() or path.stat().st_mode & 0o100 else 0o666)
            os.utime(path, (1, 1))
            os.chown(path, 1001, 1001)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_laptop_and_a_job_build_the_same(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    arguments = prepare(shop, recipe)
    assert shop.build("app", *arguments).code == 0
    address = shop.registry.address
    shop.settings += f'[[image.registry]]\naddress = "{address}/{shop.repository}/laptop"\n'
    laptop = shop.build("app", *arguments, "--push", "--tag=x", "--rebuild")
    assert laptop.code == 2, "the settings on disk name no registry"
    monkeypatch.setenv("CI_REGISTRY_IMAGE", f"{address}/{shop.repository}/laptop")
    laptop = shop.build("app", *arguments, "--push", "--tag=x")

    job = shop.clone(tmp_path / "elsewhere" / "deeper")
    loosen(job.top)
    job.git("remote", "set-url", "origin", "https://gitlab-ci-token:x@git.example.com/group/project.git")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    job.pipeline(1, IMAGE_NAME="app", CI_REGISTRY_IMAGE=f"{address}/{shop.repository}/job")
    assert not laptop.json["reused"]
    built = job.build(*arguments)
    assert not built.json["reused"]
    assert built.json["digest"] == laptop.json["digest"]


def test_an_index_of_several_architectures_is_the_same_in_another_pipeline_and_store(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write({"app/Containerfile": RECIPES["foreign"][0], "app/data/a": "a\n"}).commit()
    folder = tmp_path / "store"
    folder.mkdir()
    indexes = []
    for number, architectures in enumerate((("amd64", "arm64"), ("arm64", "amd64")), 1):
        own = {"CI_REGISTRY_IMAGE": f"{shop.registry.address}/{shop.repository}/{number}"}
        for architecture in architectures:
            shop.pipeline(number, **own, IMAGE_NAME="app", IMAGE_ARCH=architecture)
            assert not shop.build().json["reused"]
        monkeypatch.delenv("IMAGE_ARCH")
        shop.pipeline(number, **own, IMAGE_ARCHES="amd64 arm64")
        indexes += [written["digest"] for written in shop.image("manifest").json["tags"]]
        loosen(shop.top)
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(make_store(folder)))
    buildah("rmi", "--all", "--force")
    remove_store(folder)
    assert len(indexes) == 2
    assert len(set(indexes)) == 1


def test_a_comment_changes_no_layer(shop: Shop) -> None:
    prepare(shop, "stages")
    shop.pipeline(1)
    assert shop.build("app").code == 0
    text = (shop.top / "app" / "Containerfile").read_text()
    shop.write({"app/Containerfile": f"# Changed later.\n{text}"}).commit(1_800_000_000).pipeline(2)
    assert not shop.build("app").json["reused"]
    before, after = (shop.registry.config(f"{shop.repository}/app", f"p-{number}") for number in (1, 2))
    assert before["rootfs"] == after["rootfs"]
    assert (before["created"], after["created"]) == ("2023-11-14T22:13:20Z", "2027-01-15T08:00:00Z")


def test_builds_at_the_same_time_give_the_same(shop: Shop) -> None:
    prepare(shop, "stages")
    shop.pipeline(1)
    environ = dict(os.environ)

    def build(number: int) -> str:
        own = {"CI_REGISTRY_IMAGE": f"{shop.registry.address}/{shop.repository}/{number}"}
        argv = [sys.executable, "-c", PROGRAM, "image", "build", "app", "--dir", str(shop.top)]
        done = subprocess.run(argv, env=environ | own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1].rpartition("@")[2]

    with ThreadPoolExecutor(3) as pool:
        digests = set(pool.map(build, range(3)))
    assert len(digests) == 1
    assert next(iter(digests)).startswith("sha256:")


def test_another_store_gives_the_same(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(shop, "plain")
    shop.pipeline(1)
    first = shop.build("app").json["digest"]
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(make_store(folder)))
    try:
        shop.pipeline(1, CI_REGISTRY_IMAGE=f"{shop.registry.address}/{shop.repository}/fresh")
        second = shop.build("app").json
        assert not second["reused"]
        assert second["digest"] == first
    finally:
        buildah("rmi", "--all", "--force")
        remove_store(folder)


def test_what_is_in_a_cache_does_not_change_the_image(shop: Shop) -> None:
    prepare(shop, "plain")
    cache = f"{shop.registry.address}/{shop.repository}/cache"
    shop.pipeline(1)
    first = shop.build("app", f"--cache-to={cache}", f"--cache-from={cache}").json["digest"]
    buildah("rmi", "--all", "--force")
    again = shop.build("app", f"--cache-to={cache}", f"--cache-from={cache}", "--rebuild")
    assert again.json["digest"] == first
