"""Discovery in groups of GitLab: every project is a source, and so is each other branch that is tracked.

Reading is the part of `group_files`; from there on nothing is asked any more. A project may have many
Containerfiles: what any of them is built from, the project is built from; what it builds from its own images
is its own affair, for one pipeline builds them all.
"""

import asyncio
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from imagechain.chain.values import Dependency, Problem, Source
from imagechain.ciconfig import CiConfig, CiConfigError, CiImage, read_ci_config
from imagechain.config import Settings
from imagechain.containerfile import Dialect
from imagechain.discovery.connect import connect_ci_image, connect_images
from imagechain.discovery.declared import FILE_NAME as DEPS_FILE_NAME
from imagechain.discovery.declared import Entry, parse_declaration
from imagechain.discovery.edges import Edges
from imagechain.discovery.globs import GlobTable
from imagechain.discovery.group_ci import Foreign, ci_place
from imagechain.discovery.group_files import Branch, Cache, GroupFiles, read_groups
from imagechain.discovery.group_images import published, variables
from imagechain.discovery.preprocess import Preprocessed, preprocess
from imagechain.discovery.reading import HowToRead, Reading, read_project, refuse
from imagechain.discovery.values import Discovery
from imagechain.gitlab.client import Client
from imagechain.refs import Platform, ReferenceError, parse_reference


