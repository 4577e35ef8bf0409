"""The CI configurations of a tree: which projects each speaks of, and what it gives to their builds.

A `.gitlab-ci.yml` speaks of the projects whose build context is its folder. If there is none, it is the
configuration of a repository of many images, and speaks of every project below it that has no nearer one: the
images its jobs run in are what those projects are built with. For build arguments only nearness counts.
"""

import os
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from imagechain.chain.values import Problem
from imagechain.ciconfig import CiConfig, CiConfigError, read_ci_config
from imagechain.discovery.names import join, parent
from imagechain.discovery.walk import UnreadableError, read_file

#: Name of the file.
FILE_NAME = ".gitlab-ci.yml"
#: Most files that are listed for an include with wildcards.
LISTED_FILES_MAX = 100_000

_YAML_ENDINGS = (".yml", ".yaml")


class CiConfigs(msgspec.Struct, frozen=True):
    """The configurations that could be read, by folder."""

    configs: Mapping[str, CiConfig]
    problems: tuple[Problem, ...]

    def nearest(self, folder: str) -> str | None:
        """Folder of the nearest configuration, at or above a folder."""
        while folder not in self.configs:
            if folder == ".":
                return None
            folder = parent(folder)
        return folder

    def build_arguments(self, folder: str) -> tuple[Mapping[str, str], ...]:
        """List what the jobs of the nearest configuration give to builds."""
        nearest = self.nearest(folder)
        return self.configs[nearest].build_arguments if nearest is not None else ()

    def owners(self, contexts: Mapping[str, str]) -> dict[str, list[str]]:
        """List the projects that each configuration speaks of, by its folder; `contexts` by project."""
        beside: dict[str, list[str]] = {}
        below: dict[str, list[str]] = {}
        for project, context in contexts.items():
            folder = self.nearest(context)
            if folder is not None:
                (beside if folder == context else below).setdefault(folder, []).append(project)
        return {**below, **beside}


def read_ci_configs(root: str, folders: Iterable[str]) -> CiConfigs:
    """Read the configurations that stand in these folders."""
    configs: dict[str, CiConfig] = {}
    problems: list[Problem] = []
    for folder in folders:
        file = join(folder, FILE_NAME)
        try:
            configs[folder] = _read(root, folder, file)
        except UnreadableError as error:
            problems.append(Problem(file=file, line=None, message=str(error)))
        except CiConfigError as error:
            problems.append(Problem(file=join(folder, error.file), line=error.line, message=error.message))
    for folder, config in configs.items():
        problems += (
            Problem(file=join(folder, warning.file), line=warning.line, message=warning.message)
            for warning in config.warnings
        )
    return CiConfigs(configs, tuple(problems))


def _read(root: str, folder: str, file: str) -> CiConfig:
    def read_local(path: str) -> bytes | None:
        real = os.path.realpath(f"{root}/{join(folder, path)}")
        if not real.startswith(f"{root.rstrip('/')}/"):
            return None
        try:
            return read_file(root, os.path.relpath(real, root))
        except UnreadableError:
            return None

    return read_ci_config(
        read_file(root, file),
        read_local=read_local,
        list_local=lambda: _list_yaml_files(root if folder == "." else f"{root}/{folder}"),
        file=FILE_NAME,
    )


def _list_yaml_files(top: str) -> Iterator[str]:
    listed = 0
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            if name.endswith(_YAML_ENDINGS):
                listed += 1
                if listed > LISTED_FILES_MAX:
                    return
                yield os.path.relpath(f"{folder}/{name}", top)
