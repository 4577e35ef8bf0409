"""Reads the latest pipelines of many branches in few requests.

A project that has more new ones than a batch gives is read by itself over REST, and so is one that GitLab
fails on in a batch. One on which it fails even so hides no other.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from imagechain.gitlab import graphql, rest
from imagechain.gitlab.batches import batched_alike, in_batches
from imagechain.gitlab.call import PAGE_ROWS_MAX
from imagechain.gitlab.client import Client
from imagechain.gitlab.errors import ContractError, ForbiddenError, NotFoundError, OverloadedError
from imagechain.gitlab.files import Checkout
from imagechain.gitlab.values import Pipeline
from imagechain.together import together

_ID_PREFIX = "gid://gitlab/Ci::Pipeline/"
_TAG_PREFIX = "refs/tags/"


class PipelinesFound(msgspec.Struct, frozen=True):
    """The pipelines of many branches, in any order."""

    pipelines: Sequence[Pipeline]
    #: Numbers of the projects on which GitLab failed: of their pipelines nothing is known.
    failed: frozenset[int]


async def read_pipelines(
    client: Client, checkouts: Sequence[Checkout], *, updated_after: datetime | None = None
) -> PipelinesFound:
    """List the pipelines of branches: all that changed after a time, or the latest few of each.

    Child pipelines and those of merge requests are left out; so are projects that are not there any more, or
    do not show their pipelines.

    Raises:
        GitLabError: GitLab does not answer.
    """
    found: list[Pipeline] = []
    failed: set[int] = set()

    async def ask_alone(checkout: Checkout) -> None:
        call = rest.pipelines(
            checkout.project,
            ref=checkout.branch,
            updated_after=updated_after,
            rows=PAGE_ROWS_MAX if updated_after else graphql.BATCH_PIPELINES_MAX,
        )
        try:
            listed = await client.send(call) if updated_after is None else await client.all(call)
        except (NotFoundError, ForbiddenError):  # CI is switched off there.
            return
        except OverloadedError:
            failed.add(checkout.project)
            return
        found.extend(listed)

    async def ask(batch: Sequence[Checkout]) -> None:
        first = batch[0]
        ids = [checkout.project for checkout in batch]
        page = await client.send(
            graphql.pipelines(first.group, ids, ref=first.branch, updated_after=updated_after)
        )
        rows = {graphql.project_id(node.id): node.pipelines for node in page.nodes if node is not None}
        alone: list[Checkout] = []
        for checkout in batch:
            listed = rows.get(checkout.project)
            if listed is None or (listed.page_info.has_next_page and updated_after is not None):
                alone.append(checkout)
            else:
                found.extend(
                    _pipeline(node, checkout, client.url) for node in listed.nodes if node is not None
                )
        await together(*map(ask_alone, alone))

    batches = batched_alike(
        checkouts, lambda checkout: (checkout.group, checkout.branch), items_max=PAGE_ROWS_MAX
    )
    await in_batches(batches, ask, ask_alone)
    return PipelinesFound(found, frozenset(failed))


def _pipeline(node: graphql.PipelineNode, checkout: Checkout, url: str) -> Pipeline:
    number = node.id.removeprefix(_ID_PREFIX)
    if not number.isdigit():
        raise ContractError(f"GitLab calls a pipeline {node.id!r}, not {_ID_PREFIX}NUMBER; report this")
    return Pipeline(
        id=int(number),
        project_id=checkout.project,
        status=node.status.lower(),
        source=node.source or "unknown",
        ref=node.ref or "",
        sha=node.sha or "",
        created_at=node.created_at,
        updated_at=node.updated_at,
        web_url=f"{url}{node.path}" if node.path else "",
        tag=(node.ref_path or "").startswith(_TAG_PREFIX),
        started_at=node.started_at,
        finished_at=node.finished_at,
    )
