"""What GitLab says of pipelines, as observations of the chain. Pure.

Here are the decided cases of the design (section 3) that are about pipelines: which of them are builds, what
each status means, and what a build that succeeded was made from. When something happened is put into the time
of our clock; whether it was told before is known by the time that GitLab told, to the last digit.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    ImageFound,
    Observation,
    Record,
    VersionRead,
)
from imagechain.service.ports import ImageRead, ImageUnchecked, Pipeline, TrackedProject
from imagechain.service.published import (
    Published,
    complete_label,
    known_inputs,
    labelled_inputs,
    proven_inputs,
    version_of,
)
from imagechain.store.values import Intent

#: Pipelines that build no image of the branch that they are said to belong to.
_NO_BUILDS = frozenset(
    {
        "merge_request_event",
        "external_pull_request_event",
        "parent_pipeline",
        "external",
        "ondemand_dast_scan",
        "ondemand_dast_validation",
        "security_orchestration_policy",
        "pipeline_execution_policy_schedule",
        "container_registry_push",
        "duo_workflow",
    }
)
#: How well GitLab's clock is known: it tells seconds.
_CLOCK_SECONDS = 2.0
Outcome = Literal["success", "failed", "cancelled", "superseded"]
#: Any other status, also one that a newer GitLab invents, means that the pipeline goes on.
_OUTCOMES: Mapping[str, Outcome] = {
    "success": "success",
    "failed": "failed",
    "canceled": "cancelled",
    # It never ran, or goes no further without a person. Not tried again by itself, like a cancelled one.
    "skipped": "cancelled",
    "manual": "cancelled",
}
_MESSAGES = {
    "failed": "its pipeline failed",
    "canceled": "its pipeline was cancelled",
    "skipped": "its pipeline was skipped: none of its jobs ran",
    "manual": "its pipeline waits for a manual job",
}


# --- which pipelines are builds -------------------------------------------------------------------------


def is_build(pipeline: Pipeline, project: TrackedProject) -> bool:
    """Tell whether a pipeline is a build of a tracked branch."""
    return (
        pipeline.project_id == project.project_id
        and pipeline.ref == project.ref
        and not pipeline.is_tag
        and pipeline.source not in _NO_BUILDS
    )


def is_publisher(pipeline: Pipeline) -> bool:
    """Tell whether a pipeline that is no build may have pushed images: of a tag, or a child pipeline."""
    is_of_merge_request = pipeline.source in {"merge_request_event", "external_pull_request_event"}
    return pipeline.status == "success" and not is_of_merge_request


def by_project(pipelines: Iterable[Pipeline]) -> dict[int, list[Pipeline]]:
    """Put pipelines together that are of one project."""
    found: dict[int, list[Pipeline]] = {}
    for pipeline in pipelines:
        found.setdefault(pipeline.project_id, []).append(pipeline)
    return found


def ended_at(pipeline: Pipeline) -> float | None:
    """Tell when a pipeline ended; None: it goes on."""
    if pipeline.status not in _OUTCOMES:
        return None
    return pipeline.finished_at if pipeline.finished_at is not None else pipeline.updated_at


def largest_pipeline(chain: Chain, source: str) -> int:
    """Tell the largest id of a pipeline that is known of a source; 0: none is."""
    state = chain.facts.states[chain.graph.number_of(source)]
    return max((_pipeline_of(build) for build in (*state.ended, *state.runs)), default=0)


def pipeline_of(build: str) -> int | None:
    """Tell the pipeline that a build was; None: it was none (a refusal)."""
    return _pipeline_of(build) or None


def _pipeline_of(build: str) -> int:
    number = build.partition(".")[0]
    return int(number) if number.isdecimal() else 0


def is_superseded(pipeline: Pipeline, builds: Iterable[Pipeline]) -> bool:
    """Tell whether GitLab cancelled a pipeline for a newer one of its branch, which is the build then."""
    return pipeline.status == "canceled" and any(
        one.id > pipeline.id and one.status not in {"canceled", "skipped"} for one in builds
    )


def build_of(chain: Chain, source: str, pipeline: Pipeline) -> str | None:
    """Name the build that a pipeline is: its id; `ID.2` when it was retried, which keeps its id.

    None: all that it says is known already, or is older than what is known.
    """
    state = chain.facts.states[chain.graph.number_of(source)]
    known = [build for build in (*state.ended, *state.runs) if _pipeline_of(build) == pipeline.id]
    end = ended_at(pipeline)
    running = [build for build in known if build in state.runs]
    if running:
        return running[-1]
    if not known:
        is_past = is_before(state.record, pipeline)
        return None if is_past or pipeline.status == "skipped" else str(pipeline.id)
    # It ended, as far as is known. It was retried since, if it says something later than that end.
    bounds = (one.told_at for one in (state.record, state.last_build) if one is not None)
    bound = max((at for at in bounds if at is not None), default=0.0)
    says_at = pipeline.updated_at if end is None else pipeline.finished_at
    # REST tells parts of a second, GraphQL cuts them off.
    cut_seconds = 1.0 if bound % 1 == 0 else 0.0
    # An end that nobody told has a time of our clock only: the build lasted longer than it may.
    end_at = (state.last_build.finished_at if state.last_build is not None else None) or 0.0
    is_later = (
        says_at is not None
        and says_at > bound + cut_seconds
        and pipeline.by_our_clock(says_at) >= end_at - _CLOCK_SECONDS
    )
    return f"{pipeline.id}.{len(known) + 1}" if is_later else None


def is_before(record: Record | None, pipeline: Pipeline) -> bool:
    """Tell whether a pipeline ended no later than the build on record.

    One that began after that did not, whatever GitLab's clock says: it was put back.
    """
    end = ended_at(pipeline)
    if end is None or record is None or record.told_at is None or end > record.told_at:
        return False
    return pipeline.by_our_clock(pipeline.created_at) <= record.at + _CLOCK_SECONDS


def is_news(chain: Chain, source: str, pipeline: Pipeline) -> bool:
    """Tell whether a pipeline came after what a source was first seen with, observed meanwhile or not."""
    state = chain.facts.states[chain.graph.number_of(source)]
    is_known = any(_pipeline_of(build) == pipeline.id for build in (*state.ended, *state.runs))
    return is_known or build_of(chain, source, pipeline) is not None


def is_retried(chain: Chain, source: str, pipeline: Pipeline) -> bool:
    """Tell whether a pipeline that is known runs again, observed meanwhile or not."""
    return ended_at(pipeline) is None and build_of(chain, source, pipeline) is not None


# --- builds that were watched ---------------------------------------------------------------------------


def observe_start(
    pipeline: Pipeline, project: TrackedProject, build: str, intent: Intent | None, seen_at: float
) -> BuildStarted:
    """Report that a build runs. What we started ourselves was made from what was decided."""
    told_at = pipeline.updated_at if "." in build else pipeline.created_at
    at = min(pipeline.by_our_clock(told_at), seen_at)
    if intent is None:
        return BuildStarted(
            project=project.source,
            build=build,
            at=at,
            told_at=told_at,
            cause=pipeline.source,
            url=pipeline.url,
        )
    return BuildStarted(
        project=project.source,
        build=build,
        # Not before it was asked for: it is the answer to a person's wish.
        at=max(at, intent.at),
        told_at=told_at,
        inputs=intent.inputs,
        cause=intent.cause,
        url=pipeline.url,
        cascade=intent.cascade,
    )


def observe_failure(pipeline: Pipeline, project: TrackedProject, build: str, seen_at: float) -> BuildFinished:
    """Report that a build ended without success."""
    end = ended_at(pipeline)
    told_at = pipeline.updated_at if end is None else end
    wrong = f" (its CI configuration is wrong: {pipeline.yaml_errors})" if pipeline.yaml_errors else ""
    return BuildFinished(
        project=project.source,
        build=build,
        at=min(pipeline.by_our_clock(told_at), seen_at),
        told_at=told_at,
        outcome=_OUTCOMES[pipeline.status],
        message=f"{_MESSAGES[pipeline.status]}{wrong}: {pipeline.url or pipeline.id}",
    )


def observe_success(
    chain: Chain,
    pipeline: Pipeline,
    project: TrackedProject,
    build: str,
    *,
    own: Published,
    bases: Published,
) -> list[Observation]:
    """Report that a build succeeded, with what its images are now and what they say they were built from.

    The chain must know the build, and have been told the inputs that the label names, read again.
    """
    end = ended_at(pipeline)
    told_at = pipeline.updated_at if end is None else end
    at = min(pipeline.by_our_clock(told_at), own.at)
    outputs: dict[str, str | None] = {
        name: version_of(reading)
        for name, reading in own.readings.items()
        if not isinstance(reading, ImageUnchecked)
    } or {project.source: str(pipeline.id)}
    label = labelled_inputs(chain, own, bases)
    if label is not None:
        label = complete_label(
            chain, project.source, label, known_inputs(chain, project.source, build, own.at)
        )
    held, _ = proven_inputs(own, bases)
    graph, facts = chain.graph, chain.facts
    # The images were read after the build ended: what was read in between is older all the same.
    is_late = any(at < facts.read_at[graph.input_number[name]] for name in outputs)
    first: list[Observation] = [
        VersionRead(input=name, version=version, at=own.at) for name, version in outputs.items()
    ]
    return [
        *(first if is_late else []),
        BuildFinished(
            project=project.source,
            build=build,
            at=at,
            told_at=told_at,
            outcome="success",
            inputs=label,
            proven=held,
            outputs=outputs,
        ),
    ]


def is_built_by_hand(chain: Chain, own: Published) -> bool:
    """Tell whether the images of a pipeline that waits for a person are new ones."""
    graph, facts = chain.graph, chain.facts
    return any(
        isinstance(reading, ImageRead) and reading.content != facts.versions[graph.input_number[name]]
        for name, reading in own.readings.items()
    )


def observe_pushed_image(chain: Chain, source: str, *, own: Published, bases: Published) -> list[Observation]:
    """Report what an image says that came without a build; one that says nothing changes nothing."""
    number = chain.graph.number.get(source)
    label = labelled_inputs(chain, own, bases)
    if number is None or label is None:
        return []
    record = chain.facts.states[number].record
    if record is None or chain.facts.states[number].runs:
        return []
    known = dict(zip(chain.graph.inputs_of(source), record.versions, strict=True))
    # With the time of the record: builds that end later are to be believed.
    inputs = complete_label(chain, source, label, known)
    return [ImageFound(project=source, at=record.at, told_at=record.told_at, inputs=inputs)]


def last_success(pipelines: Iterable[Pipeline]) -> Pipeline | None:
    """Find the pipeline that succeeded last."""
    return max(
        (pipeline for pipeline in pipelines if pipeline.status == "success"),
        key=lambda pipeline: (ended_at(pipeline) or 0.0, pipeline.id),
        default=None,
    )
