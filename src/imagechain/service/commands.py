"""What people ask for, as observations of the chain. Pure."""

from imagechain.chain import Chain, Observation, Paused, RebuildAsked, Resumed, RetryAsked, UnknownSourceError
from imagechain.store.values import Hint

#: `rebuild` and `retry` without a source mean all that is stale, or that failed.
_COMMANDS = frozenset({"rebuild", "retry", "pause", "resume"})


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
