"""Whose webhooks are looked after when: new ones at once, the others one after the other within a day.

A hook of which something did not come is checked before its turn: GitLab disables those that fail.

Where the edition has webhooks of groups, one of each group does, and its projects have none of their own:
two hooks would double every message. That is tried, never guessed from a version: the free edition answers
404, and 403 says that the token's user is no owner. As soon as it changes, either way, the other kind of hook
takes over; the new one is there before the old one goes.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil

import msgspec
import structlog
from msgspec.structs import replace

from imagechain.service.ports import Cache, Clock, RetryableError
from imagechain.service.upkeep import HookKeeper, HookReport

_ROUND_SECONDS = 86_400.0
#: Projects that are done before it is noted: so many are looked at once more after a crash.
_NOTED_PROJECTS_MAX = 200
_KEPT_KIND, _KEPT_KEY = "hooks", "all owners"
#: In the place of a fingerprint: the project has no hook, because its group has one.
_BY_GROUP = "by its group"
#: The same of a group: GitLab lets it have none, so that its projects do.
_BY_PROJECTS = "by its projects"

_log = structlog.get_logger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    """What was done last about the hook of a project or group."""

    #: Of the settings that it was given.
    fingerprint: str
    checked_at: float

    def is_old(self, now: float) -> bool:
        """Tell whether it is to be checked again; also where a clock was ahead and is right now."""
        return not 0 <= now - self.checked_at < _ROUND_SECONDS


#: There may be a hook of ours, or none.
_UNDONE = _Kept("", 0.0)


class _Memory(msgspec.Struct):
    """What was done about all of them."""

    projects: dict[int, _Kept] = {}
    groups: dict[str, _Kept] = {}

    def doubt(self, numbers: Collection[int], paths: Collection[str]) -> None:
        """Forget when the hooks were checked by which these projects are heard."""
        for number in self.projects.keys() & set(numbers):
            self.projects[number] = replace(self.projects[number], checked_at=0.0)
        for group, kept in self.groups.items():
            if kept.fingerprint != _BY_PROJECTS and any(is_within(path, group) for path in paths):
                self.groups[group] = replace(kept, checked_at=0.0)


class HookRounds:
    """Looks after all hooks.

    Args:
        keeper: does it.
        store: remembers what was done.
        clock: tells when.
        fingerprint: changes whenever all hooks are to be set again, as with a new key.
        groups: paths of the groups, as in the settings.
    """

    def __init__(
        self, keeper: HookKeeper, store: Cache, clock: Clock, fingerprint: str, groups: Sequence[str] = ()
    ) -> None:
        self._keeper = keeper
        self._store = store
        self._clock = clock
        self._fingerprint = fingerprint
        self._groups = _outermost(groups)
        #: Two rounds at once would make two hooks where one is missing.
        self._turn = asyncio.Lock()
        self._doubted: set[int] = set()
        #: Set when a round is wanted before the next one is due.
        self.wanted = asyncio.Event()

    def doubt(self, projects: Iterable[int]) -> None:
        """Have the hooks of projects checked first, and soon: what they should have told did not come."""
        self._doubted.update(projects)
        self.wanted.set()

    async def run(self, projects: Mapping[int, str], *, share: float = 1.0) -> HookReport:
        """Do a part of a round.

        Args:
            projects: paths of all projects, by their numbers.
            share: how much of all that is old may be looked at; 1: all, whatever its age.

        Raises:
            NotNowError: GitLab does not answer.
            RetryableError: it fails on a group.
        """
        async with self._turn:
            return await self._run(projects, share)

    async def _run(self, projects: Mapping[int, str], share: float) -> HookReport:
        self.wanted.clear()
        doubted = frozenset(self._doubted)
        memory = await self._load()
        now = self._clock.now()
        memory.doubt(doubted, [projects[number] for number in doubted & projects.keys()])
        report = await self._keep_groups(memory, now, share)
        hooked = [path for path, kept in memory.groups.items() if kept.fingerprint != _BY_PROJECTS]
        report += await self._keep_projects(memory, projects, hooked, now, share)
        await self._save(memory)
        self._doubted -= doubted
        for owner, why in (*report.refused, *report.failed):
            _log.warning("a webhook cannot be kept", owner=owner, why=why)
        return report

    async def _keep_groups(self, memory: _Memory, now: float, share: float) -> HookReport:
        report = HookReport()
        for group in self._groups:
            kept = memory.groups.get(group)
            is_new = kept is None or kept.fingerprint not in {self._fingerprint, _BY_PROJECTS}
            if kept is not None and not is_new and share < 1 and not kept.is_old(now):
                continue
            if kept is None:
                memory.groups[group] = _UNDONE
                await self._save(memory)
            done = await self._keeper.keep([group], [group] if is_new else [])
            if done.failed:
                # Whether it can have a hook says what becomes of those of all projects in it.
                raise RetryableError(done.failed[0][1])
            memory.groups[group] = _Kept(_BY_PROJECTS if done.refused else self._fingerprint, now)
            if done.refused and (kept is None or kept.fingerprint != _BY_PROJECTS):
                _log.info("each project gets a webhook of its own", group=group, why=done.refused[0][1])
            report += replace(done, refused=())
        for group in sorted(memory.groups.keys() - set(self._groups)):
            if memory.groups[group].fingerprint != _BY_PROJECTS:
                removed = await self._keeper.remove([group])
                report += replace(removed, refused=())
                if removed.failed:
                    continue
            del memory.groups[group]
        return report

    async def _keep_projects(
        self, memory: _Memory, projects: Mapping[int, str], hooked: Iterable[str], now: float, share: float
    ) -> HookReport:
        groups, kept = list(hooked), memory.projects
        wanted = {
            number: _BY_GROUP if any(is_within(path, group) for group in groups) else self._fingerprint
            for number, path in sorted(projects.items())
        }
        new = [
            number
            for number, fingerprint in wanted.items()
            if number not in kept or kept[number].fingerprint != fingerprint
        ]
        to_remove = [number for number in new if wanted[number] == _BY_GROUP]
        gone = [n for n in sorted(kept.keys() - wanted.keys()) if kept[n].fingerprint != _BY_GROUP]
        to_set = [number for number in new if wanted[number] != _BY_GROUP]
        old = self._old(memory, wanted, new, now, share)
        done = await self._set(memory, [*to_set, *old], frozenset(to_set), now)
        removed = await self._keeper.remove([*to_remove, *gone])
        failed = {owner for owner, _ in removed.failed}
        undone = failed | {owner for owner, _ in removed.refused}
        memory.projects = (
            {number: one for number, one in kept.items() if number in wanted}
            | {number: _Kept(_BY_GROUP, now) for number in to_remove if number not in undone}
            # It may have been removed all the same.
            | {number: _UNDONE for number in (*to_remove, *gone) if number in failed}
        )
        return done + replace(removed, refused=())

    async def _set(
        self, memory: _Memory, projects: Sequence[int], resets: Collection[int], now: float
    ) -> HookReport:
        """Bring the hooks of projects in order, some at a time.

        That there may be a hook is noted before it is made: whatever happens meanwhile, it is removed when
        its project leaves.
        """
        report = HookReport()
        for start in range(0, len(projects), _NOTED_PROJECTS_MAX):
            part = projects[start : start + _NOTED_PROJECTS_MAX]
            for number in part:
                memory.projects.setdefault(number, _UNDONE)
            await self._save(memory)
            done = await self._keeper.keep(part, resets)
            undone = {owner for owner, _ in (*done.refused, *done.failed)}
            for number in part:
                # Those that were in order once wait for their turn like all others: else they would take it
                # from them, each time.
                fingerprint = memory.projects[number].fingerprint if number in undone else self._fingerprint
                memory.projects[number] = _Kept(fingerprint, now)
            report += done
        return report

    def _old(
        self, memory: _Memory, wanted: Mapping[int, str], new: Iterable[int], now: float, share: float
    ) -> list[int]:
        """Choose those whose turn it is to be checked, the longest ago first; all that are doubted."""
        kept = memory.projects
        own = [number for number, fingerprint in wanted.items() if fingerprint != _BY_GROUP]
        old = sorted(set(own).difference(new), key=lambda number: (kept[number].checked_at, number))
        if share < 1:
            old = [number for number in old if kept[number].is_old(now)]
            doubted = sum(kept[number].checked_at == 0.0 for number in old)
            old = old[: max(ceil(len(own) * share), doubted)]
        return old

    async def _save(self, memory: _Memory) -> None:
        await self._store.cache(_KEPT_KIND, {_KEPT_KEY: msgspec.msgpack.encode(memory)})

    async def _load(self) -> _Memory:
        data = (await self._store.cached(_KEPT_KIND, [_KEPT_KEY])).get(_KEPT_KEY)
        return msgspec.msgpack.decode(data, type=_Memory) if data is not None else _Memory()


async def keep_all(
    keeper: HookKeeper, groups: Sequence[str], projects: Mapping[int, str], others: Iterable[int]
) -> HookReport:
    """Bring all hooks in order at once, without memory: what `sync` does, with or without a service.

    Args:
        keeper: does it.
        groups: paths of the groups, as in the settings.
        projects: paths of all projects, by their numbers.
        others: projects that may have hooks of ours, and are not among those any more.

    Raises:
        NotNowError: GitLab does not answer.
        RetryableError: it fails on a group.
    """
    by_group = await keeper.keep(_outermost(groups))
    if by_group.failed:
        raise RetryableError(by_group.failed[0][1])
    refused = {owner for owner, _ in by_group.refused}
    hooked = [group for group in _outermost(groups) if group not in refused]
    covered = [n for n, path in projects.items() if any(is_within(path, group) for group in hooked)]
    own = await keeper.keep(sorted(projects.keys() - set(covered)))
    removed = await keeper.remove(sorted({*covered, *others}))
    # What has no hooks of groups, and what left and is not ours to look at any more, is as it is to be.
    return replace(by_group, refused=()) + own + replace(removed, refused=())


def _outermost(groups: Iterable[str]) -> list[str]:
    """Leave out the groups that lie within another one, whose hook is heard for them too."""
    paths = [group.strip("/") for group in groups]
    return [path for path in paths if not any(is_within(path, other) for other in paths)]


def is_within(path: str, group: str) -> bool:
    """Tell whether a project or group lies in a group, at any depth."""
    return path.lower().startswith(f"{group.lower()}/")
