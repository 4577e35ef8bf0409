"""From a discovered folder to the images of a pipeline: names, matrix, architectures, parents.

What an image is built from may depend on the values of its matrix and on the architecture (`FROM base-$V`),
so the folder is discovered once for each different combination of them.
"""

import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from imagechain.chain.values import Dependency
from imagechain.config import FILE_NAME, PipelineSettings
from imagechain.discovery import Discovery, LocalProject
from imagechain.discovery.globs import GlobTable, Value
from imagechain.discovery.names import folder_of
from imagechain.engines.child_pipeline.values import ChildPipelineError, Parent, PipelineImage, Reads
from imagechain.images.recipe import RecipeError, find_ignore_file, has_link, read_rules
from imagechain.refs import ReferenceError, parse_reference

#: Combinations of one image's matrix; as many as GitLab allows in a matrix of its own.
COMBINATIONS_MAX = 200
#: In a message.
_FILES_TOLD_MAX = 10

_BUILDS_FOLDER = "builds"
_BUILD_KINDS = frozenset({"from", "copy-from", "mount-from", "onbuild"})
_TRIGGER = re.compile(rb"^\s*ONBUILD\s", re.IGNORECASE | re.MULTILINE)

#: Discovers the folder with build arguments, for an architecture (none: this machine's).
Discover = Callable[[Mapping[str, str], str | None], Discovery]


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """Where the images are, here and in the registry."""

    top: Path
    #: Address of the project's registry (CI_REGISTRY_IMAGE); images are named below it.
    registry_image: str
    #: Name of the image whose Containerfile is in the top folder.
    project_name: str


class _Draft(msgspec.Struct, frozen=True):
    """An image before its parents are known."""

    name: str
    project: LocalProject
    build_args: Mapping[str, str]
    arches: tuple[str, ...]
    #: One for each architecture.
    readings: tuple[Discovery, ...]


def list_images(
    discover: Discover, repository: Repository, settings: PipelineSettings, default_arches: Sequence[str]
) -> tuple[PipelineImage, ...]:
    """List the images of a repository, in the order of their names.

    Args:
        discover: gives the chain in the folder.
        repository: where the images are.
        settings: `[pipeline]`.
        default_arches: of the images for which the settings name none.

    Raises:
        ChildPipelineError: an image cannot be read or named, or two have one name.
    """
    drafts = _draft(discover, repository, settings, tuple(default_arches))
    by_project: dict[str, list[str]] = {}
    by_reference: dict[str, str] = {}
    for draft in drafts.values():
        by_project.setdefault(draft.project.id, []).append(draft.name)
        by_reference[f"{repository.registry_image}/{draft.name}"] = draft.name
    more = GlobTable(settings.changes)
    images = []
    for draft in drafts.values():
        parents = _parents(draft, by_project, by_reference)
        has_triggers = any(_TRIGGER.search(drafts[parent.image].project.text) for parent in parents)
        folder, file = folder_of(draft.project.file), draft.project.file
        patterns = [pattern for patterns in more.matching(folder, file) for pattern in patterns]
        images.append(
            PipelineImage(
                name=draft.name,
                file=file,
                context=draft.project.context,
                build_args=draft.build_args,
                arches=draft.arches,
                parents=parents,
                reads=_reads(draft, repository.top, patterns, reads_all=has_triggers),
            )
        )
    _refuse_unused("changes", more, drafts.values())
    return tuple(sorted(images, key=lambda image: image.name))


def _draft(
    discover: Discover, repository: Repository, settings: PipelineSettings, default_arches: tuple[str, ...]
) -> dict[str, _Draft]:
    known: dict[tuple[tuple[tuple[str, str], ...], str | None], Discovery] = {}

    def discovered(build_args: Mapping[str, str], arch: str | None) -> Discovery:
        key = (tuple(sorted(build_args.items())), arch)
        if key not in known:
            known[key] = discover(build_args, arch)
        return known[key]

    projects = discovered({}, None).projects.values()
    if not projects:
        raise ChildPipelineError(
            "no Containerfile is here; add one, such as base/Containerfile, or builds/base.in"
        )
    arch_table, matrix_table = GlobTable(settings.arches), GlobTable(settings.matrix)
    drafts: dict[str, _Draft] = {}
    for project in projects:
        if not project.images:
            continue  # `[chain.images]` says that it publishes nothing
        folder = folder_of(project.file)
        arches = (arch_table.matching(folder, project.file) or [default_arches])[-1]
        matrix: dict[str, tuple[str, ...]] = {}
        for arguments in matrix_table.matching(folder, project.file):
            matrix.update(arguments)
        for combination in _combinations(project, matrix):
            name = _combined_name(_name(project, repository), combination, project.file)
            if name in drafts:
                raise ChildPipelineError(
                    f"{drafts[name].project.file} and {project.file} are both called {name!r}; rename one, "
                    f"or mend [pipeline.matrix] in {FILE_NAME}"
                )
            readings = tuple(discovered(combination, arch) for arch in arches or (None,))
            for reading in readings:
                refused = reading.projects[project.id].refused
                if refused is not None:
                    raise ChildPipelineError(f"{refused}; mend it, then run this again")
            first = readings[0].projects[project.id]
            drafts[name] = _Draft(name, first, combination, arches, readings)
    _refuse_unused("arches", arch_table, drafts.values())
    _refuse_unused("matrix", matrix_table, drafts.values())
    return drafts


