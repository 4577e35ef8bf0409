"""Discovery in a folder: every Containerfile of the tree is a project.

A pipeline of steps, each of which gives values to the next: walk, name, publish, read, connect. What cannot
be read or is ambiguous becomes a problem, and the rest goes on.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imagechain.chain.values import Problem, Source
from imagechain.config import FILE_NAME as SETTINGS_FILE_NAME
from imagechain.config import Settings
from imagechain.containerfile import Dialect
from imagechain.discovery.candidates import Candidate, find_candidates
from imagechain.discovery.ci import FILE_NAME as CI_FILE_NAME
from imagechain.discovery.ci import CiConfigs
from imagechain.discovery.connect import connect_ci, connect_declared, connect_images
from imagechain.discovery.declared import FILE_NAME as DEPS_FILE_NAME
from imagechain.discovery.edges import Edges
from imagechain.discovery.names import FileNames
from imagechain.discovery.preprocess import Preprocessed, preprocess
from imagechain.discovery.publish import Publisher
from imagechain.discovery.reading import HowToRead, Reading, read_project, refuse
from imagechain.discovery.values import Discovery, DiscoveryError, LocalProject
from imagechain.discovery.walk import UnreadableError, read_file, walk
from imagechain.refs import Platform

_OTHER_FILES = frozenset({CI_FILE_NAME, DEPS_FILE_NAME, SETTINGS_FILE_NAME})


def discover(
    directory: Path,
    settings: Settings,
    *,
    platform: Platform,
    build_platform: Platform | None = None,
    target: str | None = None,
    dialect: Dialect = "buildkit",
    build_args: Mapping[str, str] | None = None,
) -> Discovery:
    """Find the chain in a folder.

    Args:
        directory: the top folder.
        settings: those of the top folder's `imagechain.toml`.
        platform: what is built for.
        build_platform: what builds; linux/amd64 by default.
        target: the stage that is built, of every file; the last one by default.
        dialect: whose reading of the files is wanted.
        build_args: what the command line gives to all builds.

    Raises:
        DiscoveryError: the folder is missing, or is no folder.
    """
    top = directory.resolve()
    if not top.is_dir():
        what = "is no folder" if top.exists() else "does not exist"
        raise DiscoveryError(f"{directory} {what}; name the folder that holds the Containerfiles")
    root, top_name = str(top), top.name
    file_names = FileNames(settings.chain.files)
    tree = walk(root, lambda folder, name: name in _OTHER_FILES or file_names.read(folder, name) is not None)
    problems = list(tree.problems)
    candidates = find_candidates(tree, file_names, problems)
    ci_folders = [folder for folder, names in tree.files.items() if CI_FILE_NAME in names]
    configs = CiConfigs(root, ci_folders)
    problems += configs.problems
    publisher = Publisher(settings.chain, top_name)
    images = _published(candidates, publisher, problems)
    how = HowToRead(platform=platform, build_platform=build_platform, target=target, dialect=dialect)
    preprocessed = _preprocess_all(root, [one for one in candidates if one.preprocessed])
    reader = _Reader(
        root,
        how,
        publisher=publisher,
        configs=configs,
        build_args=build_args or {},
        preprocessed=preprocessed,
    )
    projects: dict[str, LocalProject] = {}
    readings: dict[str, list[Reading]] = {}
    for candidate in candidates:
        text, reading = reader.read(candidate)
        problems += reading.problems
        readings[candidate.id] = [reading]
        projects[candidate.id] = _project(
            candidate, images[candidate.id], text, reading, preprocessed.get(candidate.id)
        )
    problems += publisher.unused_keys()
    if not projects:
        message = "no Containerfile is here; add one, such as base/Containerfile, or name another folder"
        problems.append(Problem(file=".", line=None, message=message))
    edges = Edges(images, dialect)
    for child in projects:
        connect_images(edges, child, readings)
    connect_ci(edges, projects, configs)
    connect_declared(edges, root, tree, projects, top_name)
    sources = [
        Source(id=project.id, kind="project", images=project.images, file=project.file)
        for project in projects.values()
    ]
    sources += edges.externals()
    return Discovery(
        sources=tuple(sorted(sources, key=lambda source: source.id)),
        dependencies=tuple(sorted(edges.dependencies, key=lambda dependency: dependency.child)),
        problems=_sorted([*problems, *edges.problems]),
        unreadable=_sorted([*tree.problems, *(one.refused for one in projects.values() if one.refused)]),
        projects=projects,
    )


def _published(
    candidates: list[Candidate], publisher: Publisher, problems: list[Problem]
) -> dict[str, tuple[str, ...]]:
    """Tell what each project publishes; of two that publish one reference the first keeps it."""
    published: dict[str, tuple[str, ...]] = {}
    owners: dict[str, Candidate] = {}
    for candidate in candidates:
        images, problem = publisher.images(candidate.folder, candidate.name, candidate.file)
        if problem is not None:
            problems.append(problem)
        for image in images:
            owner = owners.setdefault(image, candidate)
            if owner is not candidate:
                message = (
                    f"{owner.id!r} and {candidate.id!r} both publish {image}; {owner.id!r} keeps it. "
                    f"Give one another name in [chain.images] of {SETTINGS_FILE_NAME}"
                )
                problems.append(Problem(file=candidate.file, line=None, message=message))
        published[candidate.id] = tuple(image for image in images if owners[image] is candidate)
    return published


def _preprocess_all(root: str, candidates: list[Candidate]) -> dict[str, Preprocessed]:
    """Run the preprocessor for all files that need it, as many at once as there are processors."""

    def run(candidate: Candidate) -> Preprocessed:
        try:
            read_file(root, candidate.file)
        except UnreadableError as error:
            return Preprocessed(refused=Problem(file=candidate.file, line=None, message=str(error)))
        return preprocess(root, candidate.file, candidate.context)

    if not candidates:
        return {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = pool.map(run, candidates)
        return {candidate.id: result for candidate, result in zip(candidates, results, strict=True)}


class _Reader:
    """Reads the Containerfiles of a tree."""

    def __init__(
        self,
        root: str,
        how: HowToRead,
        *,
        publisher: Publisher,
        configs: CiConfigs,
        build_args: Mapping[str, str],
        preprocessed: Mapping[str, Preprocessed],
    ) -> None:
        self._root = root
        self._how = how
        self._publisher = publisher
        self._configs = configs
        self._build_args = build_args
        self._preprocessed = preprocessed

    def read(self, candidate: Candidate) -> tuple[bytes, Reading]:
        """Read one; gives what a builder must be given, too."""
        file = candidate.file
        fixed_args = {**self._publisher.build_args(candidate.folder, file), **self._build_args}
        preprocessed = self._preprocessed.get(candidate.id)
        if preprocessed is not None:
            if preprocessed.refused is not None:
                return b"", refuse(preprocessed.refused, fixed_args)
            text = preprocessed.text
        else:
            try:
                text = read_file(self._root, file)
            except UnreadableError as error:
                return b"", refuse(Problem(file=file, line=None, message=str(error)), fixed_args)
        ci_args = self._configs.build_arguments(candidate.context)
        return text, read_project(
            text, file, self._how, fixed_args=fixed_args, ci_args=ci_args, preprocessed=preprocessed
        )


def _project(
    candidate: Candidate,
    images: tuple[str, ...],
    text: bytes,
    reading: Reading,
    preprocessed: Preprocessed | None,
) -> LocalProject:
    return LocalProject(
        id=candidate.id,
        file=candidate.file,
        context=candidate.context,
        images=images,
        build_args=reading.build_args,
        text=text,
        preprocessed=candidate.preprocessed,
        text_files=(candidate.file,) if preprocessed is None else preprocessed.files(candidate.file),
        context_sources=reading.context_sources,
        warnings=reading.warnings,
        refused=reading.refused,
    )


def _sorted(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems), key=_order))


def _order(problem: Problem) -> tuple[str, int, str]:
    return problem.file, problem.line or 0, problem.message
