"""`imagechain image build` with the real buildah and the real docker-registry."""

import json
import os
import subprocess
import sys
from pathlib import Path
from platform import machine

import pytest

from imagechain.refs import parse_platform
from registry.servers import Server
from single.shops import PROGRAM, Shop

pytestmark = pytest.mark.builds

PLAIN = {"app/Containerfile": "FROM BASE\nCOPY . /app/\nRUN echo done > /done\n", "app/hello": "hello\n"}


def test_a_job_pushes_what_it_built_under_the_tag_of_its_pipeline(shop: Shop) -> None:
    shop.write(PLAIN).commit().pipeline(7)
    built = shop.build("app").json
    repository = f"{shop.repository}/app"
    manifest = shop.registry.manifest(repository, "p-7")
    assert built["digest"] == manifest["digest"]
    assert built["pushed"] == [f"{shop.registry.address}/{repository}:p-7"]
    assert not built["reused"]


def test_an_image_says_what_it_was_built_from(shop: Shop) -> None:
    files = {"app/Containerfile": "FROM BASE\nCOPY --from=BASE:latest /bin/busybox /x\n"}
    shop.write(files).commit(1_700_000_000).pipeline(1)
    assert shop.build("app").code == 0
    repository = f"{shop.repository}/app"
    base = shop.registry.manifest("base", "latest")["digest"]
    name = f"{shop.registry.address}/base:latest"
    config = shop.registry.config(repository, "p-1")
    labels = config["config"]["Labels"]
    oci = {key.removeprefix("org.opencontainers.image."): text for key, text in labels.items()}
    revision = shop.git("rev-parse", "HEAD").strip()
    assert (oci["base.name"], oci["base.digest"]) == (name, base)
    assert (oci["revision"], oci["version"]) == (revision, revision[:12])
    assert oci["source"] == "https://git.example.com/group/project"
    assert oci["created"] == config["created"] == "2023-11-14T22:13:20Z"
    assert json.loads(labels["dev.imagechain.inputs"])[name]["digest"] == base
    annotations = shop.registry.manifest(repository, "p-1")["annotations"]
    assert annotations == {key: text for key, text in labels.items() if "opencontainers" in key}


def test_nothing_is_built_that_the_registry_has_and_one_request_tells(shop: Shop) -> None:
    shop.write(PLAIN).commit().pipeline(1)
    first = shop.build("app").json
    shop.write({"README": "another text, which the image does not read"}).commit(1_800_000_000).pipeline(2)
    (key,) = (tag for tag in shop.registry.tags(f"{shop.repository}/app") if tag.startswith("key-"))
    before = len(shop.registry.requests())
    second = shop.build("app")
    asked = shop.registry.requests()[before:]
    assert second.json["reused"]
    assert second.json["digest"] == first["digest"]
    assert "STEP" not in second.said
    manifests = f"{shop.repository}/app/manifests"
    assert asked == [
        "HEAD base/manifests/latest",
        f"HEAD {manifests}/{key}",
        f"GET {manifests}/{first['digest']}",
        f"PUT {manifests}/p-2",
    ]


def test_what_was_built_is_built_again_only_on_demand_or_by_a_schedule(shop: Shop) -> None:
    shop.write(PLAIN).commit().pipeline(1)
    digest = shop.build("app").json["digest"]
    assert shop.build("app").json["reused"]
    again = shop.build("app", "--rebuild").json
    assert (again["reused"], again["digest"]) == (False, digest)
    shop.pipeline(2, CI_PIPELINE_SOURCE="schedule")
    assert not shop.build("app").json["reused"]
    assert shop.build("app", "--no-rebuild").json["reused"]


@pytest.mark.parametrize(
    "change",
    [
        {"app/hello": "another"},
        {"app/Containerfile": "FROM BASE\nCOPY . /app/\nRUN echo other > /done\n"},
        {"app/more": "more"},
    ],
)
def test_a_change_of_what_the_build_reads_is_built(shop: Shop, change: dict[str, str]) -> None:
    shop.write(PLAIN).commit().pipeline(1)
    digest = shop.build("app").json["digest"]
    built = shop.write(change).commit().build("app").json
    assert not built["reused"]
    assert built["digest"] != digest


