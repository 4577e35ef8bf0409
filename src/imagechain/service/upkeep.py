"""Keeping the webhooks of all projects as they are to be: installed, repaired, enabled, removed at the end.

GitLab shows no secrets: whether a hook has the right ones is not told. So it is remembered with which key
each was set, and where that is not known, it is set again.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from math import ceil

import msgspec
import structlog

from imagechain.gitlab.rest import HookEvent
from imagechain.service.ports import Cache, Clock, Forge, Hook, HookSettings, RefusedError

#: What is needed to follow builds and files.
EVENTS: frozenset[HookEvent] = frozenset({"pipeline_events", "push_events"})
_TEST_EVENT: HookEvent = "push_events"

_ROUND_SECONDS = 86_400.0
_KEPT_KIND, _KEPT_KEY = "hooks", "all"

_log = structlog.get_logger(__name__)


class HookPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about the hooks of one project."""

    creates: bool = False
    updates: tuple[int, ...] = ()
    #: Disabled by GitLab after failures: a test that succeeds enables them.
    tests: tuple[int, ...] = ()
    #: Doubles of the one that stays.
    deletes: tuple[int, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether all is as it is to be."""
        return self == HookPlan()


def plan_hooks(hooks: Sequence[Hook], wanted: HookSettings, *, resets: bool = False) -> HookPlan:
    """Compare what is with what is to be. Pure.

    Args:
        hooks: of one project.
        wanted: how ours is to be.
        resets: whether its secrets may be others, which nobody can see.
    """
    ours = sorted((hook for hook in hooks if hook.url == wanted.url), key=lambda hook: hook.id)
    if not ours:
        return HookPlan(creates=True)
    kept = ours[0]
    is_wrong = (
        resets
        or kept.events != wanted.events
        or not kept.has_token
        or kept.has_signing_token is False
        or kept.verifies_tls != wanted.verifies_tls
    )
    return HookPlan(
        updates=(kept.id,) if is_wrong else (),
        tests=(kept.id,) if kept.alert_status in {"disabled", "temporarily_disabled"} else (),
        deletes=tuple(hook.id for hook in ours[1:]),
    )


class HookReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, by the numbers of projects."""

    created: tuple[int, ...] = ()
    repaired: tuple[int, ...] = ()
    enabled: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    #: Where GitLab refuses, and why.
    refused: tuple[tuple[int, str], ...] = ()


class HookKeeper:
    """Looks after the hooks of projects.

    Args:
        forge: where they are.
        wanted: how the hook of a project, by its number, is to be.
    """

    def __init__(self, forge: Forge, wanted: Callable[[int], HookSettings]) -> None:
        self._forge = forge
        self._wanted = wanted

    async def keep(self, projects: Iterable[int], resets: Collection[int] = ()) -> HookReport:
        """Bring the hooks of projects in order.

        Args:
            projects: their numbers.
            resets: those whose hooks may have other secrets.

        Raises:
            RetryableError: GitLab does not answer.
        """
        created, repaired, enabled, refused = [], [], [], []
        for project in projects:
            wanted = self._wanted(project)
            try:
                hooks = await self._forge.hooks(project)
                plan = plan_hooks(hooks, wanted, resets=project in resets)
                if plan.creates:
                    await self._forge.create_hook(project, wanted)
                    created.append(project)
                for hook in plan.updates:
                    await self._forge.update_hook(project, hook, wanted)
                    repaired.append(project)
                for hook in plan.deletes:
                    await self._forge.delete_hook(project, hook)
                    repaired.append(project)
                for hook in plan.tests:
                    await self._forge.test_hook(project, hook, _TEST_EVENT)
                    enabled.append(project)
            except RefusedError as error:
                _log.warning("a webhook cannot be kept", project=project, why=str(error))
                refused.append((project, str(error)))
        return HookReport(
            created=tuple(created),
            repaired=tuple(dict.fromkeys(repaired)),
            enabled=tuple(enabled),
            refused=tuple(refused),
        )

    async def remove(self, projects: Iterable[int]) -> HookReport:
        """Remove our hooks from projects that left.

        Raises:
            RetryableError: GitLab does not answer.
        """
        removed, refused = [], []
        for project in projects:
            url = self._wanted(project).url
            try:
                for hook in await self._forge.hooks(project):
                    if hook.url == url:
                        await self._forge.delete_hook(project, hook.id)
                        removed.append(project)
            except RefusedError as error:
                # It was deleted, or is not ours to look at any more.
                refused.append((project, str(error)))
        return HookReport(removed=tuple(removed), refused=tuple(refused))


class _Kept(msgspec.Struct, frozen=True):
    """What was done last about a project's hook."""

    #: Of the settings that it was given.
    fingerprint: str
    checked_at: float


class HookRounds:
    """Looks after all hooks: new projects at once, the others one after the other in the course of a day.

    Args:
        keeper: does it.
        store: remembers what was done.
        clock: tells when.
        fingerprint: changes whenever all hooks are to be set again, as with a new key.
    """

    def __init__(self, keeper: HookKeeper, store: Cache, clock: Clock, fingerprint: str) -> None:
        self._keeper = keeper
        self._store = store
        self._clock = clock
        self._fingerprint = fingerprint

    async def run(self, projects: Iterable[int], *, share: float = 1.0) -> HookReport:
        """Do a part of a round.

        Args:
            projects: the numbers of all projects.
            share: how much of all that is old may be looked at; 1: all, whatever its age.

        Raises:
            RetryableError: GitLab does not answer.
        """
        present = set(projects)
        kept = await self._load()
        now = self._clock.now()
        new = [p for p in sorted(present) if p not in kept or kept[p].fingerprint != self._fingerprint]
        old = sorted(present.difference(new), key=lambda project: kept[project].checked_at)
        if share < 1:
            old = [project for project in old if kept[project].checked_at <= now - _ROUND_SECONDS]
            old = old[: ceil(len(present) * share)]
        gone = sorted(kept.keys() - present)
        done, removed = await self._keeper.keep([*new, *old], new), await self._keeper.remove(gone)
        refused = {project for project, _ in done.refused}
        kept |= {p: _Kept(self._fingerprint, now) for p in (*new, *old) if p not in refused}
        kept = {project: one for project, one in kept.items() if project in present}
        await self._store.cache(_KEPT_KIND, {_KEPT_KEY: msgspec.msgpack.encode(kept)})
        return msgspec.structs.replace(done, removed=removed.removed)

    async def _load(self) -> dict[int, _Kept]:
        data = (await self._store.cached(_KEPT_KIND, [_KEPT_KEY])).get(_KEPT_KEY)
        return msgspec.msgpack.decode(data, type=dict[int, _Kept]) if data is not None else {}