def _refuse_unused(name: str, table: GlobTable[Value], drafts: Iterable[_Draft]) -> None:
    unused = table.unused_keys()
    if unused:
        files = sorted({draft.project.file for draft in drafts})
        there = ", ".join([*files[:_FILES_TOLD_MAX], *(["…"] if len(files) > _FILES_TOLD_MAX else [])])
        raise ChildPipelineError(
            f"{FILE_NAME}: {unused[0]!r} in [pipeline.{name}] names no folder that holds a "
            f"Containerfile, and no Containerfile; mend or remove it. There are {there}"
        )


def _combinations(project: LocalProject, matrix: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, str]]:
    count = 1
    for values in matrix.values():
        count *= len(values)
    if count > COMBINATIONS_MAX:
        raise ChildPipelineError(
            f"{project.file}: its matrix has {count} combinations, and no image may have more than "
            f"{COMBINATIONS_MAX}; take values out of [pipeline.matrix] in {FILE_NAME}"
        )
    for values in itertools.product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))


def _name(project: LocalProject, repository: Repository) -> str:
    """Name an image as `imagechain image build` does: `builds/NAME.in` and `NAME/Containerfile` are NAME."""
    folder = folder_of(project.file)
    variant = project.id.removeprefix(folder).removeprefix(":")
    around, _, last = folder.rpartition("/")
    if folder == ".":
        return variant.lower() or repository.project_name.lower()
    if last == _BUILDS_FOLDER and variant:
        return (f"{around}/{variant}" if around else variant).lower()
    published = parse_reference(project.images[0]).name
    if published.startswith(f"{repository.registry_image}/"):
        return published.removeprefix(f"{repository.registry_image}/")
    return f"{folder}/{variant}".rstrip("/").lower()


def _combined_name(name: str, combination: Mapping[str, str], file: str) -> str:
    combined = "-".join([name, *(value.lower() for value in combination.values())])
    try:
        named = parse_reference(f"localhost/{combined}").name
    except ReferenceError:
        named = ""
    if named != f"localhost/{combined}":
        raise ChildPipelineError(
            f"{file} would be the image {combined!r}, which is no name of an image: write lower-case "
            "letters, digits, '.', '_' and '-' in names of files and folders and values of [pipeline.matrix]"
        )
    return combined


def _parents(
    draft: _Draft, by_project: Mapping[str, Sequence[str]], by_reference: Mapping[str, str]
) -> tuple[Parent, ...]:
    found = set()
    for reading in draft.readings:
        for dependency in reading.dependencies:
            if dependency.child == draft.project.id and dependency.kind in _BUILD_KINDS and dependency.needed:
                parent = _parent(draft, dependency, by_project, by_reference)
                if parent is not None:
                    found.add(parent)
    return tuple(sorted(found))


def _parent(
    draft: _Draft,
    dependency: Dependency,
    by_project: Mapping[str, Sequence[str]],
    by_reference: Mapping[str, str],
) -> Parent | None:
    """Find the image of the repository that a reference names, whatever the tag, but not one by digest."""
    if dependency.image is None or dependency.pinned:
        return None
    name = by_reference.get(parse_reference(dependency.image).name)
    if name is None:
        names = by_project.get(dependency.parent or "", ())
        if len(names) > 1:
            raise ChildPipelineError(
                f"{dependency.file}:{dependency.line}: {dependency.image} is one of {len(names)} images, "
                f"by the matrix of {dependency.parent!r}; name the one that is meant, such as {names[0]!r}"
            )
        if not names:
            return None
        name = names[0]
    if name == draft.name:
        return None  # the image as it was before, such as a cache
    return Parent(dependency.image, name)


def _reads(draft: _Draft, top: Path, more: Sequence[str], *, reads_all: bool) -> Reads:
    project = draft.project
    context, containerfile = top / project.context, top / project.file
    readings = [reading.projects[project.id] for reading in draft.readings]
    sources: set[str] | None = None
    if not (reads_all or any(reading.context_sources is None for reading in readings)):
        written = (source for reading in readings for source in reading.context_sources or ())
        sources = {posixpath.normpath(source.lstrip("/") or ".") for source in written}
        if any(source.startswith(".") or has_link(context, source.split("/")) for source in sources):
            sources = None  # the whole context, or a link that may lead anywhere in it
    endings = (".dockerignore", ".containerignore")
    prefix = "" if project.context == "." else f"{project.context}/"
    files = {file for reading in readings for file in reading.text_files}
    files |= {f"{project.file}{ending}" for ending in endings} | {f"{prefix}{ending}" for ending in endings}
    try:
        ignored = read_rules(find_ignore_file(context, containerfile))
    except RecipeError as error:
        raise ChildPipelineError(str(error)) from error
    return Reads(
        files=frozenset(files),
        context=project.context,
        sources=None if sources is None else tuple(sorted(sources)),
        ignored=ignored,
        more=tuple(more),
    )
