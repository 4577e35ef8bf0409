"""`imagechain image diff`: what differs in two builds, by name."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from imagechain.cli.main import run
from imagechain.images.diff import UnpackedImage, compare
from imagechain.images.layers import LayerError, read_layer
from images.stores import buildah
from single.shops import Shop


def layer(file: Path, files: dict[str, dict[str, Any]], *, compressed: bool = False) -> Path:
    """Write a layer; each file has a text, and fields of its header."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields in files.items():
            info = tarfile.TarInfo(name)
            content = fields.pop("content", "x").encode()
            info.size = len(content)
            info.mtime = 0
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    if compressed:
        file.write_bytes(gzip.compress(file.read_bytes()))
    return file


def picture(name: str, *layers: tuple[Path, str], **config: object) -> UnpackedImage:
    return UnpackedImage(
        name=name, digest=f"sha256:{name}", config=config, annotations={}, layers=tuple(layers)
    )


def test_each_way_in_which_files_can_differ_has_its_name(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "bytes": {"content": "y"},
        "mode": {"mode": 0o600},
        "owner": {"uid": 5},
        "time": {"mtime": 1.5},
        "xattr": {"pax_headers": {"SCHILY.xattr.user.a": "b"}},
    }
    before = layer(tmp_path / "a", {**{name: {} for name in changes}, "gone": {}, "same": {}})
    after = layer(tmp_path / "b", {**changes, "new": {}, "same": {}}, compressed=True)
    found = compare(picture("a", (before, "1")), picture("b", (after, "2")))
    assert {one.path: one.what or one.change for one in found.files} == {
        **{name: (name,) for name in changes},
        "gone": "removed",
        "new": "added",
    }
    assert not found.same


def test_a_file_that_became_a_link_differs_in_its_kind_and_target(tmp_path: Path) -> None:
    before = layer(tmp_path / "a", {"name": {"content": ""}})
    after = layer(tmp_path / "b", {"name": {"content": "", "type": tarfile.SYMTYPE, "linkname": "/x"}})
    (one,) = compare(picture("a", (before, "1")), picture("b", (after, "2"))).files
    assert one.what == ("kind", "bytes", "target")


def test_layers_that_one_image_has_more_of_count_together(tmp_path: Path) -> None:
    common, one, two = (layer(tmp_path / name, {name: {}}) for name in "abc")
    both = layer(tmp_path / "both", {"b": {}, "c": {"content": "z"}})
    found = compare(
        picture("a", (common, "1"), (one, "2"), (two, "3")), picture("b", (common, "1"), (both, "4"))
    )
    assert [(each.layer, each.path, each.what) for each in found.files] == [(2, "c", ("bytes",))]


def test_values_of_the_config_are_named_by_their_place() -> None:
    a = picture("a", config={"Env": ["A=1", "B=2"], "Cmd": ["x"]}, created="1")
    b = picture("b", config={"Env": ["A=1", "B=3"], "User": "me"}, created="1")
    found = {one.where: (one.a, one.b) for one in compare(a, b).values}
    assert found == {
        "config.config.Env[1]": ("B=2", "B=3"),
        "config.config.Cmd": ('["x"]', None),
        "config.config.User": (None, "me"),
    }


def test_images_that_differ_in_nothing_but_their_manifest_are_told_apart() -> None:
    (one,) = compare(picture("a"), picture("b")).values
    assert one.where == "digest"
    assert compare(picture("a"), picture("a")).same


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"no tar file at all" * 100, "cannot be read"), (b"\x28\xb5\x2f\xfd" + b"0" * 100, "zstd")],
)
def test_what_is_no_layer_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "layer").write_bytes(data)
    with pytest.raises(LayerError, match=message):
        read_layer(tmp_path / "layer")


@pytest.mark.builds
def test_two_builds_are_compared_wherever_they_are(
    shop: Shop, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def differences(a: str, b: str) -> tuple[int, list[str]]:
        capfd.readouterr()
        code = run(["image", "diff", a, b, "--dir", str(shop.top), "--format=json"])
        captured = capfd.readouterr()
        assert code in {0, 1}, captured.err
        return code, [f"{one['path']}: {one['change']}" for one in json.loads(captured.out)["files"]]

    shop.write({"app/Containerfile": "FROM BASE\nCOPY data /data/\n", "app/data/a": "1"}).commit().pipeline(1)
    assert shop.build("app").code == 0
    buildah("tag", "localhost/app", "localhost/before")
    shop.write({"app/data/a": "2", "app/data/b": "3"}).commit().pipeline(2)
    assert shop.build("app").code == 0
    address = f"{shop.registry.address}/{shop.repository}/app"
    changed = (1, ["data/a: changed", "data/b: added"])
    assert differences("localhost/before", "app") == changed
    assert differences(f"{address}:p-1", f"docker://{address}:p-2") == changed
    assert differences(f"{address}:p-1", "before") == (0, [])
    for transport in ("oci-archive", "docker-archive"):
        buildah("push", "--quiet", "localhost/before", f"{transport}:{tmp_path}/{transport}")
    assert differences(f"oci-archive:{tmp_path}/oci-archive", "app") == changed
    assert differences(f"docker-archive:{tmp_path}/docker-archive", "app")[1] == changed[1]
    buildah("push", "--quiet", "localhost/app", f"oci:{tmp_path}/layout")
    assert differences(f"oci:{tmp_path}/layout", "app") == (0, [])


@pytest.mark.parametrize(
    "name", ["oci:/nowhere", "docker-archive:/nowhere", "NOT//A:name:x", "localhost/nowhere"]
)
def test_what_is_no_image_is_refused_in_a_sentence(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], buildah_store: Path
) -> None:
    assert run(["image", "diff", name, name, "--dir", str(tmp_path)]) == 2
    said = capfd.readouterr().err
    assert name in said
    assert "registry" not in said or not name.startswith("localhost/")


def test_an_archive_whose_files_lead_out_of_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    assert run(["image", "diff", f"oci-archive:{archive}", f"oci-archive:{archive}"]) != 0
    assert "leads out of it" in capsys.readouterr().err
    assert not (tmp_path / "outside").exists()
