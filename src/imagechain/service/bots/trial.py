"""A trial: the images above a merge request's image are built on it, each once, in order. Pure.

Nothing that others use moves: the pipelines are told `IMAGE_TRIAL`, and then their images get no name but
that of their own pipeline. A project whose CI configuration does not know that variable is not started.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from imagechain.chain import Graph
from imagechain.images.trial import TRIAL_VARIABLE
from imagechain.service.ports import TrackedProject, TrialBy

STEPS_MAX = 200
#: Pipelines of one trial that run at once.
RUNNING_MAX = 4

StepState = Literal["waiting", "sending", "running", "passed", "failed", "skipped"]
_ENDED = frozenset({"passed", "failed", "skipped"})


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One project that is built in a trial."""

    source: str
    project_id: int
    ref: str
    #: How its pipelines are told.
    by: TrialBy = "none"
    #: The steps that it is built from.
    parents: tuple[str, ...] = ()
    #: Images that it publishes, and that later steps may be built from.
    publishes: tuple[str, ...] = ()
    state: StepState = "waiting"
    #: Why it failed, or was skipped.
    why: str = ""
    pipeline: int | None = None
    url: str = ""
    #: When its pipeline was asked for last; the answer may have been lost.
    sent_at: float = 0.0
    #: The largest pipeline of the project that was there before.
    after_pipeline: int = 0
    #: Its own images on the way, pinned, by reference.
    images: dict[str, str] = {}


class Trial(msgspec.Struct, frozen=True, kw_only=True, tag="trial"):
    """What was asked for by one comment, and how far it is."""

    #: `<project>-<merge request>-<note>`.
    id: str
    project_id: int
    merge_request: int
    source: str
    #: When it was asked for.
    at: float
    #: The tag of the merge request's image.
    tag: str = ""
    #: Its images, pinned, by reference.
    images: dict[str, str] = {}
    #: Parents before children.
    steps: tuple[Step, ...] = ()
    #: Why nothing was started; empty: it was.
    problem: str = ""
    #: The comment that answers; None: there is none yet.
    comment: int | None = None
    #: What stands in it.
    said: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done but to say so."""
        return bool(self.problem) or all(step.state in _ENDED for step in self.steps)


def plan_steps(
    graph: Graph, tracked: Mapping[str, TrackedProject], source: str, wanted: Sequence[str]
) -> tuple[Step, ...] | str:
    """Plan which projects are built: those wanted, and what lies between; or say why there is none."""
    below = graph.descendants_of(source) & tracked.keys()
    unknown = [name for name in wanted if name not in below]
    if unknown:
        return (
            f"{', '.join(unknown)}: not built from {source}. These are: {', '.join(sorted(below)) or 'none'}."
        )
    chosen = below
    if wanted:
        chosen = below & frozenset(wanted).union(*(graph.ancestors_of(name) for name in wanted))
    if not chosen:
        return f"No project is built from {source}, so there is nothing to test."
    if len(chosen) > STEPS_MAX:
        return f"{len(chosen)} projects are built from {source}; name some of them, {STEPS_MAX} are the most."
    ordered = (graph.ids[number] for number in graph.order())
    return _skip_below(tuple(_step(graph, tracked[name], chosen) for name in ordered if name in chosen))


def _step(graph: Graph, project: TrackedProject, chosen: frozenset[str]) -> Step:
    step = Step(
        source=project.source,
        project_id=project.project_id,
        ref=project.ref or "",
        by=project.trial,
        parents=tuple(sorted(chosen.intersection(graph.parents_of(project.source)))),
        publishes=tuple(graph.source(project.source).images),
    )
    if project.ref is None:
        return msgspec.structs.replace(step, state="skipped", why="its repository is empty")
    if project.trial == "none":
        why = f"its CI configuration does not know `{TRIAL_VARIABLE}`"
        return msgspec.structs.replace(step, state="skipped", why=why)
    return step


def changed(trial: Trial, step: Step) -> Trial:
    """Put a step in the place of the one that it was."""
    steps = tuple(step if one.source == step.source else one for one in trial.steps)
    return msgspec.structs.replace(trial, steps=_skip_below(steps))


def _skip_below(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Skip what is built from a step that failed or was skipped."""
    found: dict[str, Step] = {}
    for step in steps:
        bad = [name for name in step.parents if found[name].state in {"failed", "skipped"}]
        if step.state == "waiting" and bad:
            why = f"{bad[0]} {found[bad[0]].state}"
            step = msgspec.structs.replace(step, state="skipped", why=why)  # noqa: PLW2901 - as it is now
        found[step.source] = step
    return tuple(found.values())


def startable(trial: Trial) -> list[Step]:
    """List the steps that may be started now: their parents have passed."""
    if trial.problem:
        return []
    states = {step.source: step.state for step in trial.steps}
    running = sum(state in {"sending", "running"} for state in states.values())
    ready = [
        step
        for step in trial.steps
        if step.state == "waiting" and all(states[name] == "passed" for name in step.parents)
    ]
    return ready[: max(RUNNING_MAX - running, 0)]


def told(trial: Trial, step: Step) -> str:
    """Write what a step's pipeline is told: which images it reads instead of which.

    What lies further below may be read too, by way of `COPY --from`.
    """
    images = dict(trial.images)
    below = set(step.parents)
    for one in reversed(trial.steps):
        if one.source in below:
            below.update(one.parents)
            images |= one.images
    return msgspec.json.encode(images, order="sorted").decode()
