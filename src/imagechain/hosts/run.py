"""One run over the containers of one user: end what an earlier run left, look, plan, update, remember."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec

from imagechain.chain.policy import Policy, window_opens_at
from imagechain.hosts.host import Host
from imagechain.hosts.kept import drop_forgotten
from imagechain.hosts.look import look
from imagechain.hosts.plan import Action, Facts, Moment, Plan, make_plan
from imagechain.hosts.state import Held, Memory, StateError
from imagechain.hosts.update import Outcome, Updater


class Result(msgspec.Struct, frozen=True):
    """What came of a run."""

    plan: Plan
    facts: Facts
    outcomes: tuple[Outcome, ...] = ()


async def survey(host: Host, asked: frozenset[str] = frozenset()) -> Result:
    """Say what would be done, and change nothing, not even what is remembered.

    Raises:
        PodmanError: podman does not answer.
        StateError: what is remembered cannot be read.
    """
    facts, _, plan = await _survey(host, asked)
    return Result(plan, facts)


async def update(host: Host, asked: frozenset[str], tell: Callable[[Outcome], None]) -> Result:
    """Update what is to be updated now. The lock is held by the caller.

    Args:
        host: whose containers.
        asked: containers that a person named; none: all.
        tell: told of each outcome as soon as it is there.

    Raises:
        PodmanError: podman does not answer.
        StateError: the state cannot be read or written.
    """
    host.state.prepare()
    updater = Updater(host)
    outcomes = []
    for journal in host.state.journals():
        outcome = await updater.recover(journal)
        # A rollback is remembered at once: a run that is killed later must not try the same image again.
        outcomes.append(_hold(host, outcome, {part.reference for part in journal.parts}))
        tell(outcomes[-1])
    facts, memory, plan = await _survey(host, asked)
    if memory != host.state.memory():
        host.state.remember(memory)
    turns = _Turns(host, outcomes)
    room = asyncio.Semaphore(host.settings.parallel)

    async def act(action: Action) -> None:
        async with room:
            refusal = turns.refusal(action, asked)
            if refusal:
                outcome = Outcome(containers=action.names, result="postponed", why=refusal)
            else:
                outcome = await updater.update(action, facts)
            outcomes.append(_hold(host, outcome, {member.reference for member in action.members}))
            tell(outcomes[-1])

    async with asyncio.TaskGroup() as group:
        for action in plan.actions:
            group.create_task(act(action))
    if any(outcome.result == "updated" for outcome in outcomes):
        await drop_forgotten(host.podman, [container.name for container in facts.containers])
    return Result(plan, facts, tuple(outcomes))


class _Turns:
    """Whether one more update may begin in this run."""

    def __init__(self, host: Host, outcomes: Sequence[Outcome]) -> None:
        self._host = host
        self._outcomes = outcomes
        self._unfinished = {
            name for outcome in outcomes if outcome.result == "failed" for name in outcome.containers
        }

    def refusal(self, action: Action, asked: frozenset[str]) -> str:
        """Say why an update may not begin; empty: it may."""
        settings = self._host.settings
        if self._unfinished & set(action.names):
            return "an update of it before this one is not undone yet"
        rolled_back = [outcome for outcome in self._outcomes if outcome.result == "rolled-back"]
        if len(rolled_back) >= settings.rollbacks_max:
            return f"this run stopped after {len(rolled_back)} rollbacks (rollbacks_max)"
        now = self._host.clock.now()
        policy = Policy(windows=settings.windows, timezone=self._host.timezone)
        if not asked and window_opens_at(policy, now) > now:
            return "the window has ended"
        return ""


def _hold(host: Host, outcome: Outcome, references: Iterable[str]) -> Outcome:
    """Remember which digests were rolled back; say so if that fails."""
    if not outcome.held:
        return outcome
    held = Held(min(filter(None, references)), " ".join(outcome.containers), outcome.why, host.clock.now())
    try:
        memory = host.state.memory()
        host.state.remember(
            msgspec.structs.replace(memory, held={**memory.held, **dict.fromkeys(outcome.held, held)})
        )
    except StateError as error:
        return msgspec.structs.replace(outcome, why=f"{outcome.why}; the next run tries it again: {error}")
    return outcome


async def _survey(host: Host, asked: frozenset[str]) -> tuple[Facts, Memory, Plan]:
    now = host.clock.now()
    known = host.state.memory()
    facts, memory = await look(host, known, now)
    plan = make_plan(facts, host.settings, Moment(now, host.timezone, asked))
    return facts, memory, plan
