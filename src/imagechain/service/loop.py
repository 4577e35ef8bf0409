"""The loop: hints in, follow up, observe, decide, act. The only place that wires the parts together.

One replica acts at a time: it holds a lease, and shows it whenever it writes. Whatever goes wrong with the
store, all that is known is dropped and read again from it: the same way as after a crash.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
import structlog

from imagechain.chain import BUILD_KINDS, Chain, DependencyKind, Policy, UnknownSourceError
from imagechain.config import BotSettings, Settings
from imagechain.service.acting import Acting, Ports, external_images
from imagechain.service.bots.errands import POLL_SECONDS, Errands
from imagechain.service.knowledge import NO_SCAN, Knowledge, read_memory
from imagechain.service.known import Known
from imagechain.service.ports import RefusedError, RetryableError
from imagechain.service.upkeep import HookReport
from imagechain.store.errors import LeaseLostError, StoreError, StoreLostError
from imagechain.store.values import BURST_SECONDS, Lease, StoredHint

#: A loop that has not turned for so long hangs: it waits for nothing but its store.
TURN_SECONDS_MAX = 120.0
LEASE_SECONDS = 30.0
_LEASE_RENEWALS = 3
#: Hints that are taken from the inbox at once.
HINTS_MAX = 500
#: Hints that are followed up at the same time.
UNDER_WAY_MAX = 4 * HINTS_MAX
#: How often the inbox is looked at unasked: another replica may have put something there.
_POLL_SECONDS = 1.0
_RETRY_SECONDS = 15.0
#: How old an answer of a replica may be that does not act.
_STORED_SECONDS = 5.0
_HOOK_ROUND_SECONDS = 86_400.0
#: Moving images are looked at that many times within their quiet period.
_QUIET_LOOKS = 4
_LOOK_SECONDS_MIN = 15.0

Failure = TypeVar("Failure", bound=Exception)

_log = structlog.get_logger(__name__)


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say about the loop."""

    policy: Policy = Policy()
    kinds: frozenset[DependencyKind] = BUILD_KINDS
    #: How often everything is read again.
    reconcile_seconds: float = 900.0
    #: How often external images are looked at.
    external_seconds: float = 900.0
    bots: BotSettings = BotSettings()


def service_settings(settings: Settings) -> ServiceSettings:
    """Take from the settings what the loop needs."""
    table = settings.policy
    return ServiceSettings(
        policy=table.policy(),
        kinds=table.kinds(),
        reconcile_seconds=table.reconcile,
        external_seconds=table.external,
        bots=settings.bots,
    )


