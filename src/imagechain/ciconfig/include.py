"""`include:`: local files are read and merged, files of other projects are listed.

Rules: GitLab's documentation of `include`; its `search_files_by_wildcard_path` for `*` and `**`. Conditions
(`rules:`) are not decided here: a file that may be included counts as included.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from imagechain.ciconfig.document import Node, load_configuration
from imagechain.ciconfig.inherit import Steps, merge
from imagechain.ciconfig.values import CiInclude, CiWarning, IncludeKind
from imagechain.ciconfig.variables import Scope

#: Most included files of one configuration; GitLab's own limit (`ci_max_includes`).
INCLUDES_MAX = 150
#: Deepest chain of files that include files.
INCLUDE_DEPTH_MAX = 50

_REMOTE_PREFIXES = ("http://", "https://")
_YAML_ENDINGS = (".yml", ".yaml")


class Includer:
    """Reads one configuration with all local files that it includes."""

    def __init__(
        self,
        read_local: Callable[[str], bytes | None],
        list_local: Callable[[], Iterable[str]],
        variables: Scope,
        steps: Steps,
    ) -> None:
        self._read_local = read_local
        self._list_local = list_local
        self._variables = variables
        self._steps = steps
        self._files_read = 0
        self.foreign: list[CiInclude] = []
        self.warnings: list[CiWarning] = []

    def load(self, data: bytes, file: str, chain: tuple[str, ...] = ()) -> Node:
        """Read a file and merge it over what it includes."""
        own = load_configuration(data, file)
        entries = own.mapping("the configuration")
        include = entries.get("include")
        if include is None or include.value is None:
            return own
        result = Node({}, file, 1)
        for item in include.value if isinstance(include.value, list) else [include]:
            for path in self._local_paths(item):
                result = merge(result, self._load_included(path, item, (*chain, file)), self._steps)
        rest = {key: value for key, value in entries.items() if key != "include"}
        return merge(result, Node(rest, file, own.line), self._steps)

    def _load_included(self, path: str, item: Node, chain: tuple[str, ...]) -> Node:
        if path in chain:
            raise item.error(f"`include` goes round in a circle: {' -> '.join((*chain, path))}")
        self._files_read += 1
        if self._files_read > INCLUDES_MAX:
            raise item.error(f"more than {INCLUDES_MAX} included files, GitLab's limit")
        if len(chain) == INCLUDE_DEPTH_MAX:
            raise item.error(f"`include` is nested deeper than {INCLUDE_DEPTH_MAX} files")
        data = self._read_local(path)
        if data is None:
            raise item.error(f"the included file {path} does not exist, or cannot be read")
        return self.load(data, path, chain)

    def _local_paths(self, item: Node) -> list[str]:
        """List the local files that an entry includes; entries of other kinds are noted."""
        if isinstance(item.value, str):
            if item.value.startswith(_REMOTE_PREFIXES):
                self.foreign.append(_foreign("remote", item.value, item))
                return []
            return self._find_local(item.value, item)
        if not isinstance(item.value, Mapping):
            raise item.error("an entry of `include` must be a path, or a mapping such as `local: file.yml`")
        entry = {key: value.value for key, value in item.value.items()}
        match entry:
            case {"local": str(path)}:
                return self._find_local(path, item.value["local"])
            case {"project": str(project), "file": str() | list()}:
                self._note_project(project, entry.get("ref"), item.value["file"], item)
            case {"component": str(component)}:
                location, _, version = component.partition("@")
                self.foreign.append(_foreign("component", location, item, ref=version))
            case {"template": str(template)}:
                self.foreign.append(_foreign("template", template, item))
            case {"remote": str(url)}:
                self.foreign.append(_foreign("remote", url, item))
            case _:
                kinds = "`local`, `project` with `file`, `component`, `template` or `remote`"
                raise item.error(f"an entry of `include` needs one of {kinds}")
        return []

    def _note_project(self, project: str, ref: object, files: Node, item: Node) -> None:
        name, _ = self._variables.expand(project, item)
        for file in files.value if isinstance(files.value, list) else [files]:
            if not isinstance(file.value, str):
                raise file.error("`file` of an include must be a path, or a list of paths")
            self.foreign.append(
                _foreign(
                    "project",
                    name.strip("/"),
                    item,
                    ref="" if ref is None else str(ref),
                    path=file.value.lstrip("/"),
                )
            )

    def _find_local(self, written: str, item: Node) -> list[str]:
        path, known = self._variables.expand(written, item)
        if not known:
            message = f"the included file {path} is not read: a variable in its name is not known here"
            self.warnings.append(CiWarning(message=message, file=item.file, line=item.line))
            return []
        path = path.lstrip("/")
        if ".." in path.split("/") or not path:
            raise item.error(f"the included file {written!r} must be named from the repository's top folder")
        if not path.endswith(_YAML_ENDINGS):
            raise item.error(f"the included file {written!r} must end in .yml or .yaml")
        if "*" not in path:
            return ["/".join(part for part in path.split("/") if part not in {"", "."})]
        matches = _wildcard(path).fullmatch
        found = sorted(file for file in self._list_local() if matches(file))
        if not found:
            raise item.error(f"no file of the repository matches the include {written!r}")
        return found


def _foreign(kind: IncludeKind, location: str, item: Node, *, ref: str = "", path: str = "") -> CiInclude:
    return CiInclude(kind=kind, location=location, ref=ref, path=path, file=item.file, line=item.line)


def _wildcard(path: str) -> re.Pattern[str]:
    """Translate a path with wildcards: `**` crosses folders, `*` does not."""
    parts = re.split(r"(\*\*|\*)", path)
    return re.compile(
        "".join({"**": ".*", "*": "[^/]*"}.get(part) or re.escape(part) for part in parts), re.DOTALL
    )
