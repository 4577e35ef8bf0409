"""Lists of other tools as tables of ours."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.cli.main import run
from imagechain.config import MirrorSettings, load_settings
from imagechain.mirror.translate import Translation, TranslationError, as_toml, translate

SKOPEO = r"""
registry.example.com:5000:
  tls-verify: false
  credentials: {username: john, password: s3cret}
  cert-dir: /certs
  unheard-of: 1
  images:
    busybox: []
    redis:
      - 1.10
      - "2.0"
      - sha256:0000000000000000000000000000000011111111111111111111111111111111
  images-by-tag-regex:
    nginx: ^1\.13\.[12]-alpine-perl$
    redis: ^3
  images-by-semver:
    group/alpine: ">= 3.12.0"
    group/odd: 3.12.x
quay.io:
  images:
    group/redis: [latest]
"""
REGSYNC = r"""
version: 1
creds:
  - registry: registry.example.com:5000
    tls: disabled
    user: john
    pass: s3cret
defaults:
  ratelimit: {min: 100, retry: 15m}
  backup: "bkup-{{.Ref.Tag}}"
sync:
  - source: docker.io/library/busybox:latest
    target: registry.example.com:5000/library/busybox:latest
    type: image
    schedule: "0 3 * * *"
  - source: docker.io/library/alpine
    target: registry.example.com:5000/library/alpine
    type: repository
    tags:
      allow: [latest, "3", '3\.\d+']
      deny: ["3.0"]
    platforms: [linux/amd64, linux/arm64]
    referrers: true
    interval: 60m
  - source: docker.io/library/redis
    target: registry.example.com:5000/library/redis
    type: repository
    tags: {semverRange: [">=6.0 <8"]}
    platform: linux/amd64
  - source: docker.io/library/renamed:1
    target: registry.example.com:5000/library/renamed:2
    type: image
  - source: gcr.example.com
    target: registry.example.com:5000/gcr
    type: registry
"""


def by_source(translation: Translation) -> dict[str, MirrorSettings]:
    return {mirror.source: mirror for mirror in translation.mirrors}


def test_a_list_of_skopeo_is_taken_over() -> None:
    found = translate(SKOPEO, "mirror.example.com/all/")
    host = "registry.example.com:5000"
    mirrors = by_source(found)
    assert mirrors[f"{host}/busybox"].tags == ("*",)
    assert mirrors[f"{host}/busybox"].target == "mirror.example.com/all/busybox"
    assert mirrors[f"{host}/redis"].tags == ("1.10", "2.0", "/^3/")
    assert mirrors[f"{host}/nginx"].tags == (r"/^1\.13\.[12]-alpine-perl$/",)
    assert mirrors[f"{host}/group/alpine"].tags == (">= 3.12.0",)
    # Two that skopeo would put over each other.
    assert mirrors["quay.io/group/redis"].target == "mirror.example.com/all/quay.io/group/redis"
    assert found.insecure == (host,)


def test_what_skopeo_has_and_we_have_not_is_named() -> None:
    notes = "\n".join(translate(SKOPEO, "mirror.example.com/all").notes)
    for told in (
        "podman login",
        "cert-dir is not taken over",
        "unheard-of is not",
        "only tags are mirrored",
        "3.12.x",
        "plain HTTP",
    ):
        assert told in notes
    assert "s3cret" not in notes


def test_a_list_of_regsync_is_taken_over() -> None:
    mirrors = by_source(translate(REGSYNC, ""))
    assert set(mirrors) == {f"docker.io/library/{name}" for name in ("busybox", "alpine", "redis")}
    busybox, alpine, redis = (mirrors[f"docker.io/library/{name}"] for name in ("busybox", "alpine", "redis"))
    assert busybox.tags == ("latest",)
    assert (busybox.schedule, busybox.keep_previous) == ("0 3 * * *", 3)
    assert busybox.target == "registry.example.com:5000/library/busybox"
    # Its regular expressions take whole tags.
    assert alpine.tags == ("latest", "3", r"/^(?:3\.\d+)$/")
    assert alpine.deny == ("/^(?:3.0)$/",)
    assert (alpine.platforms, alpine.referrers) == (("linux/amd64", "linux/arm64"), True)
    assert (redis.tags, redis.platforms) == ((">=6.0 <8",), ("linux/amd64",))


def test_what_regsync_has_and_we_have_not_is_named() -> None:
    notes = "\n".join(translate(REGSYNC, "").notes)
    for told in ("podman login", "ratelimit", "interval", "it is renamed", "its type is 'registry'"):
        assert told in notes
    assert "s3cret" not in notes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "not YAML"),
        ("", "neither"),
        ("- a", "neither"),
        ("a: b", "neither"),
        ("a: {images: [b]}", "neither"),
        ("sync: [a]", "neither"),
        ("sync: [{source: {a: b}}]", "neither"),
        ("quay.io: {images: {a: []}}", "--to"),
    ],
)
def test_what_is_no_list_is_refused(text: str, told: str) -> None:
    with pytest.raises(TranslationError, match=told):
        translate(text, "")


@pytest.mark.parametrize("text", [SKOPEO, REGSYNC])
def test_what_is_printed_are_settings(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, settings = tmp_path / "list.yml", tmp_path / "imagechain.toml"
    file.write_text(text)
    assert run(["mirror", "import", str(file), "--to", "mirror.example.com/all"]) == 0
    settings.write_text(capsys.readouterr().out)
    wanted = translate(text, "mirror.example.com/all")
    loaded = load_settings(settings, {})
    assert loaded.mirror == wanted.mirrors
    assert set(loaded.registry) == set(wanted.insecure)


@given(st.text(min_size=1, max_size=20))
def test_any_pattern_is_written_so_that_toml_reads_it(pattern: str) -> None:
    mirror = MirrorSettings(source="a.example.com/a", target="b.example.com/b", tags=(pattern,))
    [read] = tomllib.loads(as_toml(Translation((mirror,), (), ())))["mirror"]
    assert read["tags"] == [pattern]
