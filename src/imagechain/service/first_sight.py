"""What a project is that is first seen: it is adopted, and nothing is started for what was so before. Pure.

Only the label of an image is believed at once; so a store that was lost goes on where it was.
"""

from collections.abc import Sequence

import msgspec

from imagechain.chain import Chain, ImageFound, Observation, VersionRead, WentInactive
from imagechain.service.ports import ImageRead, Pipeline, TrackedProject
from imagechain.service.published import (
    Published,
    complete_label,
    known_inputs,
    labelled_inputs,
    proven_inputs,
)
from imagechain.service.reading import (
    Outcome,
    ended_at,
    is_before,
    is_superseded,
    last_success,
    observe_failure,
    observe_start,
)


def observe_first_image(
    chain: Chain, project: TrackedProject, builds: Sequence[Pipeline], *, own: Published, bases: Published
) -> list[Observation]:
    """Report what a project is that is first seen; the versions of all images were read before."""
    source = project.source
    success = last_success(builds)
    has_image = any(isinstance(reading, ImageRead) for reading in own.readings.values())
    if success is None and not has_image:
        return [] if builds else [WentInactive(project=source, at=own.at)]
    told_at = ended_at(success) if success is not None else None
    at = min(success.by_our_clock(told_at), own.at) if success is not None and told_at is not None else 0.0
    first: list[Observation] = []
    if not own.readings and success is not None:
        first.append(VersionRead(input=source, version=str(success.id), at=own.at))
    label = labelled_inputs(chain, own, bases)
    if label is not None:
        label = complete_label(chain, source, label, known_inputs(chain, source, None, own.at))
    _, older = proven_inputs(own, bases)
    build = str(success.id) if success is not None else ""
    image = ImageFound(project=source, at=at, told_at=told_at, inputs=label, proven_stale=older, build=build)
    return [*first, image]


def observe_first_builds(
    chain: Chain, project: TrackedProject, builds: Sequence[Pipeline], seen_at: float
) -> list[Observation]:
    """Report the pipelines since the image that a project was first seen with, which the chain knows."""
    source = project.source
    state = chain.facts.states[chain.graph.number_of(source)]
    found: list[Observation] = []
    for pipeline in sorted(builds, key=lambda pipeline: pipeline.id):
        is_past = is_before(state.record, pipeline)
        if is_past or pipeline.status in {"success", "skipped"} or is_superseded(pipeline, builds):
            continue
        build = str(pipeline.id)
        started = observe_start(pipeline, project, build, None, seen_at)
        found.append(msgspec.structs.replace(started, inputs=_inputs_then(chain, source, started.at)))
        if ended_at(pipeline) is not None:
            failure = observe_failure(pipeline, project, build, seen_at)
            # What failed before we came, and was never built, is not tried by itself: no storm at first.
            outcome: Outcome = "cancelled" if state.record is None else failure.outcome
            found.append(msgspec.structs.replace(failure, outcome=outcome))
    return found


def _inputs_then(chain: Chain, source: str, at: float) -> dict[str, str]:
    """Tell what a build that was not watched was made from: what is now, if no parent was built since."""
    graph, facts = chain.graph, chain.facts
    number = graph.number_of(source)
    records = [facts.states[parent].record for parent in graph.parents[number]]
    if any(record is not None and record.at > at for record in records):
        return {}
    present = zip(graph.inputs[number], facts.present(number), strict=True)
    return {graph.input_names[key]: version for key, version in present if version is not None}
