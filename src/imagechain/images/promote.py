"""Promotion: the tested manifest gets another name. Nothing is built, and nothing is pulled.

What may be promoted is decided by three facts: what the pipeline is (the rules below), that the image passed
its tests (`g-<pipeline>` exists), and that its digest is the one that was tested: the one that the build job
handed on, or else the one that `p-<pipeline>` still names.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from imagechain.images.everywhere import Written, put_everywhere
from imagechain.images.tags import (
    Pipeline,
    build_tag,
    deployment_tag,
    deploys_to_production,
    gate_tag,
    tags_on_success,
)
from imagechain.registry import AbsentError, RefusedError, WritableRepository
from imagechain.together import together


class PromotionRefusedError(Exception):
    """The image must not get the name; the message says why, and what would let it."""


def check_deployment(pipeline: Pipeline, production_refs: Sequence[str]) -> None:
    """Refuse a deployment that the pipeline must not make.

    Args:
        pipeline: what the pipeline is.
        production_refs: globs of branches and git tags that deploy to production; none: the default branch
            and every git tag. GitLab has to protect them in any case.

    Raises:
        PromotionRefusedError: it must not.
    """
    if not deploys_to_production(pipeline):
        return
    where = f"the environment {pipeline.environment!r}"
    if pipeline.kind == "merge-request":
        raise PromotionRefusedError(
            f"a merge request (number {pipeline.merge_request}) must not reach {where}; merge it, and deploy "
            "from the pipeline of the default branch"
        )
    if pipeline.is_trial:
        raise PromotionRefusedError(
            f"this pipeline only tries its image on another base; it must not reach {where}"
        )
    if production_refs:
        is_allowed = any(fnmatchcase(pipeline.ref, pattern) for pattern in production_refs)
        allowed = f"the refs {', '.join(production_refs)} ([image] production_refs)"
    else:
        is_allowed = pipeline.is_default_branch or pipeline.kind == "tag"
        allowed = "the default branch and git tags"
    if not is_allowed:
        raise PromotionRefusedError(
            f"the {pipeline.kind} {pipeline.ref!r} must not reach {where}: {allowed} may"
        )
    if not pipeline.is_protected:
        raise PromotionRefusedError(
            f"the {pipeline.kind} {pipeline.ref!r} is not protected, so anybody who can push could reach "
            f"{where}; protect it in GitLab (Settings, Repository)"
        )


def names_to_write(pipeline: Pipeline) -> tuple[str, tuple[str, ...]]:
    """Tell which tag is promoted to which others: by a deployment job its own, else those of success.

    Raises:
        PipelineError: the pipeline has no such names.
    """
    if pipeline.environment:
        return gate_tag(pipeline), (deployment_tag(pipeline),)
    # The gate last: it stands for all of them.
    gate, *others = tags_on_success(pipeline)
    return build_tag(pipeline), (*others, gate)


async def promote(
    repositories: Sequence[WritableRepository],
    source: str,
    names: Sequence[str],
    *,
    tested_digest: str = "",
    same_as: str = "",
    dry_run: bool = False,
) -> tuple[Written, ...]:
    """Put the manifest that a tag names under other names, in all repositories or in none.

    Args:
        repositories: where; the first tells what the tag is.
        source: the tag.
        names: the other tags.
        tested_digest: what the tag has to name; empty: not known.
        same_as: a tag that has to name the same; asked for only where `tested_digest` is not known.
        dry_run: check, and write nothing.

    Raises:
        PromotionRefusedError: the image did not pass the gate, or is not what was tested.
        NotEverywhereError: a registry refused.
        RegistryError: a registry could not be asked.
    """
    first = repositories[0]
    image = f"{first.endpoint}:{source}"
    try:
        manifest = await first.manifest(source)
        digest = manifest.descriptor.digest
        if tested_digest:
            expected, of = tested_digest, "was tested"
        elif same_as:
            expected, of = (await first.head(same_as)).digest, f"{same_as} names"
        else:
            expected, of = digest, ""
    except AbsentError as error:
        if same_as:
            lack = f"{source} and {same_as} are there once it passed its tests in this pipeline; tag it first"
        else:
            lack = f"{source} is there once it was built in this pipeline; build it first"
        raise PromotionRefusedError(f"{error}. {lack}, with the same IMAGE_NAME and IMAGE_ARCH") from error
    if digest != expected:
        raise PromotionRefusedError(
            f"{image} names {digest}, but {expected} {of}: something else was pushed in the meantime; "
            "run the pipeline again"
        )
    if dry_run:
        where = [str(one.endpoint) for one in repositories]
        return tuple(Written(image, tag, digest, "planned") for image in where for tag in names)
    return await put_everywhere(repositories, names, manifest)


async def remove(repositories: Sequence[WritableRepository], tag: str) -> tuple[str, ...]:
    """Remove a tag where it is; return what has to be removed by hand, since a registry deletes no tags."""

    async def one(repository: WritableRepository) -> str:
        try:
            await repository.delete(tag)
        except AbsentError:
            return ""
        except RefusedError as error:
            return str(error)
        return ""

    return tuple(filter(None, await together(*map(one, repositories))))
