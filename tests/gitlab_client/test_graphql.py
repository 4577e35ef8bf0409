"""Queries stay within GitLab's limits, and batches get smaller where it fails on them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.config import BRANCHES_MAX
from imagechain.gitlab import graphql
from imagechain.gitlab.batches import batched_alike, in_batches
from imagechain.gitlab.call import PAGE_ROWS_MAX, Call
from imagechain.gitlab.errors import ContractError, NotFoundError, OverloadedError, TokenError
from imagechain.testing import Role, SimulatedGitLab

LONG = "a-branch-with-quite-a-long-name"


def score(call: Call[Any]) -> int:
    """Complexity of a query as the simulated GitLab counts it, from the query alone."""
    gitlab = SimulatedGitLab(clock=lambda: 0.0, seed=1)
    bot = gitlab.add_user("bot", admin=True)  # who may ask a little more
    token = gitlab.add_token(bot)
    gitlab.add_group("g", members={bot: Role.REPORTER})
    body = msgspec.json.decode(call.body or b"")
    assert len(body["query"]) <= 10_000
    body["query"] = body["query"].removesuffix("}") + " queryComplexity { score limit } }"

    async def main() -> Any:
        async with httpx2.AsyncClient(transport=gitlab.transport(), base_url=gitlab.settings.url) as client:
            answer = await client.post("/api/graphql", json=body, headers={"PRIVATE-TOKEN": token.value})
            return answer.json()

    answer = asyncio.run(main())
    assert "errors" not in answer, answer
    found: int = answer["data"]["queryComplexity"]["score"]
    return found - 3  # what asking for it costs


@pytest.mark.parametrize("branches", [0, 1, 5, BRANCHES_MAX])
def test_the_list_of_projects_asks_for_as_many_as_fit(branches: int) -> None:
    rows = graphql.heads_rows_max(branches)
    counted = score(graphql.heads("g", None, rows, [LONG] * branches))
    assert counted <= graphql.heads_complexity(rows, branches) <= graphql.COMPLEXITY_MAX
    assert rows == 100 or counted > graphql.COMPLEXITY_MAX * 0.8


@pytest.mark.parametrize("rows", [1, 25, graphql.BATCH_PROJECTS_MAX])
def test_contents_ask_for_as_many_files_as_fit(rows: int) -> None:
    paths = graphql.paths_max(rows)
    counted = score(graphql.contents("g", list(range(rows)), None, [f"{n}/{LONG}" for n in range(paths)]))
    assert counted <= graphql.contents_complexity(rows, paths)
    assert paths == 100 or counted > graphql.COMPLEXITY_MAX * 0.8


def test_the_other_queries_fit_at_their_largest() -> None:
    ids = list(range(PAGE_ROWS_MAX))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for call in (
        graphql.names("g", None, PAGE_ROWS_MAX),
        graphql.trees("g", ids[: graphql.BATCH_PROJECTS_MAX], "next"),
        graphql.pipelines("g", ids, ref="main", updated_after=at),
        graphql.pipelines("g", ids, ref=None, updated_after=None),
    ):
        assert score(call) <= graphql.COMPLEXITY_MAX


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        (
            "Query has complexity of 300, which exceeds max complexity of 250",
            OverloadedError,
            "less is asked",
        ),
        ("Max blobs size limit exceeded (25 MB / 20 MB).", OverloadedError, "less is asked"),
        ("Request timed out. Please try a less complex query", OverloadedError, "less is asked"),
        ("Field 'tree' doesn't exist on type 'Repository'", ContractError, "older than this program"),
    ],
)
def test_errors_of_a_query_say_whether_less_would_help(
    message: str, error: type[Exception], says: str
) -> None:
    call = graphql.trees("g", [1], None)
    body = msgspec.json.encode({"data": None, "errors": [{"message": message}]})
    with pytest.raises(error, match=says):
        call.decode(body)


def test_a_group_that_may_not_be_seen_is_missing() -> None:
    with pytest.raises(NotFoundError, match=r"gitlab\.groups"):
        graphql.trees("g", [1], None).decode(b'{"data": {"group": null}}')


def test_a_row_that_failed_is_null_and_the_others_count() -> None:
    nodes = [None, {"id": "gid://gitlab/Project/2"}]
    body = msgspec.json.encode(
        {"data": {"group": {"projects": {"nodes": nodes}}}, "errors": [{"message": "x"}]}
    )
    rows = graphql.trees("g", [1, 2], None).decode(body)
    assert [node and node.id for node in rows.nodes] == [None, "gid://gitlab/Project/2"]


def test_an_id_that_is_none_is_a_bug() -> None:
    assert graphql.project_id("gid://gitlab/Project/17") == 17
    with pytest.raises(ContractError):
        graphql.project_id("gid://gitlab/Group/17")


# --- batches --------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 60), unique=True, max_size=60),
    st.sets(st.integers(0, 60)),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_each_thing_is_asked_for_once_whatever_fails(
    items: list[int], poison: set[int], size: int, rows_max: int
) -> None:
    got: list[int] = []
    alone: list[int] = []

    async def ask(batch: Sequence[int]) -> None:
        if len(batch) > rows_max or poison & set(batch):
            raise OverloadedError("too much")
        got.extend(batch)

    async def ask_alone(item: int) -> None:
        alone.append(item)

    batches = batched_alike(items, lambda item: item % 3, items_max=size)
    assert all(len({item % 3 for item in batch}) == 1 and len(batch) <= size for batch in batches)
    asyncio.run(in_batches(batches, ask, ask_alone))
    assert sorted(got + alone) == sorted(items)
    assert set(alone) == poison & set(items)


def test_an_error_that_is_no_overload_ends_all_batches() -> None:
    async def ask(batch: Sequence[int]) -> None:
        if batch[0] == 3:
            raise TokenError("wrong")
        await asyncio.sleep(60)

    async def never(_: int) -> None:
        raise AssertionError

    with pytest.raises(TokenError):
        asyncio.run(asyncio.wait_for(in_batches([[1], [2], [3]], ask, never), 5))
