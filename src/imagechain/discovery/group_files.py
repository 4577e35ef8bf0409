"""Reads what discovery needs of the projects of GitLab groups, and of that only what has changed.

What was read of a branch is a value (`BranchFiles`) that the caller keeps and gives back the next time. A
branch whose newest commit is the same is not read again; of one that moved only files with another object id;
its CI configuration is asked for again only if it includes others and one of them may have changed.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import msgspec

from imagechain.chain.values import Problem
from imagechain.ciconfig import CiConfigError, read_declared_inputs
from imagechain.config import Settings
from imagechain.discovery.candidates import Candidate, find_candidates
from imagechain.discovery.declared import FILE_NAME as DEPS_FILE_NAME
from imagechain.discovery.globs import compile_glob
from imagechain.discovery.group_ci import Linted, ask_lint, ci_place, includes_others
from imagechain.discovery.names import FileNames, folder_of, join
from imagechain.discovery.preprocess import INCLUDES_FOLDER
from imagechain.discovery.walk import Tree
from imagechain.gitlab import rest
from imagechain.gitlab.client import Client
from imagechain.gitlab.errors import NotFoundError, OverloadedError
from imagechain.gitlab.files import (
    Checkout,
    FileName,
    ProjectHeads,
    Unreadable,
    read_contents,
    read_heads,
    read_names,
)
from imagechain.together import together

#: Most projects that are asked for the instance's registry: any one of them knows it.
REGISTRY_ASKED_MAX = 3
#: Deepest nesting of `#include` in files for the preprocessor.
INCLUDE_DEPTH_MAX = 20

_YAML_ENDINGS = (".yml", ".yaml")
_CPP_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"', re.MULTILINE)


class File(msgspec.Struct, frozen=True):
    """A file as it was read."""

    oid: str
    #: None: it could not be read.
    text: str | None
    #: Why it could not be read, and what to do.
    unreadable: str = ""


class BranchFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of a branch at one commit."""

    #: None: the repository is empty, or could not be read.
    branch: str | None = None
    #: Empty: what was read is not of one commit, and is read again the next time.
    commit: str = ""
    #: The patterns of `chain.files`, which decided what files were read, and the project's `ci_config_path`.
    patterns: tuple[str, ...] = ()
    ci_path: str = ""
    #: By path.
    files: Mapping[str, File] = {}
    candidates: tuple[Candidate, ...] = ()
    linted: Linted | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def declared_inputs(self) -> frozenset[str]:
        """Name the inputs that its pipelines may be given; of a file elsewhere, none is known."""
        place = ci_place(self.ci_path)
        file = self.files.get(place.file)
        if file is None or file.text is None or place.foreign is not None:
            return frozenset()
        try:
            return read_declared_inputs(file.text.encode(), place.file)
        except CiConfigError:
            return frozenset()  # told among the problems of the scan

    def speaks_of(self, variable: str) -> bool:
        """Tell whether its CI configuration, with all that it includes, names a variable."""
        file = self.files.get(ci_place(self.ci_path).file)
        texts = (self.linted.merged_yaml if self.linted is not None else None, file.text if file else None)
        return any(variable in text for text in texts if text is not None)


