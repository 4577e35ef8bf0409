"""`image tag` and `image manifest` as jobs run them: real registries, GitLab's variables, exit codes."""

import asyncio
import json
import os
from itertools import count
from pathlib import Path

import pytest

from imagechain.cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_USAGE
from imagechain.cli.main import run
from imagechain.config import RegistrySettings
from imagechain.refs import parse_reference
from imagechain.registry import AbsentError, Index, RegistryClient
from registry.pictures import Stored, make_image
from registry.servers import PASSWORD, USER, Server, basic, open_registry, password_registry, run_registry

__all__ = ["open_registry", "password_registry"]

REVISION = "0123456789abcdef0123456789abcdef01234567"
_numbers = count()


class Job:
    """A job of a pipeline of the protected default branch, with a project's registry and another one."""

    def __init__(
        self, folder: Path, own: Server, more: Server | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.own, self.more, self.folder = own, more, folder
        self.path = f"group/project-{next(_numbers)}"
        self._monkeypatch = monkeypatch
        hosts = [own.address, *([more.address] if more else [])]
        settings = "".join(f'[registry."{host}"]\ninsecure = true\n' for host in hosts)
        if more is not None:
            settings += f'[[image.registry]]\naddress = "{more.address}/{self.path}"\n'
            settings += (
                'username_variable = "MORE_USER"\npassword_variable = "MORE_PASSWORD"\noptional = true\n'
            )
        (folder / "imagechain.toml").write_text(settings)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HOME", str(folder))
        # These tests may run in a job themselves.
        for name in os.environ:
            if name.startswith(("CI_", "IMAGE_", "REGISTRY_AUTH_FILE", "XDG_", "DOCKER_CONFIG")):
                monkeypatch.delenv(name)
        self.variables(
            CI_PIPELINE_ID="7",
            CI_COMMIT_BRANCH="main",
            CI_COMMIT_REF_NAME="main",
            CI_DEFAULT_BRANCH="main",
            CI_COMMIT_REF_PROTECTED="true",
            CI_COMMIT_SHA=REVISION,
            CI_REGISTRY_IMAGE=f"{own.address}/{self.path}",
            IMAGE_NAME="app",
            MORE_USER=USER,
            MORE_PASSWORD=PASSWORD,
        )

    def variables(self, **variables: str) -> None:
        for name, text in variables.items():
            self._monkeypatch.setenv(name, text)

    def merge_request(self) -> None:
        self._monkeypatch.delenv("CI_COMMIT_BRANCH")
        self.variables(CI_PIPELINE_SOURCE="merge_request_event", CI_MERGE_REQUEST_IID="3")

    def push(self, stored: Stored, tag: str) -> None:
        self.own.push(f"{self.path}/app", stored, tag)
        if self.more is not None:
            self.more.push(f"{self.path}/app", stored, tag, authorization=basic(USER, PASSWORD))

    def digest(self, tag: str, server: Server | None = None) -> str:
        """Tell what a tag names; empty: nothing."""
        address = (server or self.own).address
        reference = parse_reference(f"{address}/{self.path}/app:{tag}")

        async def ask() -> str:
            settings = {address: RegistrySettings(insecure=True)}
            auth = json.dumps({"auths": {address: {"username": USER, "password": PASSWORD}}})
            file = self.folder / "test-auth.json"
            file.write_text(auth)
            async with RegistryClient(settings=settings, auth_files=[file]) as client:
                try:
                    return (await client.head(reference)).digest
                except AbsentError:
                    return ""

        return asyncio.run(ask())

    def index(self, tag: str) -> Index:
        async def ask() -> Index:
            settings = {self.own.address: RegistrySettings(insecure=True)}
            async with RegistryClient(settings=settings) as client:
                found = await client.manifest(parse_reference(f"{self.own.address}/{self.path}/app:{tag}"))
                assert isinstance(found, Index)
                return found

        return asyncio.run(ask())


@pytest.fixture
def job(
    tmp_path: Path, open_registry: Server, password_registry: Server, monkeypatch: pytest.MonkeyPatch
) -> Job:
    return Job(tmp_path, open_registry, password_registry, monkeypatch)


def an_image(arch: str = "amd64", revision: str = REVISION) -> Stored:
    labels = {"org.opencontainers.image.revision": revision, "n": str(next(_numbers))}
    return make_image(architecture=arch, labels=labels)


def test_an_image_goes_the_way_from_its_build_to_production(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    image = an_image()
    job.push(image, "p-7")
    job.variables(IMAGE_DIGEST_APP=image.digest)
    assert run(["image", "tag"]) == 0
    assert (job.digest("g-7"), job.digest("latest")) == (image.digest, image.digest)
    assert job.digest("production") == ""
    job.variables(CI_ENVIRONMENT_NAME="production/app")
    capsys.readouterr()
    assert run(["image", "tag", "--format", "json"]) == 0
    (more, own) = json.loads(capsys.readouterr().out)["tags"]
    assert own == {
        "image": f"{job.own.address}/{job.path}/app",
        "tag": "production",
        "digest": image.digest,
        "outcome": "written",
    }
    assert more["image"].startswith(f"{job.more.address if job.more else ''}/")
    for server in (job.own, job.more):
        assert job.digest("production", server) == image.digest


def test_a_promotion_is_two_requests_in_the_log_of_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_registry(tmp_path) as server:
        job = Job(tmp_path, server, None, monkeypatch)
        image = an_image()
        job.push(image, "g-7")
        log = tmp_path / "log"
        before = log.read_text().count(' HTTP/1.1" ')
        job.variables(CI_ENVIRONMENT_NAME="production", IMAGE_DIGEST_APP=image.digest)
        assert run(["image", "tag"]) == 0
        asked = [line for line in log.read_text().splitlines() if ' HTTP/1.1" ' in line][before:]
        assert [line.split('"')[1].split()[0] for line in asked] == ["GET", "PUT"]


def test_a_merge_request_reaches_its_own_tag_and_never_production(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    image = an_image()
    job.push(image, "p-7")
    job.merge_request()
    assert run(["image", "tag"]) == 0
    assert (job.digest("g-7"), job.digest("latest")) == (image.digest, "")
    job.variables(CI_ENVIRONMENT_NAME="mr-3/app")
    assert run(["image", "tag"]) == 0
    assert job.digest("mr-3") == image.digest
    # A job can claim to be of the default branch, too.
    for claim in ({}, {"CI_COMMIT_BRANCH": "main", "CI_PIPELINE_SOURCE": "parent_pipeline"}):
        job.variables(CI_ENVIRONMENT_NAME="production", **claim)
        assert run(["image", "tag"]) == EXIT_FAILED
        assert "a merge request (number 3) must not reach" in capsys.readouterr().err
    assert job.digest("production") == ""


def test_an_image_without_the_gate_does_not_reach_production(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    job.push(an_image(), "p-7")
    job.variables(CI_ENVIRONMENT_NAME="production")
    assert run(["image", "tag"]) == EXIT_FAILED
    assert "passed its tests in this pipeline" in capsys.readouterr().err
    assert job.digest("production") == ""


def test_an_image_that_was_not_tested_does_not_pass_the_gate(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    tested = an_image()
    job.push(an_image(), "p-7")
    assert run(["image", "tag", "--digest", tested.digest]) == EXIT_FAILED
    assert f"{tested.digest} was tested" in capsys.readouterr().err
    assert job.digest("g-7") == ""


def test_a_dry_run_names_what_would_be_written(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job.push(an_image(), "p-7")
    assert run(["image", "tag", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"{job.path}/app:g-7" in out
    assert "planned" in out
    assert job.digest("g-7") == ""


def test_a_registry_without_its_login_is_left_out_with_a_line(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    job.push(an_image(), "p-7")
    job.variables(MORE_PASSWORD="")
    assert run(["image", "tag"]) == 0
    assert "is left out: MORE_USER or MORE_PASSWORD is not set" in capsys.readouterr().err
    assert job.digest("g-7", job.more) == ""


def test_a_login_that_may_not_write_is_told_and_nothing_is_promoted(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    job.push(an_image(), "p-7")
    job.variables(MORE_PASSWORD="wrong horse")
    assert run(["image", "tag"]) == EXIT_FAILED
    err = capsys.readouterr().err
    assert job.more is not None
    assert job.more.address in err
    assert "wrong horse" not in err
    assert (job.digest("g-7"), job.digest("latest")) == ("", "")


@pytest.mark.parametrize(
    ("variables", "code", "message"),
    [
        ({"CI_PIPELINE_ID": ""}, EXIT_USAGE, "run this in a job of GitLab"),
        ({"CI_REGISTRY_IMAGE": "", "MORE_USER": ""}, EXIT_USAGE, "there is no registry"),
        ({"IMAGE_NAME": "", "CI_PROJECT_NAME": ""}, EXIT_USAGE, "which image"),
        ({"IMAGE_NAME": "a:b"}, EXIT_USAGE, "without tag"),
        ({"IMAGE_DIGEST_APP": "sha256:abc"}, EXIT_USAGE, "is no digest"),
        ({"CI_ENVIRONMENT_NAME": "staging"}, EXIT_USAGE, "'staging', which has no tag"),
        ({"CI_REGISTRY_IMAGE": "127.0.0.1:9/group"}, EXIT_UNAVAILABLE, "could not be asked"),
    ],
)
def test_what_is_wrong_is_said_and_has_its_exit_code(
    job: Job, capsys: pytest.CaptureFixture[str], variables: dict[str, str], code: int, message: str
) -> None:
    job.variables(**variables)
    assert run(["image", "tag"]) == code
    assert message in capsys.readouterr().err


# --- image manifest -------------------------------------------------------------------------------------


def test_the_parts_become_one_image_whatever_order_they_are_named_in(job: Job, tmp_path: Path) -> None:
    for arch in ("amd64", "arm64", "s390x"):
        job.push(an_image(arch), f"p-7-{arch}")
    job.variables(IMAGE_ARCHES="s390x amd64 arm64")
    assert run(["image", "manifest", "--dotenv", str(tmp_path / "build.env")]) == 0
    digest = job.digest("p-7")
    assert digest
    assert (tmp_path / "build.env").read_text() == f"IMAGE_DIGEST_APP={digest}\n"
    assert [str(entry.platform) for entry in job.index("p-7").entries] == [
        *("linux/amd64", "linux/arm64", "linux/s390x")
    ]
    assert job.digest("p-7", job.more) == digest
    assert run(["image", "manifest", "--arch", "arm64", "--arch", "s390x", "--arch", "amd64"]) == 0
    assert job.digest("p-7") == digest


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (None, ":p-7-arm64; before this, a job with IMAGE_ARCH"),
        (("amd64", REVISION), "p-7-arm64 should be for linux/arm64, but is for linux/amd64"),
    ],
)
def test_a_part_that_is_missing_or_mixed_up_is_refused_by_name(
    job: Job, capsys: pytest.CaptureFixture[str], part: tuple[str, str] | None, message: str
) -> None:
    job.push(an_image("amd64"), "p-7-amd64")
    if part is not None:
        job.push(an_image(*part), "p-7-arm64")
    assert run(["image", "manifest", "--arch", "amd64", "--arch", "arm64"]) == EXIT_FAILED
    assert message in capsys.readouterr().err
    assert job.digest("p-7") == ""


@pytest.mark.parametrize(
    ("arches", "message"),
    [([], "which architectures"), (["amd64", "x86_64"], "twice"), (["amd 64"], "unknown architecture")],
)
def test_architectures_that_are_none_are_refused(
    job: Job, capsys: pytest.CaptureFixture[str], arches: list[str], message: str
) -> None:
    arguments = [f"--arch={arch}" for arch in arches]
    assert run(["image", "manifest", *arguments]) == EXIT_USAGE
    assert message in capsys.readouterr().err
