"""Why a source is what it is: its reasons, what holds it up and by which path, and what hangs on it.

Texts are short full sentences for people; everything they say is in the fields too.
"""

from collections.abc import Iterable, Mapping
from math import inf

import msgspec

from imagechain.chain.chain import Chain
from imagechain.chain.plan import followers
from imagechain.chain.policy import window_opens_at
from imagechain.chain.state import Pause
from imagechain.chain.status import BLOCKERS_MAX, SourceStatus, State, Survey, describe_pause
from imagechain.chain.values import Dependency
from imagechain.refs import parse_reference


class Blocker(msgspec.Struct, frozen=True, kw_only=True):
    """An ancestor that a source waits for."""

    id: str
    state: State
    #: From the blocker down to the source, over one of the shortest ways.
    path: tuple[str, ...]
    text: str


class Uncounted(msgspec.Struct, frozen=True, kw_only=True):
    """A dependency that never makes the source stale."""

    dependency: Dependency
    #: Present version of the tag beside a pinned digest, or of the image, if it was read.
    version: str | None
    text: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known about one source."""

    status: SourceStatus
    #: How it stands, in a sentence.
    text: str
    blockers: tuple[Blocker, ...]
    #: When it may start if nothing is observed before; None: it does not wait for a time.
    waits_until: float | None
    #: What a stale source that nobody holds up waits for, in a sentence; empty: for nothing.
    waits_for: str
    #: What would be built if the source changed, in order.
    would_build: tuple[str, ...]
    #: Why nothing would be, though something is built from it, in a sentence; empty: something would.
    would_build_none: str = ""
    uncounted: tuple[Uncounted, ...]
    #: The members of the cycle that it is in, each an input of the next.
    cycle: tuple[str, ...]


def explain(chain: Chain, source: str, now: float, digests: Mapping[str, str] | None = None) -> Explanation:
    """Explain how a source stands at this time.

    Args:
        chain: what is known.
        source: its id.
        now: Unix time in seconds.
        digests: what images are now, by reference, to tell how far pinned ones are behind.

    Raises:
        UnknownSourceError: there is no such source.
    """
    number = chain.graph.number_of(source)
    survey = Survey(chain)
    component = chain.graph.component[number]
    status = survey.status_of(number)
    waits_until, waits_for = _waiting(chain, number, now)
    would_build = followers(chain, source)
    return Explanation(
        status=status,
        text=_text(chain, number, status, survey),
        blockers=tuple(_blocker(chain, number, blocker, survey) for blocker in survey.blockers_of(number)),
        waits_until=waits_until,
        waits_for=waits_for,
        would_build=would_build,
        would_build_none="" if would_build else _why_none(chain, number, survey),
        uncounted=_uncounted(chain, number, digests or {}),
        cycle=chain.graph.cycles[component].members if component >= 0 else (),
    )


def _text(chain: Chain, number: int, status: SourceStatus, survey: Survey) -> str:
    """Say how a source stands in a sentence."""
    state = chain.facts.states[number]
    name = status.id
    why = "; ".join(reason.text for reason in status.reasons)
    waits = f"waits for {', '.join(status.blocked_by)}" if status.blocked_by else "is not held up"
    match status.state:
        case "building":
            return f"{name} is being built."
        case "inactive":
            return f"{name} has no builds of its own: its images count as they are."
        case "unknown":
            return f"Nothing is known of {name} yet."
        case "cycle":
            return f"{name} is in a cycle, whose members never trigger each other{f': {why}' if why else ''}."
        case "paused":
            return f"{_paused(name, survey.pauses_of(number))}{f'; it is stale: {why}' if why else ''}."
        case "failed" if state.failure is not None:
            return f"{name} failed{f' ({state.failure.message})' if state.failure.message else ''}: {why}."
        case "fresh" if not state.is_settled:
            return f"{name} is built on the present versions, and {waits}, which may change that."
        case "fresh":
            return f"{name} is up to date."
    if _is_stale_at_first_sight(chain, number):
        waits = "is not started by itself"
    return f"{name} {f'is stale ({why}), and {waits}' if why else waits}."


def _is_stale_at_first_sight(chain: Chain, number: int) -> bool:
    """Tell whether only its layers at first sight make a source stale: it was so before we came."""
    state = chain.facts.states[number]
    return state.record is not None and bool(state.record.proven_stale) and not state.is_stale


def _blocker(chain: Chain, number: int, blocker: int, survey: Survey) -> Blocker:
    state = survey.fault_of(blocker) or survey.state_of(blocker)
    name = chain.graph.ids[blocker]
    failure = chain.facts.states[blocker].failure
    texts = {
        "failed": f"{name} failed"
        + (f": {failure.message}" if failure is not None and failure.message else ""),
        "cycle": f"{name} is in a cycle that nothing can begin: an image from within it does not exist",
        "unknown": f"nothing is known of {name} yet",
        "building": f"{name} is being built",
        "stale": f"{name} is stale and is built first",
    }
    text = (
        _paused(name, survey.pauses_of(blocker))
        if state == "paused"
        else texts.get(state, f"{name} is {state}")
    )
    return Blocker(id=name, state=state, path=_path(chain, blocker, number), text=text + ".")


def _paused(name: str, pauses: Iterable[tuple[str | None, Pause]]) -> str:
    """Say who paused a source, and why."""
    return f"{name} is paused: {'; '.join(describe_pause(target, pause) for target, pause in pauses)}"


def _path(chain: Chain, start: int, end: int) -> tuple[str, ...]:
    """Find a shortest way down from one source to another, over what is not settled."""
    graph = chain.graph
    child_of = {end: end}
    level = [end]
    while start not in child_of:
        above = []
        for number in level:
            for parent in graph.outer(number, graph.parents):
                if parent not in child_of and not chain.facts.states[parent].is_settled:
                    child_of[parent] = number
                    above.append(parent)
        level = above
    path = [start]
    while path[-1] != end:
        path.append(child_of[path[-1]])
    return tuple(graph.ids[number] for number in path)


def _waiting(chain: Chain, number: int, now: float) -> tuple[float | None, str]:
    """Tell until when, and for what, a stale project waits that its ancestors do not hold up."""
    facts = chain.facts
    policy, state = facts.policy, facts.states[number]
    if _is_stale_at_first_sight(chain, number) and not (state.runs or state.is_inactive):
        return None, (
            "What was so at first sight is built when something it is built from moves, or a person asks: "
            f"`imagechain rebuild {chain.graph.ids[number]}`, or `rebuild --all-stale` for all such."
        )
    if not state.is_stale or state.runs or state.waits:
        return None, ""
    if facts.is_paused(number):
        return None, "It waits until a person resumes it."
    if gaps := facts.cycle_gaps(number):
        names = ", ".join(chain.graph.input_names[key] for key in gaps)
        return None, f"It is blocked by its own cycle: {names} does not exist; build it once by hand."
    retry_at, quiet_at = facts.retry_at(number), facts.quiet_at(number)
    if retry_at == inf:
        return None, "It is held until one of its inputs moves or a person retries it."
    if max(retry_at, quiet_at) > now:
        is_retry = retry_at >= quiet_at
        return max(retry_at, quiet_at), (
            "It waits for its next retry."
            if is_retry
            else "It waits until what moved has been still for a while."
        )
    opens_at = window_opens_at(policy, now)
    if opens_at > now:
        return opens_at, "It waits for the next window."
    if facts.builds_count >= policy.builds_max:
        return None, f"It waits for one of {policy.builds_max} builds to end."
    return None, ""


#: Why nothing is built of a source, or of those below it, in the states in which that is so by itself.
_STUCK: Mapping[State, str] = {
    "inactive": "has no builds of its own",
    "unknown": "is not known yet",
    "cycle": "is in a cycle",
    "paused": "is paused",
}


def _why_none(chain: Chain, number: int, survey: Survey) -> str:
    """Say why nothing would be built if a source changed, though something is built from it."""
    children = chain.graph.children[number]
    if not children:
        return ""
    state = survey.state_of(number)
    if state in _STUCK and not chain.facts.is_external(number):
        why = [f"it {_STUCK[state]}"]
    else:
        why = [_why_not_built(chain, child, survey) for child in children[:BLOCKERS_MAX]]
        why += [f"{len(children) - BLOCKERS_MAX} more"] if len(children) > BLOCKERS_MAX else []
    return f"If its content changed, nothing would be built now: {', '.join(why)}."


def _why_not_built(chain: Chain, number: int, survey: Survey) -> str:
    state, name = survey.state_of(number), chain.graph.ids[number]
    if state not in _STUCK and (blockers := survey.blockers_of(number)):
        return f"{name} waits for {' and '.join(chain.graph.ids[blocker] for blocker in blockers)}"
    return f"{name} {_STUCK.get(state, f'is {state}')}"


def _uncounted(chain: Chain, number: int, digests: Mapping[str, str]) -> tuple[Uncounted, ...]:
    graph, facts = chain.graph, chain.facts
    found = []
    for dependency in graph.dependencies[number]:
        text = _why_not(chain, number, dependency, digests)
        if text:
            key = graph.key_of(dependency)
            version = None if key is None else facts.versions[key]
            found.append(Uncounted(dependency=dependency, version=version, text=text))
    return tuple(found)


def _why_not(chain: Chain, number: int, dependency: Dependency, digests: Mapping[str, str]) -> str:
    """Say why a dependency never makes its child stale; empty if it does."""
    graph = chain.graph
    name = dependency.image or dependency.parent
    if graph.counts(dependency):
        is_inner = graph.is_inner(number, graph.number[str(dependency.parent)])
        return f"{name} is in the same cycle." if is_inner else ""
    if dependency.pinned:
        reference = parse_reference(str(dependency.image))
        present = digests.get(reference.identity) if reference.tag else None
        if present is None:
            return f"{name} is pinned by its digest."
        is_behind = present != reference.digest
        return f"{name} is pinned by its digest{f', and its tag is now {present}' if is_behind else ''}."
    if not dependency.needed:
        return f"{name} is not needed: the target of the build does not reach it."
    if dependency.parent is None:
        return f"{name} is pulled for the build, and is no part of the image."
    return f"{name} is of kind {dependency.kind}, which the settings do not count."