def test_a_tag_of_git_and_a_build_argument_are_built_on_their_own(shop: Shop) -> None:
    shop.write({"app/Containerfile": "FROM BASE\nARG WHAT=a\nRUN echo $WHAT > /x\n"}).commit().pipeline(1)
    assert not shop.build("app").json["reused"]
    assert not shop.build("app", "--build-arg", "WHAT=b").json["reused"]
    shop.git("tag", "v1.0")
    assert not shop.build("app").json["reused"]
    labels = shop.registry.config(f"{shop.repository}/app", "p-1")["config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == "v1.0"


def test_a_base_whose_triggers_read_files_is_built_each_time(shop: Shop) -> None:
    shop.settings += '[chain]\nprefix = "x"\n'
    shop.write({"trigger/Containerfile": "FROM BASE\nONBUILD COPY secondary /s\n"}).commit().pipeline(1)
    assert shop.build("trigger", "--tag=1").code == 0
    child = f"FROM {shop.registry.address}/{shop.repository}/trigger:1\n"
    shop.write({"app/Containerfile": child, "app/secondary": "1"}).commit()
    first = shop.build("app").json["digest"]
    assert shop.write({"app/secondary": "2"}).commit().build("app").json["digest"] != first
    assert shop.registry.tags(f"{shop.repository}/app") == ["p-1"]


def test_another_image_is_read_where_a_parent_is_named(shop: Shop) -> None:
    written = "registry.example.com/none/base:latest"
    shop.write({"app/Containerfile": f"FROM {written}\nRUN echo > /x\n"}).commit()
    built = shop.build("app", f"--parent={written}={shop.registry.address}/base:latest").json
    assert built["inputs"] == {written: shop.registry.manifest("base", "latest")["digest"]}


def test_a_stage_is_built_on_demand_and_what_it_does_not_need_is_not_asked_for(shop: Shop) -> None:
    text = "FROM BASE AS first\nRUN echo 1 > /stage\nFROM nowhere.example.com/none\nRUN echo 2 > /stage\n"
    shop.write({"Containerfile": text}).commit()
    assert shop.build("--target=first").code == 0
    failed = shop.build()
    assert failed.code == 3
    assert "nowhere.example.com" in failed.said


def test_a_secret_is_read_and_leaves_no_trace(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("very-secret-text")
    text = "FROM BASE\nRUN --mount=type=secret,id=key wc -c < /run/secrets/key > /length\n"
    shop.write({"Containerfile": text}).commit().pipeline(1)
    assert shop.build(f"--secret=id=key,src={tmp_path}/secret").code == 0
    config = shop.registry.config(f"{shop.repository}/project", "p-1")
    assert "very-secret-text" not in json.dumps(config)


def test_logins_are_in_a_private_file_and_never_on_a_command_line(
    shop: Shop, password_registry: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.settings += f'[registry."{password_registry.address}"]\ninsecure = true\n'
    shop.write({"Containerfile": "FROM scratch\nCOPY imagechain.toml /\n"}).commit().pipeline(
        1,
        CI_REGISTRY_IMAGE=f"{password_registry.address}/g/p",
        CI_REGISTRY_USER="alice",
        CI_REGISTRY_PASSWORD="correct horse",
    )
    seen = tmp_path / "seen"
    program = tmp_path / "bin" / "buildah"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {seen}\n'
        f'for word; do case $word in --authfile=*) stat -c "%a %F" "${{word#*=}}" >> {seen};; esac; done\n'
        'exec /usr/bin/buildah "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert shop.build().json["pushed"] == [f"{password_registry.address}/g/p/project:p-1"]
    text = seen.read_text()
    assert "600 regular file" in text
    assert "correct" not in text
    assert list((tmp_path / "state").rglob("config.json")) == []


def test_the_login_of_a_job_wins_over_a_stale_one_of_the_machine(
    shop: Shop, password_registry: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auths = {"auths": {password_registry.address: {"auth": "YTpi"}}}
    (tmp_path / "auth.json").write_text(json.dumps(auths))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    shop.settings += f'[registry."{password_registry.address}"]\ninsecure = true\n'
    shop.write({"Containerfile": "FROM scratch\nCOPY imagechain.toml /\n"}).commit().pipeline(
        1,
        CI_REGISTRY_IMAGE=f"{password_registry.address}/g/q",
        CI_REGISTRY_USER="alice",
        CI_REGISTRY_PASSWORD="correct horse",
    )
    assert shop.build().code == 0


def test_a_job_that_is_cancelled_stops_its_build_and_leaves_no_login(shop: Shop, tmp_path: Path) -> None:
    shop.write({"Containerfile": "FROM BASE\nRUN echo begun; sleep 60\n"}).commit().pipeline(
        1, CI_REGISTRY_USER="alice", CI_REGISTRY_PASSWORD="correct horse"
    )
    argv = [sys.executable, "-c", PROGRAM, "image", "build", "--dir", str(shop.top)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip() == b"begun":
                break
        assert list((tmp_path / "state").rglob("config.json"))
        process.terminate()
        process.stderr.read()
        assert process.wait() == 130
    assert not list((tmp_path / "state").rglob("config.json"))


def test_a_login_of_the_job_reads_a_base_where_nothing_is_pushed(
    shop: Shop, password_registry: Server
) -> None:
    address = password_registry.address
    shop.settings += f'[registry."{address}"]\ninsecure = true\n'
    logins = {
        "CI_REGISTRY_IMAGE": f"{address}/g/r",
        "CI_REGISTRY_USER": "alice",
        "CI_REGISTRY_PASSWORD": "correct horse",
    }
    shop.write({"base/Containerfile": "FROM scratch\nCOPY Containerfile /\n"})
    shop.write({"app/Containerfile": f"FROM {address}/g/r/base:1\nENV A=b\n"}).commit().pipeline(1, **logins)
    assert shop.build("base", "--tag=1").code == 0
    assert shop.build("app", "--no-push").json["pushed"] == []


def test_an_optional_registry_without_a_login_is_left_out_and_said_so(shop: Shop) -> None:
    shop.settings += (
        '[[image.registry]]\naddress = "public.example.com/group"\noptional = true\n'
        'username_variable = "PUBLIC_USER"\npassword_variable = "PUBLIC_PASSWORD"\n'
    )
    shop.write(PLAIN).commit().pipeline(1)
    built = shop.build("app")
    assert len(built.json["pushed"]) == 1
    assert "public.example.com/group is left out: PUBLIC_USER or PUBLIC_PASSWORD is not set" in built.said


def test_all_registries_get_the_same_image(shop: Shop) -> None:
    shop.settings += f'[[image.registry]]\naddress = "{shop.registry.address}/public"\n'
    shop.write(PLAIN).commit().pipeline(1)
    digest = shop.build("app").json["digest"]
    for repository in (f"{shop.repository}/app", "public/app"):
        assert shop.registry.manifest(repository, "p-1")["digest"] == digest
    shop.pipeline(2)
    assert shop.build("app").json["reused"]
    assert shop.registry.manifest("public/app", "p-2")["digest"] == digest


def test_a_registry_that_refuses_half_way_leaves_nothing_that_a_later_build_would_take(
    shop: Shop, password_registry: Server
) -> None:
    shop.settings += (
        f'[registry."{password_registry.address}"]\ninsecure = true\n'
        f'[[image.registry]]\naddress = "{password_registry.address}/g"\n'
        'username_variable = "PUBLIC_USER"\npassword_variable = "PUBLIC_PASSWORD"\n'
    )
    shop.write(PLAIN).commit().pipeline(1, PUBLIC_USER="alice", PUBLIC_PASSWORD="wrong")
    failed = shop.build("app")
    assert failed.code != 0
    assert password_registry.address in failed.said
    assert "wrong" not in failed.said
    assert not [tag for tag in shop.registry.tags(f"{shop.repository}/app") if tag.startswith("key-")]


def test_a_build_that_fails_says_so_and_pushes_nothing(shop: Shop) -> None:
    shop.write({"Containerfile": "FROM BASE\nRUN exit 3\n"}).commit().pipeline(1)
    failed = shop.build()
    assert failed.code == 1
    assert "buildah ended with exit code" in failed.said
    assert shop.registry.tags(f"{shop.repository}/project") == []


def test_a_base_that_no_registry_has_is_an_error_that_names_it(shop: Shop) -> None:
    shop.write({"Containerfile": "FROM BASE:none\n"}).commit()
    failed = shop.build()
    assert failed.code in {1, 3}
    assert "base:none" in failed.said
    assert "no such image" in failed.said


def test_a_checkout_in_a_folder_whose_name_no_image_can_have_is_built_and_pushed(
    shop: Shop, tmp_path: Path
) -> None:
    shop.write({"Containerfile": "FROM BASE\nCOPY hello /\n", "hello": "hello\n"}).commit()
    elsewhere = shop.clone(tmp_path / "checkout_")
    elsewhere.pipeline(3)
    built = elsewhere.build("app").json
    assert built["names"] == []
    assert built["digest"] == shop.registry.manifest(f"{shop.repository}/app", "p-3")["digest"]


def test_a_base_for_another_architecture_is_refused_unless_it_is_asked_for(shop: Shop) -> None:
    here = parse_platform(f"linux/{machine()}")
    copying = "COPY hello /\n"
    shop.write({"app/Containerfile": f"FROM BASE\n{copying}", "app/hello": "hello\n"}).commit().pipeline(1)
    refused = shop.build("app", "--platform=linux/s390x")
    assert refused.code == 1
    assert "app/Containerfile:1: " in refused.said
    assert f"is for {here.architecture} only, and the build is for linux/s390x" in refused.said
    assert shop.registry.tags(f"{shop.repository}/app") == []
    shop.write({"app/Containerfile": f"FROM --platform={here} BASE\n{copying}"}).commit()
    assert shop.build("app", "--platform=linux/s390x").code == 0
