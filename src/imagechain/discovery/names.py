"""Which files are Containerfiles, and how a project is called after its file.

The names are those of the design's "Files of users". Three kinds of files look like one and are none:

- `Dockerfile.dockerignore` and the like belong to a Containerfile;
- leftovers of editors and of patches (`Dockerfile.web~`, `Dockerfile.orig`);
- templates (`Dockerfile.j2`, `Dockerfile.template`): what is built is what some program makes of them. Read
  as they are, most are no Containerfiles at all, and those that happen to be would be built with their
  placeholders in them. They are told apart by their ending, are named in one problem of the whole tree, and
  can be asked for by a pattern in `chain.files`.
"""

import re
from collections.abc import Iterable

import msgspec

from imagechain.discovery.globs import compile_glob

_STANDARD = re.compile(
    r"(?:containerfile|dockerfile)(?:\.(?P<ending>.+))?|(?P<beginning>.+)\.(?:containerfile|dockerfile)",
    re.IGNORECASE | re.DOTALL,
)
_PREPROCESSED_ENDING = ".in"
_BUILDS_FOLDER = "builds"
_COMPANION_ENDINGS = (".dockerignore", ".containerignore")
_LEFTOVER_ENDINGS = ("~", ".orig", ".rej", ".swp", ".swo", ".bak")
_TEMPLATE_ENDINGS = (
    ".template", ".tmpl", ".tpl", ".gotmpl", ".j2", ".jinja", ".jinja2", ".erb", ".epp", ".ejs",
    ".m4", ".mustache", ".hbs",
)  # fmt: skip


class ContainerfileName(msgspec.Struct, frozen=True):
    """What the name of a Containerfile says."""

    #: The NAME of `Dockerfile.NAME` and the like; empty if it has none.
    name: str
    #: Whether it goes through the C preprocessor first.
    preprocessed: bool
    #: Whether it is a template by its name, and is not read.
    template: bool = False


class FileNames:
    """Tells Containerfiles by their names; `patterns` are those of `chain.files`."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = list(patterns)
        self._extra_names = [compile_glob(pattern) for pattern in patterns if "/" not in pattern]
        self._extra_paths = [compile_glob(pattern.strip("/")) for pattern in patterns if "/" in pattern]

    def read(self, folder: str, file_name: str) -> ContainerfileName | None:
        """Read a file's name; None: it is no Containerfile."""
        lower = file_name.lower()
        preprocessed = lower.endswith(_PREPROCESSED_ENDING)
        is_extra = self._is_extra(folder, file_name)
        if not (preprocessed or is_extra or "dockerfile" in lower or "containerfile" in lower):
            return None  # soon: this is asked of every file of the tree
        stem = file_name[:-3] if preprocessed else file_name
        match = _STANDARD.fullmatch(stem)
        in_builds = preprocessed and folder.rpartition("/")[2] == _BUILDS_FOLDER
        if match is not None:
            name = match["ending"] or match["beginning"] or ""
        elif in_builds:
            name = stem
        else:
            name = stem.rpartition(".")[0] or stem
        if is_extra:
            return ContainerfileName(name, preprocessed)
        if (match is None and not in_builds) or not stem:
            return None
        ending = f".{name.lower()}"
        if ending.endswith(_COMPANION_ENDINGS) or ending.endswith(_LEFTOVER_ENDINGS):
            return None
        return ContainerfileName(name, preprocessed, template=ending.endswith(_TEMPLATE_ENDINGS))

    def _is_extra(self, folder: str, file_name: str) -> bool:
        if any(pattern.fullmatch(file_name) for pattern in self._extra_names):
            return True
        path = join(folder, file_name)
        return any(pattern.fullmatch(path) for pattern in self._extra_paths)


def join(folder: str, name: str) -> str:
    """Join paths that are relative to the top folder, which is `.`."""
    return name if folder == "." else f"{folder}/{name}"


def folder_of(path: str) -> str:
    """Folder of a path that is relative to the top folder."""
    return path.rpartition("/")[0] or "."


def context_of(folder: str, name: ContainerfileName) -> str:
    """Folder of the build context: that of the file, but for `builds/NAME.in` the folder around `builds`."""
    in_builds = name.preprocessed and folder.rpartition("/")[2] == _BUILDS_FOLDER
    return folder_of(folder) if in_builds else folder
