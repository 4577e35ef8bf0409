"""Which images a pipeline builds: those that a change touches, and all that is built from them. Pure.

Rather an image too many than one too few: where the history is missing, or something is changed that all
images may depend on, all are built.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import msgspec

from imagechain.config import FILE_NAME
from imagechain.discovery.ci import FILE_NAME as CI_FILE_NAME
from imagechain.discovery.globs import compile_glob
from imagechain.engines.child_pipeline.values import ChildPipelineError, PipelineImage, Reads
from imagechain.images.ignorefile import IgnoreFileError, compile_pattern, self_and_parents

#: Files that all images may depend on.
GLOBAL_FILES = frozenset({FILE_NAME, CI_FILE_NAME})
#: Alternatives that one path of CHANGES may stand for.
ALTERNATIVES_MAX = 1000

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_NO_COMMIT = re.compile("0+")
_BRACES = re.compile(r"\{([^{}]*)\}")


class Base(msgspec.Struct, frozen=True):
    """The commit that changes are counted from; None: there is none, for the reason given."""

    commit: str | None
    reason: str


def find_base(environ: Mapping[str, str]) -> Base:
    """Read from GitLab's variables which commit the changes of a pipeline are counted from.

    Raises:
        ChildPipelineError: what stands there is no commit.
    """
    source = environ.get("CI_PIPELINE_SOURCE", "")
    if environ.get("CI_MERGE_REQUEST_IID"):
        name = "CI_MERGE_REQUEST_DIFF_BASE_SHA"
    elif source == "push" and not environ.get("CI_COMMIT_TAG"):
        name = "CI_COMMIT_BEFORE_SHA"
    else:
        what = "a git tag" if environ.get("CI_COMMIT_TAG") else f"{source!r}" if source else "no pipeline"
        return Base(None, f"this is {what}, not a push or a merge request")
    commit = environ.get(name, "")
    if not commit or _NO_COMMIT.fullmatch(commit):
        return Base(None, f"{name} names no commit: nothing was here before")
    if not _COMMIT.fullmatch(commit):
        raise ChildPipelineError(f"{name} is {commit!r}, which is no commit; run this in a job of GitLab")
    return Base(commit, f"changes since {name}")


def choose(images: Sequence[PipelineImage], changed: Collection[str] | None) -> tuple[PipelineImage, ...]:
    """Choose the images that must be built, parents before children.

    Args:
        images: those of the repository.
        changed: paths that changed, relative to the top; None: nobody knows, so all.

    Raises:
        ChildPipelineError: images are built from each other in a cycle.
    """
    names = {image.name: image for image in images}
    chosen: set[str] = set()
    everything = changed is None or not GLOBAL_FILES.isdisjoint(changed)
    ordered = _in_order(images)
    for name in ordered:
        image = names[name]
        if (
            everything
            or any(parent.image in chosen for parent in image.parents)
            or (changed is not None and _Toucher(image.reads).touches_any(changed))
        ):
            chosen.add(name)
    return tuple(names[name] for name in ordered if name in chosen)


def _in_order(images: Sequence[PipelineImage]) -> list[str]:
    """Name them so that parents come before children; those that could be next, by name."""
    sorter = TopologicalSorter({image.name: [parent.image for parent in image.parents] for image in images})
    try:
        sorter.prepare()
    except CycleError as error:
        path = " -> ".join(error.args[1])
        raise ChildPipelineError(
            f"these images are built from each other: {path}; take one of these references out"
        ) from error
    ordered: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += ready
        sorter.done(*ready)
    return ordered


class _Toucher:
    """Tells which paths matter to a build."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._prefix = "" if reads.context == "." else f"{reads.context}/"
        self._more = [compile_glob(path) for pattern in reads.more for path in expand_braces(pattern)]
        self._sources: list[re.Pattern[str]] | None = None
        try:
            if reads.sources is not None:
                self._sources = [compile_pattern(source) for source in reads.sources]
        except IgnoreFileError:
            self._sources = None  # what nobody can read may mean any file

    def touches_any(self, changed: Collection[str]) -> bool:
        return any(self._touches(path) for path in changed)

    def _touches(self, path: str) -> bool:
        if path in self._reads.files or _any_match(self._more, self_and_parents(path)):
            return True
        if not path.startswith(self._prefix):
            # A submodule that the context lies in changes as one path.
            return self._prefix.startswith(f"{path}/")
        inside = path.removeprefix(self._prefix)
        if self._reads.ignored.ignores(inside):
            return False
        if self._sources is None or self._reads.sources is None:
            return True
        return _any_match(self._sources, self_and_parents(inside)) or any(
            source.startswith(f"{inside}/") for source in self._reads.sources
        )


def _any_match(patterns: Sequence[re.Pattern[str]], paths: Sequence[str]) -> bool:
    return any(pattern.fullmatch(path) for pattern in patterns for path in paths)


def expand_braces(pattern: str) -> list[str]:
    """Expand `src/{core,web}` to `src/core` and `src/web`; a folder stands for all that is in it.

    Raises:
        ChildPipelineError: it stands for too many paths.
    """
    pending, expanded = [pattern.strip("/")], []
    while pending:
        text = pending.pop()
        braces = _BRACES.search(text)
        if braces is None:
            expanded.append(text.removesuffix("/**").removesuffix("/*"))
        else:
            pending += [
                f"{text[: braces.start()]}{alternative}{text[braces.end() :]}"
                for alternative in reversed(list(_alternatives(braces[1])))
            ]
        if len(pending) + len(expanded) > ALTERNATIVES_MAX:
            raise ChildPipelineError(
                f"{pattern!r} stands for more than {ALTERNATIVES_MAX} paths; name the folder around them"
            )
    return expanded


def _alternatives(text: str) -> Iterator[str]:
    return (alternative.strip() for alternative in text.split(","))
