"""The CI configurations of a tree: which projects each speaks of, and what it gives to their builds.

A `.gitlab-ci.yml` speaks of the projects whose build context is its folder. If there is none, it is the
configuration of a repository of many images, and speaks of every project below it that has no nearer one: the
images its jobs run in are what those projects are built with. For build arguments only nearness counts.

One that is included by another above it is a part of that one, and is not read by itself; the jobs that stand
in it still speak of the projects that are nearest to it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from imagechain.chain.values import Problem
from imagechain.ciconfig import CiConfig, CiConfigError, read_ci_config
from imagechain.discovery.names import folder_of, join
from imagechain.discovery.walk import UnreadableError, read_file

#: Name of the file.
FILE_NAME = ".gitlab-ci.yml"
#: Most files that are looked at for an include with wildcards.
LISTED_FILES_MAX = 100_000

_YAML_ENDINGS = (".yml", ".yaml")


class CiConfigs:
    """The configurations of a tree that could be read.

    Attributes:
        configs: the configurations, by the folder that they are read from.
        problems: what could not be read.
    """

    def __init__(self, root: str, folders: Iterable[str]) -> None:
        """Read the configurations that stand in these folders; outer folders must come before inner ones."""
        self.configs: dict[str, CiConfig] = {}
        self.problems: list[Problem] = []
        #: Folder of each configuration, or part of one -> folder that the configuration is read from.
        self._read_from: dict[str, str] = {}
        self._build_arguments: dict[str, list[Mapping[str, str]]] = {}
        for folder in folders:
            if folder not in self._read_from:
                self._read(root, folder)

    def nearest(self, folder: str) -> str | None:
        """Folder of the nearest configuration or part of one, at or above a folder."""
        while folder not in self._read_from:
            if folder == ".":
                return None
            folder = folder_of(folder)
        return folder

    def build_arguments(self, folder: str) -> Sequence[Mapping[str, str]]:
        """List what jobs give to builds in a folder: those of the nearest file, else of its configuration."""
        nearest = self.nearest(folder)
        if nearest is None:
            return ()
        if nearest not in self._build_arguments:
            read_from = self._read_from[nearest]
            given = self.configs[read_from].build_arguments
            own = [
                one.values for one in given if self.nearest(folder_of(join(read_from, one.file))) == nearest
            ]
            self._build_arguments[nearest] = own or [one.values for one in given]
        return self._build_arguments[nearest]

    def owners(self, contexts: Mapping[str, str]) -> dict[str, list[str]]:
        """List the projects that each configuration, or part of one, speaks of; `contexts` by project."""
        beside: dict[str, list[str]] = {}
        below: dict[str, list[str]] = {}
        for project, context in contexts.items():
            folder = self.nearest(context)
            if folder is not None:
                (beside if folder == context else below).setdefault(folder, []).append(project)
        return {**below, **beside}

    def _read(self, root: str, folder: str) -> None:
        parts: list[str] = []

        def read_local(path: str) -> bytes | None:
            file = join(folder, path)
            real = os.path.realpath(f"{root}/{file}")
            if not real.startswith(f"{root.rstrip('/')}/"):
                return None
            try:
                data = read_file(root, os.path.relpath(real, root))
            except UnreadableError:
                return None
            if file.endswith(f"/{FILE_NAME}"):
                parts.append(folder_of(file))
            return data

        file = join(folder, FILE_NAME)
        try:
            config = read_ci_config(
                read_file(root, file),
                read_local=read_local,
                list_local=lambda: _list_yaml_files(root if folder == "." else f"{root}/{folder}"),
                file=FILE_NAME,
            )
        except UnreadableError as error:
            self.problems.append(Problem(file=file, line=None, message=str(error)))
        except CiConfigError as error:
            where = join(folder, error.file)
            self.problems.append(Problem(file=where, line=error.line, message=error.message))
        else:
            self.configs[folder] = config
            self._read_from.update(dict.fromkeys([folder, *parts], folder))
            self.problems += (
                Problem(file=join(folder, warning.file), line=warning.line, message=warning.message)
                for warning in config.warnings
            )


def _list_yaml_files(top: str) -> Iterator[str]:
    listed = 0
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            if name.endswith(_YAML_ENDINGS):
                listed += 1
                if listed > LISTED_FILES_MAX:
                    raise UnreadableError(
                        f"includes by wildcard among more than {LISTED_FILES_MAX} YAML files"
                    )
                yield os.path.relpath(f"{folder}/{name}", top)
