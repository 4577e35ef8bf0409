"""A repository, a registry, and `imagechain image build` in between."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from imagechain.cli.main import run

#: Runs the command line as a program of its own.
PROGRAM = "from imagechain.cli.main import main; main()"
BASE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin
RUN mkdir -p /dev /etc /proc /run /sys /tmp
LABEL org.opencontainers.image.revision=of-the-base
"""
_REQUEST = re.compile(r'"(GET|HEAD|PUT|POST|PATCH|DELETE) /v2/(\S*?)(?:\?\S*)? HTTP')
_ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in ("oci.image.manifest.v1", "oci.image.index.v1", "docker.distribution.manifest.v2")
)


class Registry(msgspec.Struct, frozen=True):
    """A registry without logins."""

    address: str
    log: Path

    def manifest(self, repository: str, tag: str) -> dict[str, Any]:
        """Read a manifest."""
        reply = httpx2.get(
            f"http://{self.address}/v2/{repository}/manifests/{tag}", headers={"Accept": _ACCEPT}
        )
        assert reply.status_code == 200, reply.text
        return {"digest": reply.headers["docker-content-digest"], **reply.json()}

    def config(self, repository: str, tag: str) -> dict[str, Any]:
        """Read the config of an image."""
        digest = self.manifest(repository, tag)["config"]["digest"]
        config: dict[str, Any] = httpx2.get(
            f"http://{self.address}/v2/{repository}/blobs/{digest}", follow_redirects=True
        ).json()
        return config

    def tags(self, repository: str) -> list[str]:
        """List the tags of a repository."""
        reply = httpx2.get(f"http://{self.address}/v2/{repository}/tags/list")
        return sorted(reply.json().get("tags") or []) if reply.status_code == 200 else []

    def requests(self) -> list[str]:
        """List the requests that it got so far: method and path."""
        return [" ".join(found) for found in _REQUEST.findall(self.log.read_text())]


class Built(msgspec.Struct, frozen=True):
    """How one command ended."""

    code: int
    output: str
    said: str

    @property
    def json(self) -> dict[str, Any]:
        """What it printed."""
        assert self.code == 0, self.said
        found: dict[str, Any] = json.loads(self.output)
        return found


class Shop:
    """One repository of git."""

    def __init__(
        self,
        top: Path,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        self.top = top
        self.registry = registry
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        top.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("remote", "add", "origin", "git@git.example.com:group/project.git")
        self.settings = f'[registry."{registry.address}"]\ninsecure = true\n'

    def write(self, files: Mapping[str, str]) -> "Shop":
        """Write files; `BASE` is the image in the registry."""
        for name, text in {"imagechain.toml": self.settings, **files}.items():
            file = self.top / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("BASE", f"{self.registry.address}/base"))
        return self

    def commit(self, seconds: int = 1_700_000_000) -> "Shop":
        """Commit everything."""
        self.git("add", "--all")
        date = f"{seconds} +0000"
        self.git("commit", "--quiet", "--message=x", GIT_COMMITTER_DATE=date, GIT_AUTHOR_DATE=date)
        return self

    def git(self, *arguments: str, **environ: str) -> str:
        """Run git."""
        names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return subprocess.run(
            ["git", "-C", self.top, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", **names, **environ},
        ).stdout

    def clone(self, place: Path) -> "Shop":
        """Check out the same commit elsewhere."""
        other = object.__new__(Shop)
        other.__dict__.update(self.__dict__)
        other.top = place
        shutil.copytree(self.top, place, symlinks=True)
        return other

    def pipeline(self, number: int, **more: str) -> "Shop":
        """Go on as a job of a pipeline."""
        variables = {
            "CI_PIPELINE_ID": str(number),
            "CI_COMMIT_BRANCH": "main",
            "CI_DEFAULT_BRANCH": "main",
            "CI_PIPELINE_SOURCE": "push",
            "CI_PROJECT_NAME": "project",
            "CI_PROJECT_URL": "https://elsewhere.example.com/x",
            "CI_COMMIT_SHA": "f" * 40,
            "CI_REGISTRY_IMAGE": f"{self.registry.address}/group/{self._name}",
            **more,
        }
        for name, text in variables.items():
            self._monkeypatch.setenv(name, text)
        return self

    @property
    def _name(self) -> str:
        # Each test has repositories of its own.
        return re.sub(r"[^a-z0-9]+", "-", self.top.parent.name.lower()).strip("-")

    @property
    def repository(self) -> str:
        """Where the images of its pipelines are."""
        return f"group/{self._name}"

    def build(self, *arguments: str) -> Built:
        """Run `imagechain image build`."""
        return self.image("build", *arguments)

    def image(self, *arguments: str) -> Built:
        """Run a command of `imagechain image`."""
        self._capfd.readouterr()
        code = run(["image", *arguments, "--dir", str(self.top), "--format=json"])
        captured = self._capfd.readouterr()
        return Built(code, captured.out, captured.err)
