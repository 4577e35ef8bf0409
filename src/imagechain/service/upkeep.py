"""Keeping webhooks as they are to be: installed, repaired, enabled, removed at the end.

GitLab shows no secrets: whether a hook has the right ones is not told. So it is remembered with which key
each was set, and where that is not known, it is set again.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from imagechain.gitlab.hook_secrets import HookOwner, HookSecrets
from imagechain.gitlab.rest import HookEvent
from imagechain.service.ports import (
    Forge,
    Hook,
    HookSettings,
    NotNowError,
    RefusedError,
    RetryableError,
)

#: Where GitLab sends webhooks to, below `server.url`; those of groups with `/groups/PATH` behind it.
HOOKS_PATH = "/hooks/gitlab"
#: What tells of builds and files, and what the rules for merge requests and deployments need.
EVENTS: frozenset[HookEvent] = frozenset(
    {
        "pipeline_events",
        "push_events",
        "tag_push_events",
        "merge_requests_events",
        "note_events",
        "deployment_events",
    }
)
_TEST_EVENT: HookEvent = "push_events"


def wanted_hook(server_url: str, secrets: HookSecrets) -> Callable[[HookOwner], HookSettings]:
    """Say how the hook of each project and group is to be."""

    def wanted(owner: HookOwner) -> HookSettings:
        group = f"/groups/{owner}" if isinstance(owner, str) else ""
        return HookSettings(
            url=server_url.rstrip("/") + HOOKS_PATH + group,
            events=EVENTS,
            token=secrets.token(owner),
            signing_token=secrets.signing_token(owner),
        )

    return wanted


class HookPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about the hooks of one owner."""

    creates: bool = False
    updates: tuple[int, ...] = ()
    #: Disabled by GitLab after failures: a test that succeeds enables them.
    tests: tuple[int, ...] = ()
    #: Doubles of the one that stays.
    deletes: tuple[int, ...] = ()


def plan_hooks(hooks: Sequence[Hook], wanted: HookSettings, *, resets: bool = False) -> HookPlan:
    """Compare what is with what is to be. Pure.

    Args:
        hooks: of one owner.
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
    """What was done, by the numbers of projects and the paths of groups."""

    created: tuple[HookOwner, ...] = ()
    repaired: tuple[HookOwner, ...] = ()
    enabled: tuple[HookOwner, ...] = ()
    removed: tuple[HookOwner, ...] = ()
    #: Where GitLab refuses, and why.
    refused: tuple[tuple[HookOwner, str], ...] = ()
    #: On which GitLab fails, and how: nothing is known of their hooks.
    failed: tuple[tuple[HookOwner, str], ...] = ()

    def __add__(self, other: "HookReport") -> "HookReport":
        """Put two reports together."""
        return HookReport(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__}
        )


class HookKeeper:
    """Looks after the hooks of projects and groups.

    Args:
        forge: where they are.
        wanted: how the hook of an owner is to be.
    """

    def __init__(self, forge: Forge, wanted: Callable[[HookOwner], HookSettings]) -> None:
        self._forge = forge
        self._wanted = wanted

    async def keep(self, owners: Iterable[HookOwner], resets: Collection[HookOwner] = ()) -> HookReport:
        """Bring the hooks of projects and groups in order.

        Args:
            owners: whose.
            resets: those whose hooks may have other secrets.

        Raises:
            NotNowError: GitLab does not answer.
        """
        report = HookReport()
        for owner in owners:
            try:
                report += await self._keep(owner, resets=owner in resets)
            except NotNowError:
                raise
            except RetryableError as error:
                report += HookReport(failed=((owner, str(error)),))
            except RefusedError as error:
                report += HookReport(refused=((owner, str(error)),))
        return report

    async def _keep(self, owner: HookOwner, *, resets: bool) -> HookReport:
        wanted = self._wanted(owner)
        plan = plan_hooks(await self._forge.hooks(owner), wanted, resets=resets)
        if plan.creates:
            await self._forge.create_hook(owner, wanted)
        for hook in plan.updates:
            await self._forge.update_hook(owner, hook, wanted)
        for hook in plan.deletes:
            await self._forge.delete_hook(owner, hook)
        for hook in plan.tests:
            await self._enable(owner, hook)
        return HookReport(
            created=(owner,) if plan.creates else (),
            repaired=(owner,) if plan.updates or plan.deletes else (),
            enabled=(owner,) if plan.tests else (),
        )

    async def _enable(self, owner: HookOwner, hook: int) -> None:
        """Enable a hook again: by a test, which shows that it works; groups have no such test everywhere."""
        if isinstance(owner, int):
            await self._forge.test_hook(owner, hook, _TEST_EVENT)
        else:
            await self._forge.create_hook(owner, self._wanted(owner))
            await self._forge.delete_hook(owner, hook)

    async def remove(self, owners: Iterable[HookOwner]) -> HookReport:
        """Remove our hooks from projects and groups that are to have none.

        Raises:
            NotNowError: GitLab does not answer.
        """
        report = HookReport()
        for owner in owners:
            url = self._wanted(owner).url
            try:
                ours = [hook for hook in await self._forge.hooks(owner) if hook.url == url]
                for hook in ours:
                    await self._forge.delete_hook(owner, hook.id)
            except NotNowError:
                raise
            except RetryableError as error:
                report += HookReport(failed=((owner, str(error)),))
            except RefusedError as error:
                # It was deleted, or is not ours to look at any more.
                report += HookReport(refused=((owner, str(error)),))
            else:
                report += HookReport(removed=(owner,) if ours else ())
        return report
