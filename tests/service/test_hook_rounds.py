"""Whose webhooks are looked after when, and by whose hook a project is heard."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.gitlab.hook_secrets import HookOwner
from imagechain.service.hook_rounds import HookRounds
from imagechain.service.ports import Hook, HookSettings, RefusedError, RetryableError
from imagechain.service.upkeep import EVENTS, HookKeeper
from sim.memory_store import MemoryStore

URL = "https://imagechain.test/hooks/gitlab"


class Hooks:
    """A GitLab that keeps hooks, and refuses some owners."""

    def __init__(self, *, has_group_hooks: bool = False) -> None:
        self.kept: dict[HookOwner, list[Hook]] = {}
        self.refuses: set[HookOwner] = set()
        self.fails_on: set[HookOwner] = set()
        self.has_group_hooks = has_group_hooks
        self.looked_at: list[HookOwner] = []
        self._last_id = 0

    async def hooks(self, owner: HookOwner) -> Sequence[Hook]:
        if owner in self.refuses:
            raise RefusedError("403: the token's user must be a maintainer")
        if owner in self.fails_on:
            raise RetryableError("500 Internal Server Error")
        if isinstance(owner, str) and not self.has_group_hooks:
            raise RefusedError("404 Not Found")
        self.looked_at.append(owner)
        return self.kept.get(owner, [])

    async def create_hook(self, owner: HookOwner, settings: HookSettings) -> None:
        self._last_id += 1
        made = Hook(id=self._last_id, url=settings.url, events=frozenset(settings.events))
        self.kept[owner] = [*self.kept.get(owner, []), made]

    async def update_hook(self, owner: HookOwner, hook_id: int, settings: HookSettings) -> None: ...

    async def delete_hook(self, owner: HookOwner, hook_id: int) -> None:
        self.kept[owner] = [one for one in self.kept[owner] if one.id != hook_id]

    async def test_hook(self, project_id: int, hook_id: int, event: str) -> None:
        raise AssertionError(f"no hook of a project was disabled: {project_id} {hook_id} {event}")

    def heard_by(self, project: int, path: str) -> int:
        """Count the hooks that an event of a project fires."""
        groups = [path.rpartition("/")[0]]
        while "/" in groups[-1]:
            groups.append(groups[-1].rpartition("/")[0])
        # Without a licence for them, hooks of groups stay where they are, and none of them fires.
        owners: list[HookOwner] = [project, *(groups if self.has_group_hooks else ())]
        return sum(len(self.kept.get(owner, [])) for owner in owners)


class Days:
    def __init__(self) -> None:
        self.time = 1e9

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None: ...


def wanted(owner: HookOwner) -> HookSettings:
    url = f"{URL}/groups/{owner}" if isinstance(owner, str) else URL
    return HookSettings(url=url, events=EVENTS, token="t", signing_token="whsec_s")


def rounds(
    hooks: Hooks, store: MemoryStore, days: Days, fingerprint: str = "1", groups: Sequence[str] = ("images",)
) -> HookRounds:
    return HookRounds(HookKeeper(hooks, wanted), store, days, fingerprint, groups)  # type: ignore[arg-type]


def paths(numbers: range | Sequence[int]) -> dict[int, str]:
    return {number: f"images/p{number}" for number in numbers}


def test_new_projects_come_at_once_old_ones_spread_over_the_day_and_those_that_left_lose_their_hook() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        keeper = rounds(hooks, store, days)
        report = await keeper.run(paths(range(1, 101)), share=0.01)
        assert report.created == tuple(range(1, 101))
        hooks.looked_at.clear()
        assert (await keeper.run(paths(range(1, 102)), share=0.01)).created == (101,)
        assert hooks.looked_at == [101]
        days.time += 90_000
        hooks.looked_at.clear()
        await keeper.run(paths(range(1, 102)), share=0.01)
        assert hooks.looked_at == [1, 2]
        report = await keeper.run(paths(range(2, 102)), share=0.01)
        assert report.removed == (1,)
        assert hooks.kept[1] == []

    asyncio.run(main())


def test_all_hooks_of_which_something_did_not_come_are_checked_in_the_next_round_once() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        keeper = rounds(hooks, store, days)
        await keeper.run(paths(range(1, 101)), share=0.01)
        days.time += 60
        keeper.doubt([7, 50, 99, 1_000])
        assert keeper.wanted.is_set()
        for checked in ([7, 50, 99], []):
            hooks.looked_at.clear()
            await keeper.run(paths(range(1, 101)), share=0.01)
            assert not keeper.wanted.is_set()
            assert hooks.looked_at == checked

    asyncio.run(main())


def test_so_is_that_of_a_group_and_a_round_that_failed_does_not_count() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(has_group_hooks=True), MemoryStore(), Days()
        keeper = rounds(hooks, store, days, groups=["images", "others"])
        await keeper.run(paths([1, 2]), share=0.01)
        days.time += 60
        hooks.looked_at.clear()
        hooks.fails_on = {"images"}
        keeper.doubt([2])
        with pytest.raises(RetryableError):
            await keeper.run(paths([1, 2]), share=0.01)
        hooks.fails_on = set()
        await keeper.run(paths([1, 2]), share=0.01)
        assert hooks.looked_at == ["images"]

    asyncio.run(main())


def test_with_a_new_key_all_hooks_are_set_again() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        await rounds(hooks, store, days).run(paths([1, 2]), share=0.01)
        report = await rounds(hooks, store, days, "2").run(paths([1, 2]), share=0.01)
        assert report.repaired == (1, 2)
        report = await rounds(hooks, store, days, "2").run(paths([1, 2]), share=0.01)
        assert report.repaired == ()

    asyncio.run(main())


def test_a_project_that_refuses_is_told_and_tried_again_and_holds_up_nobody() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        hooks.refuses = {1}
        report = await rounds(hooks, store, days).run(paths([1, 2]), share=0.01)
        assert report.created == (2,)
        assert report.refused == ((1, "403: the token's user must be a maintainer"),)
        hooks.refuses = set()
        assert (await rounds(hooks, store, days).run(paths([1, 2]), share=0.01)).created == (1,)

    asyncio.run(main())


def test_a_project_on_which_gitlab_fails_is_told_and_tried_again_and_holds_up_nobody() -> None:
    """As with a database whose secrets GitLab cannot decrypt any more."""

    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        hooks.fails_on = {1}
        report = await rounds(hooks, store, days).run(paths([1, 2]), share=0.01)
        assert report.created == (2,)
        assert report.failed == ((1, "500 Internal Server Error"),)
        hooks.fails_on = set()
        assert (await rounds(hooks, store, days).run(paths([1, 2]), share=0.01)).created == (1,)
        hooks.fails_on = {1}
        # It left, and its hook is still there: that is not forgotten.
        assert (await rounds(hooks, store, days).run(paths([2]), share=0.01)).removed == ()
        hooks.fails_on = set()
        assert (await rounds(hooks, store, days).run(paths([2]), share=0.01)).removed == (1,)

    asyncio.run(main())


def test_a_group_on_which_gitlab_fails_keeps_its_hook_and_so_do_its_projects() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(has_group_hooks=True), MemoryStore(), Days()
        await rounds(hooks, store, days).run(paths([1]), share=0.01)
        hooks.fails_on = {"images"}
        days.time += 90_000
        with pytest.raises(RetryableError, match="500"):
            await rounds(hooks, store, days).run(paths([1]), share=0.01)
        assert hooks.heard_by(1, "images/p1") == 1
        await rounds(hooks, store, days, groups=[]).run({}, share=0.01)
        hooks.fails_on = set()
        assert (await rounds(hooks, store, days, groups=[]).run({}, share=0.01)).removed == ("images",)

    asyncio.run(main())


def test_projects_that_refuse_do_not_take_the_turn_of_the_others() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        keeper = rounds(hooks, store, days)
        await keeper.run(paths(range(1, 101)), share=0.05)
        days.time += 90_000
        hooks.refuses = set(range(1, 11))
        hooks.looked_at.clear()
        for _ in range(20):
            await keeper.run(paths(range(1, 101)), share=0.05)
        assert set(hooks.looked_at) == set(range(11, 101))

    asyncio.run(main())


def test_where_the_edition_has_hooks_of_groups_there_is_one_for_all_projects() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(has_group_hooks=True), MemoryStore(), Days()
        report = await rounds(hooks, store, days, groups=["images", "images/sub"]).run(paths([1, 2]))
        assert report.created == ("images",)
        assert report.refused == ()
        assert [hooks.heard_by(number, path) for number, path in paths([1, 2]).items()] == [1, 1]
        with_another_key = rounds(hooks, store, days, "2", groups=["images", "images/sub"])
        assert (await with_another_key.run(paths([1, 2]), share=0.01)).repaired == ("images",)
        hooks.looked_at.clear()
        await with_another_key.run(paths([1, 2]), share=0.01)
        assert hooks.looked_at == []

    asyncio.run(main())


def test_a_group_that_was_taken_out_of_the_settings_loses_its_hook() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(has_group_hooks=True), MemoryStore(), Days()
        await rounds(hooks, store, days, groups=["images", "apps"]).run({1: "images/a", 2: "apps/b"})
        report = await rounds(hooks, store, days, groups=["images"]).run({1: "images/a"})
        assert report.removed == ("apps",)
        assert hooks.kept["apps"] == []

    asyncio.run(main())


def test_a_disabled_hook_of_a_group_is_made_anew_which_every_version_lets_us() -> None:
    async def main() -> None:
        hooks, store, days = Hooks(has_group_hooks=True), MemoryStore(), Days()
        keeper = rounds(hooks, store, days)
        await keeper.run(paths([1]))
        (made,) = hooks.kept["images"]
        hooks.kept["images"] = [Hook(id=made.id, url=made.url, events=made.events, alert_status="disabled")]
        assert (await keeper.run(paths([1]))).enabled == ("images",)
        assert [one.id for one in hooks.kept["images"]] == [made.id + 1]

    asyncio.run(main())


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), min_size=1, max_size=6))
def test_whatever_the_edition_becomes_each_project_is_heard_once(
    lives: list[tuple[bool, bool, int]],
) -> None:
    """Licences come and go, the store is lost, projects leave: after a round each is heard by one hook."""

    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        for has_group_hooks, is_lost, gone in lives:
            hooks.has_group_hooks = has_group_hooks
            store = MemoryStore() if is_lost else store
            days.time += 90_000
            present = {number: path for number, path in paths([1, 2, 3]).items() if number != gone}
            await rounds(hooks, store, days).run(present, share=0.9)
            assert [hooks.heard_by(number, path) for number, path in present.items()] == [1] * len(present)

    asyncio.run(main())


@pytest.mark.parametrize("ahead_seconds", [0.0, 30 * 86_400.0])
def test_webhooks_are_checked_within_a_day_after_the_clock_is_put_right(ahead_seconds: float) -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        days.time += ahead_seconds
        await rounds(hooks, store, days).run(paths([1, 2]), share=0.5)
        days.time -= ahead_seconds
        keeper = rounds(hooks, store, days)  # After a restart.
        hooks.kept[1] = []  # Somebody deletes it.
        for _ in range(48):
            days.time += 3_600
            await keeper.run(paths([1, 2]), share=0.5)
        assert hooks.kept[1]

    asyncio.run(main())


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_project_that_returns_after_the_answer_that_its_hook_is_removed_was_lost_gets_one(
    is_lost: bool,
) -> None:
    async def main() -> None:
        hooks, store, days = Hooks(), MemoryStore(), Days()
        keeper = rounds(hooks, store, days)
        await keeper.run(paths([1, 2]), share=0.5)
        delete = hooks.delete_hook

        async def lost(owner: HookOwner, hook_id: int) -> None:
            await delete(owner, hook_id)
            if is_lost:
                raise RetryableError("the connection was lost")

        hooks.delete_hook = lost  # type: ignore[method-assign]
        await keeper.run(paths([2]), share=0.5)
        assert not hooks.kept[1]
        hooks.delete_hook = delete  # type: ignore[method-assign]
        for _ in range(20):
            days.time += 3_600
            await keeper.run(paths([1, 2]), share=0.5)
        assert hooks.kept[1]

    asyncio.run(main())
