"""A runner for the simulated GitLab that really runs the scripts of jobs, with buildah in a store of its own.

It runs what it is given as the user who started it, without a container around it: for own examples only.
"""

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from imagechain.images import process
from imagechain.testing.ci import predefined_variables
from imagechain.testing.simulated import JobRun, SimulatedGitLab
from imagechain.testing.world import write_commit

#: What a broken runner finds programs in.
_NOWHERE = "/nonexistent"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was run."""

    project: str
    pipeline: int
    #: `schedule`, `api` and so on.
    source: str
    outcome: Literal["success", "failed"]
    #: Times of a monotonic clock.
    began: float
    ended: float
    log: Path


class Runner:
    """Runs jobs: a callback for `SimulatedGitLab.on_job`.

    Args:
        gitlab: whose jobs these are.
        folder: an own folder; images, checkouts and the logs of jobs go there.
        registry: host and port of a registry that speaks plain HTTP.
        variables: more variables for each job.
    """

    def __init__(
        self, gitlab: SimulatedGitLab, folder: Path, registry: str, variables: Mapping[str, str]
    ) -> None:
        folder.mkdir()
        self._gitlab = gitlab
        self._folder = folder
        self._variables = {**variables, **_containers(folder, registry)}
        #: All jobs that ended, in order.
        self.runs: list[Run] = []
        #: Projects whose jobs find none of their programs.
        self.broken: set[str] = set()

    async def __call__(self, run: JobRun) -> Literal["success", "failed"]:
        """Run the script of one job in a checkout of its commit."""
        began = time.monotonic()
        log = self._folder / f"job-{run.job.id}.log"
        variables = self._variables_of(run)
        with tempfile.TemporaryDirectory(dir=self._folder) as name, log.open("wb") as file:
            checkout = Path(name)
            write_commit(run.commit, checkout)
            exit_code = await process.stream(
                [
                    *("env", f"--chdir={checkout}", *(f"{key}={value}" for key, value in variables.items())),
                    *("/bin/sh", "-eu", "-c", "\n".join(run.job.plan.script)),
                ],
                file.write,
                temporary=self._folder,
            )
        outcome: Literal["success", "failed"] = "success" if exit_code == 0 else "failed"
        self.runs.append(
            Run(
                project=run.project.full_path,
                pipeline=run.pipeline.id,
                source=run.pipeline.source,
                outcome=outcome,
                began=began,
                ended=time.monotonic(),
                log=log,
            )
        )
        return outcome

    def _variables_of(self, run: JobRun) -> dict[str, str]:
        project, pipeline = run.project, run.pipeline
        variables = {
            **predefined_variables(
                self._gitlab.state, project, pipeline.ref, pipeline.sha, pipeline.source, tag=pipeline.tag
            ),
            **run.job.plan.variables,
            **{variable.key: variable.value for variable in pipeline.variables},
            **self._variables,
        }
        return variables | ({"PATH": _NOWHERE} if project.full_path in self.broken else {})


def _containers(folder: Path, registry: str) -> dict[str, str]:
    """Give buildah a store and registries that are apart from the machine's."""
    storage, registries = folder / "storage.conf", folder / "registries.conf"
    # vfs: slow for large images, but it mounts nothing, so that the folder can simply be removed.
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder / "images"}"\n'
        f'rootless_storage_path = "{folder / "images"}"\nrunroot = "{folder / "run"}"\n'
    )
    registries.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    return {
        "BUILDAH_ISOLATION": os.environ.get("BUILDAH_ISOLATION", "chroot"),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "CONTAINERS_REGISTRIES_CONF": str(registries),
        "PATH": os.environ.get("PATH", os.defpath),
        # Without root, buildah keeps caches and locks there.
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_DATA_HOME": str(folder / "data"),
    }
