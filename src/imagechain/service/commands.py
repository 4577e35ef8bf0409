"""What people ask for, as observations of the chain, and what they are answered. Pure."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from imagechain.chain import (
    Chain,
    Observation,
    Paused,
    RebuildAsked,
    Resumed,
    RetryAsked,
    UnknownSourceError,
    describe_pause,
)
from imagechain.chain.status import Survey
from imagechain.store.values import Hint

if TYPE_CHECKING:
    from imagechain.chain.state import Pause

#: `rebuild` and `retry` without a source mean all that is stale, or that failed.
_COMMANDS = frozenset({"rebuild", "retry", "pause", "resume"})
#: Projects, or pauses, that one answer names.
_NAMED_MAX = 10


class Foreseen(msgspec.Struct, frozen=True):
    """What will come of a command, if nothing changes before it is followed up."""

    #: The projects for which it does something.
    ids: tuple[str, ...]
    #: What a person should know besides: in sentences, without their stops.
    notes: tuple[str, ...] = ()


def is_command(hint: Hint) -> bool:
    """Tell whether a person, not GitLab, sent a hint."""
    return hint.kind in _COMMANDS


def _named_sources(chain: Chain, hint: Hint) -> tuple[str, ...]:
    """Name the sources that a command is about.

    Raises:
        UnknownSourceError: it names none.
    """
    graph = chain.graph
    if hint.source is not None:
        number = graph.number_of(hint.source)
        below = sorted(graph.descendants_of(hint.source) - {hint.source}) if hint.downstream else []
        if hint.kind in {"rebuild", "retry"} and graph.sources[number].kind == "external":
            if not below:
                raise UnknownSourceError(f"{hint.source!r} is an external image; only projects are built")
            return tuple(below)
        return (hint.source, *below)
    states = zip(graph.ids, chain.facts.states, strict=True)
    if hint.kind == "retry":
        return tuple(name for name, state in states if state.failure is not None)
    if hint.kind == "rebuild":
        return tuple(
            name
            for name, state in states
            if state.is_stale or (state.record is not None and state.record.proven_stale)
        )
    return ()


def observe_command(chain: Chain, hint: Hint, at: float) -> list[Observation]:
    """Report what a person asked for.

    Raises:
        UnknownSourceError: it names no source.
    """
    names = _named_sources(chain, hint)
    match hint.kind:
        case "rebuild":
            return [RebuildAsked(project=name, at=at, by=hint.by, reason=hint.reason) for name in names]
        case "retry":
            return [RetryAsked(project=name, at=at, by=hint.by, reason=hint.reason) for name in names]
        case "pause":
            return [
                Paused(project=hint.source, at=at, subtree=hint.downstream, by=hint.by, reason=hint.reason)
            ]
        case "resume":
            return [Resumed(project=hint.source, at=at)]
        case _:
            return []


def foresee(chain: Chain, hint: Hint, at: float) -> Foreseen:
    """Tell what will come of a command.

    Raises:
        UnknownSourceError: it names no source.
    """
    match hint.kind:
        case "rebuild" | "retry":
            return _foresee_builds(chain, hint, at)
        case "resume":
            return _foresee_resume(chain, hint.source)
        case _:
            below = chain.graph.descendants_of(hint.source) if hint.source and hint.downstream else ()
            meant = chain.graph.ids if hint.source is None else {chain.graph.source(hint.source).id, *below}
            return Foreseen(_projects(chain, meant))


def _foresee_builds(chain: Chain, hint: Hint, at: float) -> Foreseen:
    asked = observe_command(chain, hint, at)
    ids = tuple(seen.project for seen in asked if isinstance(seen, RebuildAsked | RetryAsked))
    notes = []
    if hint.kind == "retry":
        states = {id: chain.facts.states[chain.graph.number_of(id)] for id in ids}
        ids = tuple(id for id, state in states.items() if state.failure is not None and not state.runs)
        if hint.source in states and hint.source not in ids:
            why = "is being built" if states[hint.source].runs else "did not fail"
            notes.append(
                f"{hint.source} {why}, so nothing is done; `imagechain rebuild` builds it in any case"
            )
    return Foreseen(ids, (*notes, *_held(chain, ids)))


def _held(chain: Chain, ids: Iterable[str]) -> list[str]:
    """Say which of these projects are not built before a person ends a pause."""
    survey = Survey(chain)
    held: dict[str | None, tuple[Pause, list[str]]] = {}
    for id in ids:
        for target, pause in survey.pauses_of(chain.graph.number_of(id)):
            held.setdefault(target, (pause, []))[1].append(id)
    return [
        f"{describe_pause(target, pause)}: not built before {_resume(target)} is {_listed(names)}"
        for target, (pause, names) in held.items()
    ]


def _foresee_resume(chain: Chain, target: str | None) -> Foreseen:
    """Tell which pause ends, and which of those remain that hold the same projects."""
    graph, facts = chain.graph, chain.facts
    if target is None:
        ended, held = facts.pause_of_all, set(range(len(graph.ids)))
    else:
        number = graph.number_of(target)
        ended = facts.pauses.get(number)
        held = facts.held_by(number) if ended is not None else {number}
    name = target or "everything"
    notes = [
        f"no pause of {name} is known" if ended is None else f"{describe_pause(target, ended)}: this ends"
    ]
    others = {one: facts.held_by(one) & held for one in sorted(facts.pauses) if graph.ids[one] != target}
    others = {one: numbers for one, numbers in others.items() if numbers}
    remaining: list[tuple[str | None, Pause]] = [(graph.ids[one], facts.pauses[one]) for one in others]
    of_all = facts.pause_of_all if target is not None else None
    if of_all is not None:
        remaining.insert(0, (None, of_all))
    notes += (
        f"{other or 'everything'} is paused still: {_resume(other)} ends what {describe_pause(other, pause)}"
        for other, pause in remaining[:_NAMED_MAX]
    )
    if len(remaining) > _NAMED_MAX:
        notes.append(f"{len(remaining) - _NAMED_MAX} more pauses remain")
    freed = held.difference(*others.values()) if ended is not None and of_all is None else set()
    return Foreseen(_projects(chain, (graph.ids[one] for one in freed)), tuple(notes))


def _projects(chain: Chain, ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(id for id in ids if chain.graph.source(id).kind == "project"))


def _resume(target: str | None) -> str:
    return f"`imagechain resume{f' {target}' if target else ''}`"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
