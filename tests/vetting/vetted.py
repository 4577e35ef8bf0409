"""`imagechain vet` with settings for a real registry, and a history of our own making."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imagechain.cli.main import run
from registry.pictures import Stored, make_image
from registry.servers import Server
from vetting.archives import layer

OS_RELEASE = {"etc/os-release": "ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n"}


def debian(number: int = 0, **more: object) -> Stored:
    return make_image(layers=[layer({**OS_RELEASE, "opt/number": str(number)})], **more)  # type: ignore[arg-type]


@pytest.fixture
def settings(tmp_path: Path, open_registry: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "imagechain.toml"
    file.write_text(
        f'state_dir = "{tmp_path / "state"}"\n[registry."{open_registry.address}"]\ninsecure = true\n'
    )
    return file


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def remember(path: Path, ref: str, seen: list[tuple[float, str]]) -> None:
    lines = [
        {"ref": ref, "platform": "linux/amd64", "digest": digest, "seen_at": days_ago(days)}
        for days, digest in seen
    ]
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def vet_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, object]]]:
    code = run(["vet", "--format", "json", *arguments])
    return code, json.loads(capsys.readouterr().out)
