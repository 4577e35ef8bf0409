"""The wheel has all that the program reads beside its code."""

import subprocess
import sys
import zipfile
from pathlib import Path

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "src" / "imagechain"


def test_the_wheel_has_every_file_of_the_package(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, TOP], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    there = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "imagechain/web/templates/images.html" in there
    assert there - packed == set()
