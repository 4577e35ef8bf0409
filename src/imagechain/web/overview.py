"""All images at a glance: how they stand, those first that need a person. Pure, but for reading the chain.

The chain changes meanwhile, and belongs to the loop. So what costs more with more images is looked at once
for all pages, and again only when something has changed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from imagechain.chain import SourceStatus, State, describe_pause
from imagechain.chain.status import Survey
from imagechain.service.known import Known

#: Images that one page lists, and reasons of each.
ROWS_MAX = 50
REASONS_MAX = 3
#: What needs a person comes first, and what needs nobody comes last.
STATES: tuple[State, ...] = (
    "failed", "cycle", "blocked", "paused", "building", "stale", "unknown", "fresh", "inactive",
)  # fmt: skip
_RANK = {state: rank for rank, state in enumerate(STATES)}
#: Which content something had and has, which a listing has no room for.
_VERSIONS = re.compile(r" \(\S+ -> \S+\)")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a listing."""

    status: SourceStatus
    #: Why it is in its state, in words; empty where it is as it should be.
    why: tuple[str, ...]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a listing."""

    rows: tuple[Row, ...]
    #: Of this page and of the last one, from 1.
    number: int
    last: int
    #: Images on all pages.
    total: int


class Overview:
    """How all images stand at one moment.

    Attributes:
        known: what it was made from.
        notices: what is wrong beside the states, in sentences.
        changes: how many observations the chain had taken in.
        counts: projects in each state, the most urgent first; states without any are left out.
        externals: images of others.
        states: the state of each source, by its number.
        order: the numbers of all sources, the most urgent first.
    """

    def __init__(self, known: Known, notices: tuple[str, ...]) -> None:
        chain = known.chain
        survey = Survey(chain)
        self.known = known
        self.notices = notices
        self.changes = chain.changes
        numbers = range(len(chain.graph.ids))
        self.states: list[State] = [survey.state_of(number) for number in numbers]
        is_external = [chain.facts.is_external(number) for number in numbers]
        found = Counter(state for state, other in zip(self.states, is_external, strict=True) if not other)
        self.counts: dict[State, int] = {state: found[state] for state in STATES if state in found}
        self.externals = sum(is_external)
        self.order: list[int] = sorted(
            numbers, key=lambda number: (is_external[number], _RANK[self.states[number]], number)
        )

    @property
    def is_well(self) -> bool:
        """Whether there are images, and nothing is to be told of any."""
        return bool(self.counts) and not self.notices and self.counts.keys() <= {"fresh", "inactive"}

    def page(self, text: str, state: str, number: int) -> Page:
        """Choose images, the most urgent first.

        Args:
            text: what their ids contain, in any letter case.
            state: the state they are in, or `external` for images of others; empty: any.
            number: of the page, from 1; where it is beyond the last one, that is given.
        """
        ids, facts = self.known.chain.graph.ids, self.known.chain.facts
        wanted = text.casefold()
        found = [
            one
            for one in self.order
            if wanted in ids[one].casefold()
            and (not state or state == ("external" if facts.is_external(one) else self.states[one]))
        ]
        last = max(1, -(-len(found) // ROWS_MAX))
        number = min(max(number, 1), last)
        rows = self.rows(found[(number - 1) * ROWS_MAX : number * ROWS_MAX])
        return Page(rows=rows, number=number, last=last, total=len(found))

    def rows(self, numbers: Iterable[int]) -> tuple[Row, ...]:
        """Tell how some sources stand and why."""
        survey = Survey(self.known.chain)
        return tuple(self._row(survey, number) for number in numbers)

    def _row(self, survey: Survey, number: int) -> Row:
        status = survey.status_of(number)
        failure = self.known.chain.facts.states[number].failure
        words: list[str] = []
        if status.state == "failed" and failure is not None and failure.message:
            words.append(failure.message)
        if status.state == "paused":
            words += [describe_pause(target, pause) for target, pause in survey.pauses_of(number)]
        words += [brief(reason.text) for reason in status.reasons]
        return Row(status=status, why=_some(words))


def brief(text: str) -> str:
    """Leave out of a reason which versions something had and has."""
    return _VERSIONS.sub("", text)


def _some(words: Sequence[str]) -> tuple[str, ...]:
    more = len(words) - REASONS_MAX
    return (*words[:REASONS_MAX], *([f"{more} more"] if more > 0 else []))
