"""Build one project of a local chain: what it is built from, what it says of itself, its log.

Everything that the build reads is looked up once, before it starts, and pinned to what was found: so the
record that the image carries is true, even if a name is given to another image meanwhile.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from imagechain.chain.values import files_input
from imagechain.discovery import LocalProject
from imagechain.engines.local.logs import BuildLog
from imagechain.engines.local.observe import LocalChain
from imagechain.images import (
    Base,
    Builder,
    BuilderError,
    BuildFailedError,
    BuildRequest,
    ImageFacts,
    InputRecord,
    Recipe,
    own_labels,
    read_git,
    spellings,
)
from imagechain.refs import parse_reference

#: Instructions that only Docker's format can hold; OCI's would drop them.
_DOCKER_ONLY = re.compile(rb"^[ \t]*(?:HEALTHCHECK|SHELL|ONBUILD)\b", re.IGNORECASE | re.MULTILINE)

_DISK_FULL = "no space left on device"


class Ingredients(msgspec.Struct, frozen=True, kw_only=True):
    """What one build reads, as it was when the build started."""

    project: LocalProject
    recipe: Recipe
    #: By reference.
    records: Mapping[str, InputRecord]
    #: Spelling of a reference -> image id.
    pins: Mapping[str, str]
    bases: tuple[Base, ...]

    @property
    def inputs(self) -> dict[str, str]:
        """The versions of the inputs, as the chain names them."""
        images = {name: record.content for name, record in self.records.items() if "@" not in name}
        return {**images, files_input(self.project.id): self.recipe.hash}


def gather(
    local: LocalChain,
    project: LocalProject,
    recipe: Recipe,
    *,
    pushed: Mapping[str, str],
    unavailable: Mapping[str, str],
) -> Ingredients:
    """Look up all that the build of a project reads.

    Args:
        local: The present state.
        project: What is to be built.
        recipe: What it reads of its own files.
        pushed: Digests that images of this chain have in their registries, by reference.
        unavailable: Why an image cannot be pulled, by reference.

    Raises:
        BuilderError: an image is missing.
    """
    pins: dict[str, str] = {}
    bases: dict[str, Base] = {}
    for edge in local.read_dependencies(project.id):
        reference = str(edge.image)
        image, facts = local.listing.find(reference), local.facts(reference)
        if image is None or facts is None:
            why = unavailable.get(
                reference,
                f"there is no image {reference} on this machine; give an image that name, or add the "
                "Containerfile that builds it",
            )
            raise BuilderError(f"{edge.file}:{edge.line}: {why}")
        pins.update(dict.fromkeys(spellings(reference), image.id))
        if edge.kind == "from":
            if not project.preprocessed:
                pins.update(dict.fromkeys(_words_of_from(project.text, edge.line), image.id))
            digest = pushed.get(reference) if local.is_built_here(edge) else image.digest
            bases[reference] = Base(
                name=parse_reference(reference).identity, digest=digest or None, facts=facts
            )
    return Ingredients(
        project=project,
        recipe=recipe,
        records=local.input_records(project.id, pushed),
        pins=pins,
        bases=tuple(bases.values()),
    )


async def build(
    builder: Builder,
    ingredients: Ingredients,
    *,
    top: Path,
    work: Path,
    log: BuildLog,
    tell: Callable[[bytes], None],
) -> ImageFacts:
    """Build one project and name its image.

    Args:
        builder: Who builds.
        ingredients: What is read.
        top: The top folder of the chain.
        work: A folder of its own, which is made here.
        log: Where the output goes.
        tell: Who sees the output as it comes.

    Raises:
        BuilderError: it failed; the message says how.
    """
    project = ingredients.project
    git = await read_git(top / project.file)
    labels = own_labels(git=git, recipe=ingredients.recipe.hash, inputs=ingredients.records)
    containerfile = _write_containerfile(work, project.text)
    request = BuildRequest(
        names=project.images,
        containerfile=containerfile,
        context=top / project.context,
        ignore_file=ingredients.recipe.ignore_file,
        build_args=project.build_args,
        pins=ingredients.pins,
        labels=labels,
        bases=ingredients.bases,
        created=git.created if git else None,
        docker_format=_needs_docker_format(ingredients),
        work=work,
    )

    def write(chunk: bytes) -> None:
        log.write(chunk)
        tell(chunk)

    with log:
        try:
            return await builder.build(request, write)
        except BuilderError as error:
            complaint = log.complaint()
            log.write(f"\nimagechain: {error}\n".encode())
            if any(_DISK_FULL in text.lower() for text in (str(error), *log.last_lines())):
                raise BuildFailedError(
                    f"{error}: the disk is full; free some space and run it again"
                ) from error
            if complaint and isinstance(error, BuildFailedError):
                raise BuildFailedError(f"{complaint} ({error})") from error
            raise


def _words_of_from(text: bytes, line: int) -> list[str]:
    """Give the base as a FROM instruction has it: buildah looks pins up before it expands variables."""
    words = text.decode(errors="replace").splitlines()[line - 1].split()[1:]
    bases = [word for word in words if not word.startswith("--")][:1]
    # A pin is written NAME=IMAGE: a word with that sign cannot be pinned, and means what the builder says.
    return [word for word in bases if "=" not in word and word != "\\"]


def _write_containerfile(work: Path, text: bytes) -> Path:
    try:
        work.mkdir()
        containerfile = work / "Containerfile"
        containerfile.write_bytes(text)
    except OSError as error:
        raise BuilderError(f"{work} cannot be written: {error.strerror}; free some space") from error
    return containerfile


def _needs_docker_format(ingredients: Ingredients) -> bool:
    own = _DOCKER_ONLY.search(ingredients.project.text) is not None
    return own or any(base.facts.docker_only for base in ingredients.bases)