class GroupScan(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan of groups gives."""

    discovery: Discovery
    #: The projects and their tracked branches, in the order of their sources; empty repositories too.
    branches: tuple[Branch, ...]
    #: Host of the instance's container registry; None: it has none, or the groups are empty.
    registry: str | None
    #: To be given to the next scan.
    cache: Cache


async def discover_group(
    client: Client, settings: Settings, *, cache: Cache, platform: Platform, dialect: Dialect = "buildkit"
) -> GroupScan:
    """Find the chain in the groups of `[gitlab]`.

    Args:
        client: the GitLab of `[gitlab]`.
        settings: `[gitlab]` and `[chain]` count.
        cache: what the scan before gave; empty at first.
        platform: what is built for.
        dialect: whose reading of the files is wanted.

    Raises:
        GitLabError: GitLab does not answer, or a group cannot be read.
    """
    files = await read_groups(client, settings, cache)
    how = HowToRead(platform=platform, build_platform=None, target=None, dialect=dialect)
    return GroupScan(
        # In a thread, for it takes seconds for thousands of projects, and the caller may be a server.
        discovery=await asyncio.to_thread(make_graph, files, settings, url=client.url, how=how),
        branches=files.branches,
        registry=files.registry,
        cache={branch.source: branch.files for branch in files.branches},
    )


def make_graph(files: GroupFiles, settings: Settings, *, url: str, how: HowToRead) -> Discovery:
    """Make the graph of what was read."""
    said = {
        branch.source: _Said(branch, settings, how, variables(branch, url, files.registry))
        for branch in files.branches
    }
    named = [name for one in said.values() for name in one.named()]
    built = {source: one.built() for source, one in said.items()}
    images, problems = published(settings, files.registry, files.branches, named, built)
    edges = Edges(images, how.dialect, short_names_are_near=False)
    sources = _SourceNames(files.branches)
    readings = {source: one.readings for source, one in said.items()}
    dependencies: list[Dependency] = []
    for source, one in said.items():
        # One source at a time, so that its problems can be told with its name.
        edges.dependencies, edges.problems = [], []
        one.connect(edges, readings, sources)
        dependencies += (found for found in edges.dependencies if found.parent != source)
        problems += (_of_source(source, problem) for problem in [*one.problems, *edges.problems])
    projects = [
        Source(
            id=branch.source,
            kind="project",
            images=images[branch.source],
            file=branch.files.candidates[0].file if branch.files.candidates else None,
        )
        for branch in files.branches
    ]
    return Discovery(
        sources=tuple(sorted([*projects, *edges.externals()], key=lambda source: source.id)),
        dependencies=tuple(sorted(dependencies, key=lambda dependency: dependency.child)),
        problems=_sorted(problems),
        unreadable=_sorted(
            _of_source(source, reading.refused)
            for source, one in said.items()
            for reading in one.readings
            if reading.refused is not None
        ),
    )


def _sorted(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems), key=lambda one: (one.file, one.line or 0, one.message)))


def _of_source(source: str, problem: Problem) -> Problem:
    """Say of which project a problem's file is, as people write it: `group/base:/Dockerfile`."""
    file = f"{source}:/{problem.file}" if problem.file else source
    return msgspec.structs.replace(problem, file=file)


class _SourceNames:
    """Finds sources by the names of projects and branches."""

    def __init__(self, branches: Sequence[Branch]) -> None:
        self._default: dict[str, Branch] = {}
        self._by_branch: dict[tuple[str, str], str] = {}
        for branch in branches:
            if branch.source == branch.path:
                self._default[branch.path.lower()] = branch
            if branch.files.branch is not None:
                self._by_branch[branch.path.lower(), branch.files.branch] = branch.source

    def declared(self, entry: Entry) -> str | None:
        """Find what a line of a `.gitlab-deps` means."""
        if entry.branch is not None:
            return self._by_branch.get((entry.path.lower(), entry.branch))
        default = self._default.get(entry.path.lower())
        return default.source if default is not None else None

    def included(self, foreign: Foreign) -> str | None:
        """Find the source of an included file, if it is a tracked branch; a tag or a commit is none."""
        ref = "" if foreign.ref == "HEAD" else foreign.ref
        return self.declared(Entry(foreign.project, ref or None, 1))


class _Said:
    """What the files of one source say."""

    def __init__(
        self, branch: Branch, settings: Settings, how: HowToRead, known_variables: Mapping[str, str]
    ) -> None:
        self._branch = branch
        self._files = branch.files.files
        self._ci_place = ci_place(branch.files.ci_path)
        self.problems = list(branch.files.problems)
        self._ci = self._read_ci(known_variables)
        ci_args = [one.values for one in self._ci.build_arguments]
        table = GlobTable(settings.chain.build_args)
        preprocessed = self._preprocess()
        self.readings: list[Reading] = []
        for candidate in branch.files.candidates:
            fixed_args: dict[str, str] = {}
            for values in table.matching(branch.path, f"{branch.path}/{candidate.file}"):
                fixed_args.update(values)
            reading = self._read(candidate.file, how, fixed_args, ci_args, preprocessed.get(candidate.file))
            self.problems += reading.problems
            self.readings.append(reading)

    def named(self) -> Iterator[str]:
        """List the image references that are named, normalised."""
        for reading in self.readings:
            for found in (*reading.dependencies, *reading.triggers):
                if found.dependency.image is not None:
                    yield str(parse_reference(found.dependency.image))
        for image in self._ci.images:
            if image.resolved:
                try:
                    yield str(parse_reference(image.pattern))
                except ReferenceError:
                    continue  # told when it is connected

    def built(self) -> tuple[str, ...]:
        """List the names of images that jobs build, below the project's registry."""
        return self._ci.built

    def connect(self, edges: Edges, readings: Mapping[str, Sequence[Reading]], sources: _SourceNames) -> None:
        """Add what this source is built from."""
        source = self._branch.source
        connect_images(edges, source, readings)
        for image in self._ci.images:
            connect_ci_image(edges, [source], self._located(image), self._ci_place.file)
        linted = self._branch.files.linted
        elsewhere = [self._ci_place.foreign] if self._ci_place.foreign is not None else []
        for foreign in [*elsewhere, *(linted.foreign if linted is not None else ())]:
            parent = sources.included(foreign) if foreign.project else None
            edges.dependencies.append(
                Dependency(
                    child=source,
                    parent=parent or edges.add_external(foreign.name),
                    kind="ci-include",
                    file=self._ci_place.file,
                    line=self._line_of(foreign.project or foreign.location),
                    image=None,
                )
            )
        self._connect_declared(edges, sources)

    def _read(
        self,
        file: str,
        how: HowToRead,
        fixed_args: Mapping[str, str],
        ci_args: Sequence[Mapping[str, str]],
        preprocessed: Preprocessed | None,
    ) -> Reading:
        read = self._files[file]
        if preprocessed is not None and preprocessed.refused is not None:
            return refuse(preprocessed.refused, fixed_args)
        if read.text is None:
            return refuse(Problem(file=file, line=None, message=read.unreadable), fixed_args)
        text = read.text.encode() if preprocessed is None else preprocessed.text
        return read_project(
            text, file, how, fixed_args=fixed_args, ci_args=ci_args, preprocessed=preprocessed
        )

    def _preprocess(self) -> dict[str, Preprocessed]:
        """Run the C preprocessor over what needs it, in a folder with the files that were read."""
        candidates = [one for one in self._branch.files.candidates if one.preprocessed]
        if not candidates:
            return {}
        with tempfile.TemporaryDirectory(prefix="imagechain-") as folder:
            for path, file in self._files.items():
                place = Path(folder, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(file.text or "", encoding="utf-8", newline="")
            return {one.file: preprocess(folder, one.file, one.context) for one in candidates}

    def _read_ci(self, known_variables: Mapping[str, str]) -> CiConfig:
        file = self._files.get(self._ci_place.file)
        if file is None or self._ci_place.foreign is not None:
            return CiConfig()
        if file.text is None:
            self.problems.append(Problem(file=self._ci_place.file, line=None, message=file.unreadable))
            return CiConfig()
        linted = self._branch.files.linted
        text = file.text
        if linted is not None:
            self.problems += (
                Problem(file=self._ci_place.file, line=None, message=message) for message in linted.problems
            )
            text = linted.merged_yaml or text
        try:
            # Local files are in what GitLab merged; if it gave nothing, only the file itself counts.
            return read_ci_config(
                text.encode(), read_local=lambda _: b"", variables=known_variables, file=self._ci_place.file
            )
        except CiConfigError as error:
            line = error.line if linted is None else None
            self.problems.append(Problem(file=self._ci_place.file, line=line, message=error.message))
            return CiConfig()

    def _located(self, image: CiImage) -> CiImage:
        """Give an image the line in the file itself: what GitLab merged has other lines."""
        if self._branch.files.linted is None:
            return image
        return msgspec.structs.replace(image, line=self._line_of(image.pattern))

    def _line_of(self, text: str) -> int:
        """Find the line that names something; else that of `include`, by which it came."""
        file = self._files.get(self._ci_place.file)
        lines = file.text.splitlines() if file is not None and file.text is not None else []
        for wanted in (text, "include"):
            for number, line in enumerate(lines, start=1):
                if wanted in line:
                    return number
        return 1

    def _connect_declared(self, edges: Edges, sources: _SourceNames) -> None:
        file = self._files.get(DEPS_FILE_NAME)
        if file is None:
            return
        if file.text is None:
            edges.problems.append(Problem(file=DEPS_FILE_NAME, line=None, message=file.unreadable))
            return
        declaration = parse_declaration(file.text)
        if declaration.only:
            edges.dependencies = []
        for entry in declaration.projects:
            parent = sources.declared(entry)
            if parent is None:
                branch = f"@{entry.branch}" if entry.branch is not None else ""
                message = (
                    f"{entry.path}{branch} is no project or tracked branch of the groups, so it is no "
                    "dependency; correct the line, or add to gitlab.groups or gitlab.branches"
                )
                edges.problems.append(Problem(file=DEPS_FILE_NAME, line=entry.line, message=message))
                continue
            edges.dependencies.append(
                Dependency(
                    child=self._branch.source,
                    parent=parent,
                    kind="declared",
                    file=DEPS_FILE_NAME,
                    line=entry.line,
                    image=None,
                )
            )
