"""Webhooks: what is planned for a project, and whose turn it is."""

import asyncio
from collections.abc import Sequence

import pytest

from imagechain.service.ports import Hook, HookSettings, RefusedError
from imagechain.service.upkeep import EVENTS, HookKeeper, HookPlan, HookRounds, plan_hooks
from sim.memory_store import MemoryStore

URL = "https://imagechain.test/hooks/gitlab"
WANTED = HookSettings(url=URL, events=EVENTS, token="t", signing_token="whsec_s")
GOOD = Hook(id=1, url=URL, events=frozenset(EVENTS), alert_status="executable", has_signing_token=True)


def hook(**fields: object) -> Hook:
    values = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__}
    return Hook(**(values | fields))


def test_a_project_without_our_hook_gets_one_and_hooks_of_others_are_left_alone() -> None:
    assert plan_hooks([], WANTED) == HookPlan(creates=True)
    assert plan_hooks([hook(url="https://chat.test")], WANTED) == HookPlan(creates=True)


def test_a_hook_that_is_right_is_left_alone_also_where_gitlab_does_not_know_signatures() -> None:
    assert plan_hooks([GOOD], WANTED).is_empty
    assert plan_hooks([hook(has_signing_token=None)], WANTED).is_empty


@pytest.mark.parametrize(
    "fields",
    [
        {"events": frozenset({"push_events"})},
        {"events": EVENTS | {"job_events"}},
        {"has_token": False},
        {"has_signing_token": False},
        {"verifies_tls": False},
    ],
)
def test_a_hook_that_is_wrong_is_set_again(fields: dict[str, object]) -> None:
    assert plan_hooks([hook(**fields)], WANTED) == HookPlan(updates=(1,))


@pytest.mark.parametrize("alert_status", ["temporarily_disabled", "disabled"])
def test_a_hook_that_gitlab_disabled_is_tested_which_enables_it(alert_status: str) -> None:
    assert plan_hooks([hook(alert_status=alert_status)], WANTED) == HookPlan(tests=(1,))


def test_of_doubles_the_oldest_stays() -> None:
    assert plan_hooks([hook(id=9), GOOD], WANTED) == HookPlan(deletes=(9,))


class Hooks:
    """A GitLab that keeps hooks, and refuses some projects."""

    def __init__(self) -> None:
        self.kept: dict[int, list[Hook]] = {}
        self.refuses: set[int] = set()
        self.looked_at: list[int] = []

    async def hooks(self, project_id: int) -> Sequence[Hook]:
        if project_id in self.refuses:
            raise RefusedError("403: the token's user must be a maintainer")
        self.looked_at.append(project_id)
        return self.kept.get(project_id, [])

    async def create_hook(self, project_id: int, settings: HookSettings) -> None:
        self.kept[project_id] = [hook(id=project_id, url=settings.url)]

    async def update_hook(self, project_id: int, hook_id: int, settings: HookSettings) -> None: ...

    async def delete_hook(self, project_id: int, hook_id: int) -> None:
        self.kept[project_id] = [one for one in self.kept[project_id] if one.id != hook_id]


class Days:
    def __init__(self) -> None:
        self.time = 1e9

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None: ...


def rounds(hooks: Hooks, store: MemoryStore, days: Days, fingerprint: str = "1") -> HookRounds:
    return HookRounds(HookKeeper(hooks, lambda _: WANTED), store, days, fingerprint)  # type: ignore[arg-type]


def test_new_projects_come_at_once_old_ones_spread_over_the_day_and_those_that_left_lose_their_hook() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        keeper = rounds(hooks, store, days)
        report = await keeper.run(range(1, 101), share=0.01)
        assert report.created == tuple(range(1, 101))
        hooks.looked_at.clear()
        assert (await keeper.run(range(1, 102), share=0.01)).created == (101,)
        assert hooks.looked_at == [101]
        days.time += 90_000
        hooks.looked_at.clear()
        await keeper.run(range(1, 102), share=0.01)
        assert hooks.looked_at == [1, 2]
        report = await keeper.run(range(2, 102), share=0.01)
        assert report.removed == (1,)
        assert hooks.kept[1] == []

    asyncio.run(main())


def test_with_a_new_key_all_hooks_are_set_again() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        await rounds(hooks, store, days).run([1, 2], share=0.01)
        report = await rounds(hooks, store, days, "2").run([1, 2], share=0.01)
        assert report.repaired == (1, 2)
        report = await rounds(hooks, store, days, "2").run([1, 2], share=0.01)
        assert report.repaired == ()

    asyncio.run(main())


def test_a_project_that_refuses_is_told_and_tried_again_and_holds_up_nobody() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        hooks.refuses = {1}
        report = await rounds(hooks, store, days).run([1, 2], share=0.01)
        assert (report.created, report.refused) == (
            (2,),
            ((1, "403: the token's user must be a maintainer"),),
        )
        hooks.refuses = set()
        assert (await rounds(hooks, store, days).run([1, 2], share=0.01)).created == (1,)

    asyncio.run(main())
