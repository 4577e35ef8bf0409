"""Projects that were renamed or moved keep what is known of them: GitLab's number tells that. Pure.

The images of a project are named by its path. What is known of images by their old names is not carried over:
whether there are any under the new ones is read in the registry.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from imagechain.chain import Snapshot
from imagechain.service.ports import TrackedProject
from imagechain.store.values import Intent

V = TypeVar("V")


def renamed_sources(before: Iterable[TrackedProject], now: Iterable[TrackedProject]) -> dict[str, str]:
    """Tell which sources have another name now: the new ones by the old ones."""
    old = {identity(project): project.source for project in before}
    pairs = ((old.get(identity(project)), project.source) for project in now)
    return {source: name for source, name in pairs if source is not None and source != name}


def taken_sources(before: Iterable[TrackedProject], now: Iterable[TrackedProject]) -> set[str]:
    """Name the sources of projects that left while others took their paths."""
    left = {project.source: identity(project) for project in before}
    here = {identity(project): project.source for project in now}
    names = set(here.values())
    return {source for source, project in left.items() if project not in here and source in names}


def forget(snapshot: Snapshot, sources: Collection[str]) -> Snapshot:
    """Leave out what is known of projects; what was read of images is true, whoever owns them."""
    projects = {source: known for source, known in snapshot.projects.items() if source not in sources}
    return replace(snapshot, projects=projects)


def identity(known: TrackedProject | Intent) -> tuple[int, str]:
    """Name a source by what stays: the default branch has no name here, for it may be renamed as well."""
    return known.project_id, known.source.partition("@")[2]


def rename_snapshot(snapshot: Snapshot, names: Mapping[str, str]) -> Snapshot:
    """Put what is known under the new names."""
    if not names:
        return snapshot
    projects = {
        source: replace(
            project,
            record=None
            if project.record is None
            else replace(project.record, versions=renamed(project.record.versions, names)),
            runs=tuple(replace(run, versions=renamed(run.versions, names)) for run in project.runs),
        )
        for source, project in snapshot.projects.items()
    }
    return replace(
        snapshot,
        # The input that stands for a project without images has its name.
        inputs=renamed(snapshot.inputs, names),
        projects=renamed(projects, names),
        pauses=renamed(snapshot.pauses, names),
        resumed_at=renamed(snapshot.resumed_at, names),
    )


def renamed(values: Mapping[str, V], names: Mapping[str, str]) -> dict[str, V]:
    """Put values under the new names; what another project had under one of these is gone with it."""
    kept = {name: value for name, value in values.items() if name not in names}
    return kept | {names[name]: value for name, value in values.items() if name in names}
