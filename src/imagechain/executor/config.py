"""The stage `config`: tell the runner where builds and caches are, and later stages where their job is."""

import json
import sys

from imagechain._version import __version__
from imagechain.executor import job as jobs
from imagechain.executor import podman, settings
from imagechain.executor.arguments import take_settings
from imagechain.executor.containers import BUILDS_DIR, CACHE_DIR
from imagechain.executor.folders import StateFolder
from imagechain.executor.state import FOLDER_VARIABLE


def main(arguments: list[str]) -> int:
    """Print the answer that the runner expects."""
    path, _ = take_settings(arguments)
    state = StateFolder(settings.load(path).base.state_dir)
    podman.environment()  # what is wrong with it is better said before anything is made
    answer = {
        "driver": {"name": "imagechain podman", "version": __version__},
        "builds_dir": BUILDS_DIR,
        "cache_dir": CACHE_DIR,
        # Each volume of builds belongs to one job at a time.
        "builds_dir_is_shared": False,
        "shell": "bash",
        "job_env": {FOLDER_VARIABLE: state.job(jobs.load().key)},
    }
    json.dump(answer, sys.stdout)
    return 0
