"""Build one project of a local chain: what it is built from, what it says of itself, its log.

Everything that the build reads is looked up once, before it starts, and pinned to what was found: so the
record that the image carries is true, even if a name is given to another image meanwhile.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from imagechain.chain.values import files_input
from imagechain.discovery import LocalProject
from imagechain.engines.local.logs import BuildLog
from imagechain.engines.local.observe import LocalChain
from imagechain.images import (
    Builder,
    BuilderError,
    BuildFailedError,
    ImageFacts,
    Ingredients,
    Parent,
    Recipe,
    make_image,
    read_git,
)

_DISK_FULL = "no space left on device"


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A project, and what its build reads."""

    project: LocalProject
    ingredients: Ingredients

    @property
    def inputs(self) -> dict[str, str]:
        """The versions of the inputs, as the chain names them."""
        records = self.ingredients.records
        images = {name: record.content for name, record in records.items() if "@" not in name}
        return {**images, files_input(self.project.id): self.ingredients.recipe}


async def gather(
    local: LocalChain,
    project: LocalProject,
    recipe: Recipe,
    *,
    top: Path,
    pushed: Mapping[str, str],
    unavailable: Mapping[str, str],
) -> Batch:
    """Look up all that the build of a project reads.

    Args:
        local: The present state.
        project: What is to be built.
        recipe: What it reads of its own files.
        top: The top folder of the chain.
        pushed: Digests that images of this chain have in their registries, by reference.
        unavailable: Why an image cannot be pulled, by reference.

    Raises:
        BuilderError: an image is missing.
    """
    parents = []
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
        digest = pushed.get(reference) if local.is_built_here(edge) else image.digest
        parents.append(
            Parent(
                reference=reference,
                is_base=edge.kind == "from",
                line=None if project.preprocessed else edge.line,
                image_id=image.id,
                digest=digest or None,
                facts=facts,
            )
        )
    ingredients = Ingredients(
        text=project.text,
        context=top / project.context,
        ignore_file=recipe.ignore_file,
        build_args=project.build_args,
        parents=tuple(parents),
        records=local.input_records(project.id, pushed),
        recipe=recipe.hash,
        git=await read_git(top / project.file),
    )
    return Batch(project=project, ingredients=ingredients)


async def build(
    builder: Builder, batch: Batch, *, work: Path, log: BuildLog, tell: Callable[[bytes], None]
) -> ImageFacts:
    """Build one project and name its image.

    Args:
        builder: Who builds.
        batch: What is built, and what that reads.
        work: A folder of its own, which is made here.
        log: Where the output goes.
        tell: Who sees the output as it comes.

    Raises:
        BuilderError: it failed; the message says how.
    """

    def write(chunk: bytes) -> None:
        log.write(chunk)
        tell(chunk)

    with log:
        try:
            _make_folder(work)
            names = batch.project.images
            return await make_image(builder, batch.ingredients, names=names, work=work, write_log=write)
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


def _make_folder(work: Path) -> None:
    try:
        work.mkdir()
    except OSError as error:
        raise BuilderError(f"{work} cannot be written: {error.strerror}; free some space") from error