#: What is kept from one scan to the next, by the id of the source.
Cache = Mapping[str, BranchFiles]


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A tracked branch of a project: a source."""

    #: Id of the source: the project's path, `path@branch` for branches besides the default one.
    source: str
    #: GitLab's number of the project.
    project: int
    path: str
    #: The group that it was found in.
    group: str
    default_branch: str | None
    files: BranchFiles


class GroupFiles(msgspec.Struct, frozen=True, kw_only=True):
    """All that was read of the groups."""

    #: In the order of their sources; one for each project at least.
    branches: tuple[Branch, ...]
    #: Host of the instance's container registry; None: it has none, or the groups are empty.
    registry: str | None


async def read_groups(client: Client, settings: Settings, cache: Cache) -> GroupFiles:
    """Read the projects of the groups of `[gitlab]`, and what changed in them since `cache` was made.

    Raises:
        GitLabError: GitLab does not answer, or a group cannot be read.
    """
    projects = await _list_projects(client, settings)
    checkouts = {
        source: checkout for project in projects.values() for source, checkout in _checkouts(project)
    }
    moved: dict[str, _Work] = {}
    for source, checkout in checkouts.items():
        project, known = projects[checkout.project], cache.get(source, BranchFiles())
        wanted = BranchFiles(
            branch=checkout.branch,
            commit=project.commits[checkout.branch],
            patterns=settings.chain.files,
            ci_path=project.ci_path,
        )
        if not _is_same(known, wanted):
            moved[source] = _Work(checkout, wanted, known)
    await _read_moved(client, moved)
    files = {source: moved[source].done() if source in moved else cache[source] for source in checkouts}
    await _lint(client, checkouts, moved, files)
    branches = [
        Branch(
            source=source,
            project=project.id,
            path=project.path,
            group=project.group,
            default_branch=project.default_branch,
            files=files[source] if source in files else _unread(source, project, cache),
        )
        for project in projects.values()
        for source in _sources(project, cache)
    ]
    return GroupFiles(
        branches=tuple(sorted(branches, key=lambda branch: branch.source)),
        registry=await _registry_host(client, list(projects.values())),
    )


async def _list_projects(client: Client, settings: Settings) -> dict[int, ProjectHeads]:
    """List the projects of all groups, each once, as far as the patterns let them count."""
    included = [compile_glob(pattern.strip("/")) for pattern in settings.gitlab.include]
    excluded = [compile_glob(pattern.strip("/")) for pattern in settings.gitlab.exclude]
    found: dict[int, ProjectHeads] = {}

    async def read(group: str) -> None:
        for project in await read_heads(client, group.strip("/"), settings.gitlab.branches):
            if any(glob.fullmatch(project.path) for glob in excluded):
                continue
            if not included or any(glob.fullmatch(project.path) for glob in included):
                found.setdefault(project.id, project)

    await together(*map(read, settings.gitlab.groups))
    return dict(sorted(found.items()))


async def _registry_host(client: Client, projects: Sequence[ProjectHeads]) -> str | None:
    """Tell the host of the instance's container registry by what one of its projects publishes to."""
    readable = [project for project in projects if project.unreadable is None] or projects
    for place, one in enumerate(readable[:REGISTRY_ASKED_MAX], start=1):
        try:
            project = await client.send(rest.project(one.id))
        except (NotFoundError, OverloadedError):  # it went away meanwhile, or GitLab fails on it
            if place == min(len(readable), REGISTRY_ASKED_MAX):
                raise
            continue
        prefix = project.container_registry_image_prefix
        return prefix.lower().removesuffix(f"/{project.path_with_namespace.lower()}") if prefix else None
    return None


def _checkouts(project: ProjectHeads) -> list[tuple[str, Checkout]]:
    """List the tracked branches of a project that exist, each with the id of its source."""
    return [
        (
            project.path if branch == project.default_branch else f"{project.path}@{branch}",
            Checkout(
                project=project.id,
                path=project.path,
                group=project.group,
                branch=branch,
                is_default=branch == project.default_branch,
            ),
        )
        for branch in project.commits
    ]


def _sources(project: ProjectHeads, cache: Cache) -> list[str]:
    """List the sources of a project: its branches; if GitLab failed on it, those that were known before."""
    if project.unreadable is None:
        return [source for source, _ in _checkouts(project)] or [project.path]
    known = (source for source in cache if source.startswith(f"{project.path}@"))
    return [project.path, *known]


#: The fields of `BranchFiles` that reading gives; the others say what was to be read.
_READ = ("files", "candidates", "linted", "problems")


def _is_same(known: BranchFiles, wanted: BranchFiles) -> bool:
    """Tell whether what is known of a branch is what a reading of it would give."""
    return msgspec.structs.replace(wanted, **{name: getattr(known, name) for name in _READ}) == known


def _unread(source: str, project: ProjectHeads, cache: Cache) -> BranchFiles:
    """Give what is known of a project without a commit: it is empty, or GitLab failed on it."""
    if project.unreadable is None:
        return BranchFiles()
    problem = Problem(file="", line=None, message=project.unreadable.message)
    known = cache.get(source, BranchFiles())
    return msgspec.structs.replace(known, commit="", problems=(problem,))


