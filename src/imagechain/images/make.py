"""Make one image of what was looked up for it: what `up` and `image build` have in common.

Whoever calls looked up every image that the build reads; here these are pinned, so that the record which the
image carries is true, even if a name is given to another image meanwhile.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from imagechain.images.builder import (
    Base,
    Builder,
    BuilderError,
    BuildRequest,
    ImageFacts,
    InputRecord,
    spellings,
)
from imagechain.images.provenance import GitFacts, own_labels
from imagechain.refs import Platform, parse_reference

#: Instructions that only Docker's format can hold; OCI's would drop them.
_DOCKER_ONLY = re.compile(rb"^[ \t]*(?:HEALTHCHECK|SHELL|ONBUILD)\b", re.IGNORECASE | re.MULTILINE)


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a build reads, as it is in the local store."""

    #: The normalised reference.
    reference: str
    #: Whether a stage begins with it.
    is_base: bool
    #: Line of the text that names it; None where the text has other lines than the file it comes from.
    line: int | None
    image_id: str
    #: Digest that the reference has in its registry; None where no registry has it.
    digest: str | None
    facts: ImageFacts


class BuildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a person wants one image built."""

    target: str | None = None
    platform: Platform | None = None
    #: As builders take them: `id=NAME,src=FILE`.
    secrets: tuple[str, ...] = ()
    #: Repositories with the layers of earlier builds.
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()


class Ingredients(msgspec.Struct, frozen=True, kw_only=True):
    """What one build reads, as it was when the build started."""

    #: The Containerfile as the builder must see it.
    text: bytes
    context: Path
    ignore_file: Path | None
    build_args: Mapping[str, str]
    parents: tuple[Parent, ...]
    #: What the image will say that it was built from, by reference.
    records: Mapping[str, InputRecord]
    #: Hash of all files that are read.
    recipe: str
    git: GitFacts | None


async def make_image(
    builder: Builder,
    ingredients: Ingredients,
    *,
    names: tuple[str, ...],
    work: Path,
    write_log: Callable[[bytes], None],
    options: BuildOptions | None = None,
) -> ImageFacts:
    """Build an image, with its labels, and name it.

    Args:
        builder: Who builds.
        ingredients: What is read.
        names: References that it gets when it is complete.
        work: An own empty folder for what the build needs besides the context.
        write_log: Takes the output.
        options: How it is built.

    Raises:
        BuilderError: it failed; the message says how.
    """
    options = options or BuildOptions()
    git, bases = ingredients.git, _bases(ingredients.parents)
    request = BuildRequest(
        names=names,
        containerfile=_write_containerfile(work, ingredients.text),
        context=ingredients.context,
        ignore_file=ingredients.ignore_file,
        build_args=ingredients.build_args,
        pins=_pins(ingredients.parents, ingredients.text),
        labels=own_labels(git=git, recipe=ingredients.recipe, inputs=ingredients.records),
        bases=bases,
        created=git.created if git else None,
        docker_format=_needs_docker_format(ingredients.text, bases),
        work=work,
        target=options.target,
        platform=options.platform,
        secrets=options.secrets,
        cache_from=options.cache_from,
        cache_to=options.cache_to,
    )
    return await builder.build(request, write_log)


def _bases(parents: Sequence[Parent]) -> tuple[Base, ...]:
    bases = {
        parent.reference: Base(
            name=parse_reference(parent.reference).identity, digest=parent.digest, facts=parent.facts
        )
        for parent in parents
        if parent.is_base
    }
    return tuple(bases.values())


def _pins(parents: Sequence[Parent], text: bytes) -> dict[str, str]:
    """Say which image each spelling of a reference stands for."""
    pins: dict[str, str] = {}
    for parent in parents:
        pins.update(dict.fromkeys(spellings(parent.reference), parent.image_id))
        if parent.is_base and parent.line is not None:
            pins.update(dict.fromkeys(_words_of_from(text, parent.line), parent.image_id))
    return pins


def _words_of_from(text: bytes, line: int) -> list[str]:
    """Give the base as a FROM instruction has it: buildah looks pins up before it expands variables."""
    words = text.decode(errors="replace").splitlines()[line - 1].split()[1:]
    bases = [word for word in words if not word.startswith("--")][:1]
    # A pin is written NAME=IMAGE: a word with that sign cannot be pinned, and means what the builder says.
    return [word for word in bases if "=" not in word and word != "\\"]


def _write_containerfile(work: Path, text: bytes) -> Path:
    containerfile = work / "Containerfile"
    try:
        containerfile.write_bytes(text)
    except OSError as error:
        raise BuilderError(f"{work} cannot be written: {error.strerror}; free some space") from error
    return containerfile


def _needs_docker_format(text: bytes, bases: Sequence[Base]) -> bool:
    return _DOCKER_ONLY.search(text) is not None or any(base.facts.docker_only for base in bases)