class Service:
    """One replica of the service."""

    def __init__(self, ports: Ports, settings: ServiceSettings, owner: str | None = None) -> None:
        self._ports = ports
        self._settings = settings
        self._owner = owner or secrets.token_hex(8)
        self._acting: Acting | None = None
        self._lease: Lease | None = None
        self._woken = asyncio.Event()
        self._stored: Known | None = None
        self._stored_at = 0.0
        self._reading_stored = asyncio.Lock()
        #: What GitLab refuses or fails just now of all that is tried until it succeeds, and why.
        self._troubles: dict[str, str] = {}
        #: When the loop turned last, for the watchdog and `/healthz`.
        self.turned_at = 0.0

    # --- running ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Act whenever this replica may, until cancelled.

        Raises:
            StoreLostError: the store is damaged, or another one is in its place. To begin anew may mend that,
                to go on cannot.
        """
        lost: StoreLostError | None = None
        while lost is None:
            lease = await self._take_lease()
            if lease is None:
                await self._ports.clock.sleep(LEASE_SECONDS / _LEASE_RENEWALS)
                continue
            try:
                await self._act(lease)
            except* StoreLostError as errors:
                lost = _first(errors)
            except* LeaseLostError:
                _log.warning("another replica acts now")
            except* UnknownSourceError as errors:
                # A rescan took a source away while it was looked at. What was written is right.
                _log.warning("begun anew after a rescan", why=str(_first(errors)))
                await self._ports.clock.sleep(_POLL_SECONDS)
            except* StoreError as errors:
                _log.error("the store failed", why=str(_first(errors)))
                await self._ports.clock.sleep(_POLL_SECONDS)
            finally:
                self._acting = None
                self._troubles.clear()
        raise lost

    async def release(self) -> None:
        """Let another replica act at once, at the end of this one."""
        if self._lease is not None:
            await self._ports.store.release_lease(self._lease)

    async def _take_lease(self) -> Lease | None:
        now = self._ports.clock.now()
        if self._acting is None or not self._acting.is_deciding:
            self.turned_at = now
        try:
            self._lease = await self._ports.store.take_lease(self._owner, LEASE_SECONDS, now)
        except StoreLostError:
            raise
        except StoreError as error:
            _log.error("the store failed", why=str(error))
            self._lease = None
        return self._lease

    async def _act(self, lease: Lease) -> None:
        memory = await self._ports.store.load()
        knowledge = Knowledge(
            self._ports.store,
            lease,
            self._settings.policy,
            self._settings.kinds,
            memory,
            now=self._ports.clock.now(),
        )
        self._acting = acting = Acting(self._ports, knowledge, self._settings.bots, memory.errands)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_lease(acting))
            await self._patiently("scan", acting.reconciler.scan)
            tasks.create_task(self._keep_hooks(acting))
            # Before all is known, nothing is decided.
            await self._patiently("reconcile", acting.reconciler.read)
            acting.is_deciding = True
            tasks.create_task(self._follow_hints(acting))
            tasks.create_task(self._decide(acting))
            tasks.create_task(self._reconcile(acting))
            tasks.create_task(self._look_at_images(acting))
            if acting.errands is not None:
                tasks.create_task(self._run_errands(acting.errands))

    async def _keep_lease(self, acting: Acting) -> None:
        while True:
            await self._ports.clock.sleep(LEASE_SECONDS / _LEASE_RENEWALS)
            lease = await self._take_lease()
            if lease is None or lease.number != acting.knowledge.lease.number:
                raise LeaseLostError("the lease ran out, and another replica took it")
            acting.knowledge.lease = lease

    # --- hints ------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Say that the inbox has something new."""
        self._woken.set()

    async def _follow_hints(self, acting: Acting) -> None:
        """Follow hints up, as they come: one that takes long, for GitLab is slow there, holds up no other."""
        not_before: dict[int, float] = {}
        under_way: set[int] = set()

        async def follow(hints: Sequence[StoredHint]) -> None:
            failed = await acting.follow(hints)
            not_before.update(dict.fromkeys(failed, self._ports.clock.now() + _RETRY_SECONDS))
            under_way.difference_update(hint.id for hint in hints)
            if len(hints) == HINTS_MAX:
                self._woken.set()

        async with asyncio.TaskGroup() as tasks:
            while True:
                self._woken.clear()
                now = self._ports.clock.now()
                # Before it is asked what waits: what is done meanwhile may be in that answer still.
                known = frozenset(under_way)
                waiting = await self._ports.store.hints(HINTS_MAX + len(known))
                # Counted from here: then what it stands for has come, whatever the clock of its writer says.
                bursts = (hint.id for hint in waiting if hint.hint.kind == "burst")
                not_before = dict.fromkeys(bursts, now + BURST_SECONDS) | not_before
                ready = [h for h in waiting if h.id not in known and not_before.get(h.id, 0.0) <= now]
                ready = ready[: max(UNDER_WAY_MAX - len(known), 0)]
                not_before = {h.id: not_before[h.id] for h in waiting if h.id in not_before}
                if ready:
                    under_way.update(hint.id for hint in ready)
                    tasks.create_task(follow(ready))
                if len(ready) < HINTS_MAX:
                    await self._wait(self._woken, _POLL_SECONDS)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for an event, but not longer than that."""
        waiting = asyncio.ensure_future(event.wait())
        sleeping = asyncio.ensure_future(self._ports.clock.sleep(seconds))
        try:
            await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()

    # --- decide and act ---------------------------------------------------------------------------------

    async def _decide(self, acting: Acting) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                acting.knowledge.changed.clear()
                await acting.starter.turn(tasks)
                self.turned_at = self._ports.clock.now()
                now = acting.clock.now()
                wake_at = acting.starter.wake_at
                seconds = LEASE_SECONDS if wake_at is None else min(max(wake_at - now, 0.0), LEASE_SECONDS)
                await self._wait(acting.knowledge.changed, seconds)

    # --- everything again -------------------------------------------------------------------------------

    async def _reconcile(self, acting: Acting) -> None:
        while True:
            await self._wait(acting.rescan_wanted, self._settings.reconcile_seconds)
            if acting.rescan_wanted.is_set():
                # Pushes come in bursts.
                await self._ports.clock.sleep(BURST_SECONDS)
                acting.rescan_wanted.clear()
                await self._patiently("rescan", acting.reconciler.rescan)
            else:
                await self._patiently("reconcile", acting.reconciler.run)

    async def _keep_hooks(self, acting: Acting) -> None:
        """Install the webhooks of new projects, and check a part of the others; nothing waits for that."""
        hooks, every = self._ports.hooks, self._settings.reconcile_seconds
        if hooks is None:
            return

        async def keep() -> None:
            projects = {one.project_id: one.path for one in acting.knowledge.tracked.values()}
            report = await hooks.run(projects, share=min(every / _HOOK_ROUND_SECONDS, 0.99))
            # What was refused is tried again in each round.
            acting.unhooked = {
                projects.get(owner, str(owner)) if isinstance(owner, int) else owner: why
                for owner, why in report.refused
            }
            if report != HookReport():
                _log.info("webhooks", **msgspec.structs.asdict(report))

        while True:
            await self._patiently("webhooks", keep)
            await self._wait(hooks.wanted, every)

    async def _look_at_images(self, acting: Acting) -> None:
        """Look at the images of others, and at those that could not be read."""
        looked_at = acting.clock.now()
        while True:
            await self._ports.clock.sleep(_LOOK_SECONDS_MIN)
            await self._patiently("look again", acting.follower.look_again)
            now = acting.clock.now()
            names, changed_at = external_images(acting.knowledge.chain)
            quiet = self._settings.policy.quiet_seconds
            interval = quiet / _QUIET_LOOKS if now < changed_at + quiet else self._settings.external_seconds
            if now >= looked_at + min(interval, self._settings.external_seconds):
                looked_at = now
                await acting.follower.read_images(names)

    async def _run_errands(self, errands: Errands) -> None:
        while True:
            errands.woken.clear()
            await errands.turn()
            await self._wait(errands.woken, POLL_SECONDS)

    async def _patiently(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Try again until it succeeds."""
        while True:
            try:
                await work()
            except (RetryableError, RefusedError) as error:
                seconds = _RETRY_SECONDS
                if isinstance(error, RetryableError) and error.retry_after_seconds is not None:
                    seconds = max(seconds, error.retry_after_seconds)
                self._troubles[what] = str(error)
                _log.warning("GitLab does not answer as it should", during=what, why=str(error))
                await self._ports.clock.sleep(seconds)
            else:
                self._troubles.pop(what, None)
                return

    # --- for the web app --------------------------------------------------------------------------------

    @property
    def chain(self) -> Chain | None:
        """What is known; None: nothing is, or another replica acts."""
        return self._acting.knowledge.chain if self._acting is not None else None

    async def known(self) -> Known | None:
        """Tell what is known; while another replica acts, what that one has written. None: nothing yet.

        Raises:
            StoreError: the store does not answer.
        """
        acting = self._acting
        if acting is None:
            return await self._read_stored()
        if not acting.is_deciding and acting.knowledge.scan == NO_SCAN:
            return None
        return Known(
            chain=acting.knowledge.chain,
            scan=acting.knowledge.scan,
            digests={name: digest for name, (_, digest) in acting.follower.digests.items()},
            unannounced=acting.reconciler.unannounced,
            unchecked=acting.follower.unseen.unchecked(acting.knowledge),
            failing={**acting.starter.failing, **acting.follower.unseen.failing(acting.knowledge)},
            unhooked=acting.unhooked,
        )

    @property
    def gitlab_trouble(self) -> str:
        """Why GitLab refuses or fails what the service needs whatever the project; empty: it does not."""
        return next(iter(self._troubles.values()), "")

    async def _read_stored(self) -> Known | None:
        async with self._reading_stored:
            now = self._ports.clock.now()
            if self._stored is None or now >= self._stored_at + _STORED_SECONDS:
                memory = await self._ports.store.load()
                settings = self._settings
                # In a thread: of thousands of projects it takes seconds.
                read = await asyncio.to_thread(read_memory, memory, settings.policy, settings.kinds)
                self._stored_at = now
                self._stored = Known(chain=read[1], scan=read[0], is_stored=True) if read else None
            return self._stored

    @property
    def unannounced(self) -> int:
        """Ended pipelines that no webhook announced, since this replica acts."""
        return self._acting.reconciler.unannounced if self._acting is not None else 0


def _first(errors: ExceptionGroup[Failure]) -> Failure:
    """Take one of the errors of tasks, which may be in groups of groups."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
