import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from imagechain.images import Base, GitFacts, ImageFacts, InputRecord, own_labels, read_git
from imagechain.images.builder import spellings
from imagechain.images.provenance import base_labels, not_inherited, without_credentials
from imagechain.images.rewrite import BUILDING_LABEL, rewrite
from imagechain.refs import content_key, decode_image_config, parse_reference


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://user:token@git.example.com/a/b.git", "https://git.example.com/a/b.git"),
        ("https://token@git.example.com:8443/a/b.git", "https://git.example.com:8443/a/b.git"),
        ("https://git.example.com/a/b.git?private_token=x#y", "https://git.example.com/a/b.git"),
        ("https://a:b@c@git.example.com/x", "https://git.example.com/x"),
        ("ssh://git@git.example.com:22/a/b.git", "ssh://git@git.example.com:22/a/b.git"),
        ("ssh://git:secret@git.example.com/a/b.git", "ssh://git@git.example.com/a/b.git"),
        ("git@git.example.com:a/b.git", "git@git.example.com:a/b.git"),
        ("/srv/git/a.git", "/srv/git/a.git"),
        ("", ""),
    ],
)
def test_credentials_are_taken_out_of_an_address(url: str, clean: str) -> None:
    assert without_credentials(url) == clean


def test_outside_git_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "Containerfile").touch()
    assert asyncio.run(read_git(tmp_path / "Containerfile")) is None


def test_a_file_that_git_does_not_track_is_outside_git_and_another_repository_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(folder: Path, *arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        return subprocess.check_output(["git", "-C", folder, *identity, *arguments], text=True).strip()

    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Containerfile").touch()
        git(tmp_path / name, "init", "-q")
        git(tmp_path / name, "add", ".")
        git(tmp_path / name, "commit", "-q", "-m", name)
    (tmp_path / "here" / "Untracked").touch()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere" / ".git"))
    facts = asyncio.run(read_git(tmp_path / "here" / "Containerfile"))
    monkeypatch.delenv("GIT_DIR")
    assert facts is not None
    assert facts.revision == git(tmp_path / "here", "rev-parse", "HEAD")
    assert asyncio.run(read_git(tmp_path / "here" / "Untracked")) is None


def test_labels_without_a_value_are_left_out() -> None:
    labels = own_labels(git=None, recipe="r", inputs={"localhost/a:latest": InputRecord("d", "c")})
    assert labels.keys() == {"dev.imagechain.inputs", "dev.imagechain.recipe"}
    assert json.loads(labels["dev.imagechain.inputs"]) == {
        "localhost/a:latest": {"digest": "d", "content": "c"}
    }
    git = GitFacts("abc", 1_700_000_000, "v1", "")
    labels = own_labels(git=git, recipe="r", inputs={})
    assert labels["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
    assert "org.opencontainers.image.source" not in labels


def base(name: str, *layers: str, **labels: str) -> Base:
    facts = ImageFacts(id=name, content=name, labels=labels, diff_ids=layers)
    return Base(name=name, digest=f"sha256:{name}", facts=facts)


def test_the_base_is_the_one_whose_layers_the_image_begins_with() -> None:
    bases = (base("low", "1"), base("high", "1", "2"), base("tool", "9"), base("empty"))
    named = base_labels(bases, ("1", "2", "3"))
    assert named["org.opencontainers.image.base.name"] == "high"
    assert named["org.opencontainers.image.base.digest"] == "sha256:high"
    assert base_labels(bases, ("7", "1")) == {}


def test_only_labels_in_which_a_base_speaks_of_itself_are_not_inherited() -> None:
    labels = {"maintainer": "m", "org.opencontainers.image.version": "1", "dev.imagechain.recipe": "r"}
    facts = ImageFacts(id="i", content="c", labels=labels, diff_ids=())
    dropped = not_inherited([Base(name="b", digest=None, facts=facts)])
    assert {name for name, _ in dropped} == {"org.opencontainers.image.version", "dev.imagechain.recipe"}


CONFIG = {
    "created": "1970-01-01T00:00:00Z",
    "architecture": "amd64",
    "os": "linux",
    "container": "random",
    "unknown.field": {"kept": True},
    "config": {
        "Hostname": "random",
        "Env": ["A=1"],
        "Labels": {"own": "1", "old": "2", BUILDING_LABEL: "/run"},
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
    "history": [{"created_by": "RUN x"}, {"created_by": f'LABEL "{BUILDING_LABEL}"="/run"'}],
}
MANIFEST = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"digest": "x", "size": 1},
    "layers": [],
}


def test_a_rewritten_image_keeps_its_content_and_loses_what_is_random() -> None:
    config = json.dumps(CONFIG)
    image = rewrite(
        config,
        json.dumps(MANIFEST),
        labels={"new": "3"},
        annotations={"a": "b"},
        not_inherited={("old", "2"), ("own", "another value")},
        created=1_700_000_000,
    )
    written = json.loads(image.config)
    assert written["config"]["Labels"] == {"own": "1", "new": "3"}
    assert written["created"] == "2023-11-14T22:13:20Z"
    assert written["unknown.field"] == {"kept": True}
    assert b"random" not in image.config
    assert b"/run" not in image.config
    assert content_key(decode_image_config(image.config)) == content_key(decode_image_config(config))
    manifest = json.loads(image.manifest)
    assert manifest["config"]["digest"] == f"sha256:{image.image_id}"
    assert manifest["annotations"] == {"a": "b"}


def test_dockers_format_has_no_annotations() -> None:
    manifest = {**MANIFEST, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
    image = rewrite(
        json.dumps(CONFIG),
        json.dumps(manifest),
        labels={},
        annotations={"a": "b"},
        not_inherited=(),
        created=None,
    )
    assert "annotations" not in json.loads(image.manifest)
    assert json.loads(image.config)["created"] == CONFIG["created"]


@pytest.mark.parametrize(
    "reference",
    ["alpine", "alpine:3", "org/tool", "quay.io/a/b", "localhost/x:1", f"alpine:3@sha256:{'a' * 64}"],
)
def test_every_spelling_of_a_reference_means_it(reference: str) -> None:
    normalised = str(parse_reference(reference))
    found = spellings(normalised)
    assert {str(parse_reference(spelling)) for spelling in found} == {normalised}
    assert reference in found
    assert normalised in found