class _Work:
    """The reading of one branch that moved."""

    def __init__(self, checkout: Checkout, wanted: BranchFiles, known: BranchFiles) -> None:
        """Begin; `wanted` says what is to be read, without its files, and `known` what was read before."""
        self.checkout = checkout
        self._settings = wanted
        self._commit = wanted.commit
        self._known = known
        self._names: Mapping[str, FileName] = {}
        self._files: dict[str, File] = {}
        self._candidates: tuple[Candidate, ...] = ()
        self._problems: list[Problem] = []

    def choose(self, names: Mapping[str, FileName] | Unreadable) -> None:
        """Choose the files that discovery reads."""
        if isinstance(names, Unreadable):
            self._commit = ""
            self._files, self._candidates = dict(self._known.files), self._known.candidates
            self._problems.append(Problem(file="", line=None, message=names.message))
            return
        # Git makes no other paths, but what is written to a folder of ours must not lead out of it.
        self._names = names = {path: name for path, name in names.items() if _plain(path) == path}
        file_names = FileNames(self._settings.patterns)
        tree, links = Tree(files={}, problems=[]), list[str]()
        for path, name in names.items():
            folder, base = folder_of(path), path.rpartition("/")[2]
            if file_names.read(folder, base) is not None:
                if name.is_link:
                    links.append(path)
                else:
                    tree.files.setdefault(folder, []).append(base)
        self._candidates = tuple(find_candidates(tree, file_names, self._problems))
        if links and not self._candidates:
            message = "a symbolic link is not followed in GitLab; name its target by `files` in [chain]"
            self._problems.append(Problem(file=min(links), line=None, message=message))
        top_files = (ci_place(self._settings.ci_path).file, DEPS_FILE_NAME)
        self._want([path for path in top_files if path in names])
        self._want([one.file for one in self._candidates])

    def missing(self) -> list[str]:
        """List the files that must be read now; those that are known by their object id are not."""
        return [path for path, file in self._files.items() if file.text is None and not file.unreadable]

    def take(self, contents: Mapping[str, str | Unreadable]) -> None:
        """Take files that were read, and want those that they include by the preprocessor."""
        for path in self.missing():
            content = contents.get(path, Unreadable("it went away while it was read", again=True))
            oid = self._files[path].oid
            if isinstance(content, Unreadable):
                if content.again:
                    self._commit = ""
                self._files[path] = File(oid, None, content.message)
            else:
                self._files[path] = File(oid, content)

    def want_included(self) -> None:
        """Want the files that `.in` files include."""
        contexts = {one.context for one in self._candidates if one.preprocessed}
        for path, file in list(self._files.items()) if contexts else ():
            for included in _CPP_INCLUDE.findall(file.text or ""):
                folders = [*contexts, folder_of(path)]
                folders += [join(context, INCLUDES_FOLDER) for context in contexts]
                places = [join(folder, included) for folder in folders]
                self._want([_plain(place) for place in places if _plain(place) in self._names])

    def done(self) -> BranchFiles:
        """Give what was read."""
        return msgspec.structs.replace(
            self._settings,
            commit=self._commit,
            files=self._files,
            candidates=self._candidates,
            linted=self._known.linted,
            problems=tuple(self._problems),
        )

    def fingerprint(self) -> str:
        """Name the YAML files of the branch as they are now: some may be parts of its CI configuration."""
        paths = sorted(path for path in self._names if path.endswith(_YAML_ENDINGS))
        lines = [f"{self._names[path].oid} {path}" for path in paths]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _want(self, paths: Sequence[str]) -> None:
        for path in paths:
            if path not in self._files:
                oid = self._names[path].oid
                known = self._known.files.get(path)
                is_same = known is not None and known.oid == oid and known.text is not None
                self._files[path] = known if known is not None and is_same else File(oid, None)


def _plain(path: str) -> str:
    """Resolve `.` and `..` in a path."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


async def _read_moved(client: Client, moved: Mapping[str, _Work]) -> None:
    names = await read_names(client, [work.checkout for work in moved.values()])
    for work in moved.values():
        work.choose(names[work.checkout])
    for _ in range(INCLUDE_DEPTH_MAX):
        wanted = {work.checkout: missing for work in moved.values() if (missing := work.missing())}
        contents = await read_contents(client, wanted) if wanted else {}
        for work in moved.values():
            work.take(contents.get(work.checkout, {}))
            work.want_included()
        if not any(work.missing() for work in moved.values()):
            return


async def _lint(
    client: Client,
    checkouts: Mapping[str, Checkout],
    moved: Mapping[str, _Work],
    files: dict[str, BranchFiles],
) -> None:
    """Ask for the CI configurations that include others, where one of their files may have changed."""
    moved_paths = {work.checkout.path for work in moved.values()}

    async def ask(source: str, fingerprint: str) -> None:
        linted = await ask_lint(client, checkouts[source], files[source].commit, fingerprint)
        files[source] = msgspec.structs.replace(files[source], linted=linted)

    asks = []
    for source, branch in files.items():
        ci = branch.files.get(ci_place(branch.ci_path).file)
        if ci is None or ci.text is None or not includes_others(ci.text):
            if branch.linted is not None:
                files[source] = msgspec.structs.replace(branch, linted=None)
            continue
        if not branch.commit:
            continue
        linted = branch.linted
        known = linted.fingerprint if linted is not None else ""
        fingerprint = moved[source].fingerprint() if source in moved else known
        if (
            linted is None
            or linted.again
            or linted.fingerprint != fingerprint
            or any(foreign.project in moved_paths for foreign in linted.foreign)
        ):
            asks.append(ask(source, fingerprint))
    await together(*asks)
