"""`imagechain backup` as a person runs it; what a copy holds is tested with the store."""

from pathlib import Path

import pytest

from imagechain.cli.main import run
from imagechain.store import open_store


def settings(folder: Path, store_url: str) -> str:
    file = folder / "imagechain.toml"
    file.write_text(f'[store]\nurl = "{store_url}"\n')
    return str(file)


def test_a_copy_is_made_while_the_service_holds_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/imagechain.db"
    store = open_store(url)
    try:
        assert run(["backup", str(tmp_path / "copy.db"), "--config", settings(tmp_path, url)]) == 0
    finally:
        store.close()
    open_store(f"sqlite:///{tmp_path}/copy.db").close()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/imagechain.db"
    open_store(url).close()
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    assert run(["backup", str(copy), "--config", settings(tmp_path, url)]) == 2
    assert "name a new file" in capsys.readouterr().err
    assert copy.read_text() == "precious"


def test_for_postgresql_the_command_is_told_without_the_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, "postgresql://imagechain:s3cret@db.example.com:5433/chain")
    assert run(["backup", "/backup/a copy", "--config", config]) == 2
    told = capsys.readouterr().err
    assert (
        "pg_dump --format=custom '--file=/backup/a copy' postgresql://imagechain@db.example.com:5433/chain"
        in told
    )
    assert "s3cret" not in told
