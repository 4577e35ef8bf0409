"""Pipelines: how they are made, refused, go on from job to job, are retried and cancelled.

Rules: GitLab's documentation of pipelines and of job control, `lib/api/ci/pipelines.rb` for what is refused.
Which jobs a pipeline has comes from the project's CI configuration, or from the script of a test.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imagechain.testing import payloads
from imagechain.testing.ci import DEFAULT_PATH, plan_jobs, predefined_variables, read_configuration
from imagechain.testing.hooks import Hooks
from imagechain.testing.state import State
from imagechain.testing.values import (
    FINISHED,
    NO_COMMIT,
    Commit,
    Job,
    JobPlan,
    Pipeline,
    Project,
    Role,
    SimulationError,
    Status,
    User,
    Variable,
)

_ROLES = {"developer": Role.DEVELOPER, "maintainer": Role.MAINTAINER, "owner": Role.OWNER}
#: Pipelines that may start each other, one below the other.
DOWNSTREAM_DEPTH_MAX = 2


class PipelineRefusedError(SimulationError):
    """No pipeline is made; the message is GitLab's, as it stands in `{"message": {"base": [...]}}`."""


class WrongConfigurationError(PipelineRefusedError):
    """The CI configuration is invalid."""


class Pipelines:
    """Makes pipelines and moves them on."""

    def __init__(self, state: State, hooks: Hooks) -> None:
        self._state = state
        self._hooks = hooks
        #: Jobs that wait for a runner, by id: those that were queued first come first.
        self.pending: dict[int, Job] = {}

    # --- creation

    def create(
        self,
        project: Project,
        ref: str,
        *,
        user: User,
        source: str = "api",
        variables: Sequence[Variable] = (),
        inputs: Mapping[str, Any] | None = None,
        plans: Iterable[JobPlan] | None = None,
        merge_request: int | None = None,
        source_job: Job | None = None,
    ) -> Pipeline:
        """Make a pipeline, with the jobs of the CI configuration unless `plans` names others.

        Raises:
            PipelineRefusedError: GitLab would make none.
        """
        state = self._state
        commit = project.resolve(ref)
        if commit is None:
            raise PipelineRefusedError("Reference not found")
        short = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
        self._check_permissions(project, short, user, source, variables)
        if plans is None:
            plans = self._plan(
                project,
                commit,
                short,
                source,
                variables=tuple(variables),
                inputs=inputs or {},
                source_job=source_job,
            )
        limit = state.settings.pipelines_per_minute_max if source in {"api", "trigger"} else None
        if state.rates.take(("pipelines", user.id), limit) is None:
            raise PipelineRefusedError("Too many pipelines created in the last minute. Try again later.")
        pipeline = self._add(project, commit, ref if merge_request else short, source, user)
        pipeline.variables = tuple(variables)
        pipeline.inputs = dict(inputs or {})
        pipeline.merge_request = merge_request
        pipeline.source_job = source_job
        for plan in plans:
            self._add_job(pipeline, plan)
        if source_job is not None:
            source_job.downstream = pipeline.id
        self._advance(pipeline)
        return pipeline

    def create_for_push(self, project: Project, ref: str, *, user: User, skip: bool) -> Pipeline | None:
        """Make the pipeline of a push, if it has one.

        Here alone GitLab keeps pipelines without jobs: skipped ones, and those whose configuration is wrong.
        """
        commit = project.resolve(ref)
        if commit is None:
            raise SimulationError(f"{project.full_path} has no {ref}")
        short = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
        try:
            if not skip:
                return self.create(project, ref, user=user, source="push")
        except WrongConfigurationError as error:
            pipeline = self._add(project, commit, short, "push", user)
            pipeline.yaml_errors = str(error)
            self._set_status(pipeline, "failed")
            return pipeline
        except PipelineRefusedError:
            return None
        if self._configuration_text(commit, project.ci_config_path or DEFAULT_PATH) is None:
            return None
        pipeline = self._add(project, commit, short, "push", user)
        self._set_status(pipeline, "skipped")
        return pipeline

    def _add(self, project: Project, commit: Commit, ref: str, source: str, user: User) -> Pipeline:
        """Make a pipeline without jobs."""
        now = self._state.clock()
        pipeline = Pipeline(
            id=self._state.next_id("pipeline"),
            iid=max((other.iid for other in project.pipelines.values()), default=0) + 1,
            project=project.id,
            ref=ref,
            sha=commit.sha,
            before_sha=commit.parents[0] if source == "push" and commit.parents else NO_COMMIT,
            source=source,
            user=user.id,
            created_at=now,
            updated_at=now,
            tag=ref in project.tags and ref not in project.branches,
        )
        project.pipelines[pipeline.id] = pipeline
        self._state.pipeline_index[pipeline.id] = pipeline
        return pipeline

    def _configuration_text(self, commit: Commit, path: str) -> str | None:
        """Read a CI configuration: of the commit, or of another project (`file@group/project:ref`)."""
        file, at, elsewhere = path.partition("@")
        if at:
            other, _, ref = elsewhere.partition(":")
            found = self._state.find_project(other)
            head = found.resolve(ref or "HEAD") if found is not None else None
            content = head.files.get(file) if head is not None else None
        else:
            content = commit.files.get(path)
        return None if content is None else content.content.decode(errors="replace")

    def _check_permissions(
        self, project: Project, ref: str, user: User, source: str, variables: Sequence[Variable]
    ) -> None:
        role = self._state.role(user, project)
        if not project.ci_enabled:
            raise PipelineRefusedError("Pipelines are disabled!")
        if source not in {"push", "merge_request_event", "parent_pipeline"}:
            if ref in project.protected_branches and role < Role.MAINTAINER:
                raise PipelineRefusedError(
                    f"You do not have sufficient permission to run a pipeline on '{ref}'. "
                    "Please select a different branch or contact your administrator for assistance."
                )
            minimum = project.pipeline_variables_role
            # A trigger call always has variables: GitLab adds TRIGGER_PAYLOAD itself.
            has_variables = bool(variables) or source == "trigger"
            if has_variables and (minimum == "no_one_allowed" or role < _ROLES[minimum]):
                raise PipelineRefusedError("Insufficient permissions to set pipeline variables")

    def _plan(
        self,
        project: Project,
        commit: Commit,
        ref: str,
        source: str,
        *,
        variables: tuple[Variable, ...],
        inputs: Mapping[str, Any],
        source_job: Job | None,
    ) -> tuple[JobPlan, ...]:
        path = project.ci_config_path or DEFAULT_PATH
        if source == "parent_pipeline" and source_job is not None:
            path = str(source_job.plan.trigger).removeprefix("./")
        text = self._configuration_text(commit, path)
        if text is None:
            raise PipelineRefusedError("Missing CI config file")
        tag = ref in project.tags and ref not in project.branches
        given = predefined_variables(self._state, project, ref, commit.sha, source, tag=tag)
        given |= {key: item.value for key, item in project.variables.items()}
        configuration = read_configuration(
            self._state,
            project,
            commit,
            text,
            file=path,
            variables={**given, **{item.key: item.value for item in variables}},
            inputs=inputs,
        )
        if configuration.errors:
            raise WrongConfigurationError("; ".join(configuration.errors))
        plans = plan_jobs(configuration.content, given, variables)
        if not plans:
            raise PipelineRefusedError(
                "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs "
                "from being added to the pipeline."
            )
        return plans

    def _add_job(self, pipeline: Pipeline, plan: JobPlan) -> Job:
        state = self._state
        job = Job(
            id=state.next_id("job"),
            pipeline=pipeline.id,
            project=pipeline.project,
            plan=plan,
            user=pipeline.user,
            created_at=state.clock(),
            token=f"glcbt-{state.random.getrandbits(80):020x}",
        )
        pipeline.jobs.append(job)
        state.job_index[job.id] = job
        return job

    # --- the course of a pipeline

    def start(self, pipeline: Pipeline) -> None:
        """Let a runner take all jobs that wait for one."""
        for job in pipeline.latest_jobs:
            if job.status == "pending":
                self.start_job(job)

    def finish(self, pipeline: Pipeline, outcome: Status = "success") -> None:
        """Run a pipeline to its end: all its jobs succeed, or those that run first have another outcome.

        Raises:
            SimulationError: it has ended already, or waits for a manual job.
        """
        if pipeline.status in FINISHED:
            raise SimulationError(f"pipeline {pipeline.id} has ended already: {pipeline.status}")
        while pipeline.status not in FINISHED:
            self.start(pipeline)
            running = [job for job in pipeline.latest_jobs if job.status == "running"]
            if not running:
                raise SimulationError(f"pipeline {pipeline.id} has no job to run: it is {pipeline.status}")
            for job in running:
                self.finish_job(job, outcome)
            if outcome == "canceled":
                self.cancel(pipeline)

    def start_job(self, job: Job) -> None:
        """Let a runner take a job.

        Raises:
            SimulationError: it does not wait for one.
        """
        if job.status != "pending":
            raise SimulationError(f"job {job.id} is {job.status}, not pending")
        job.started_at = self._state.clock()
        self._set_job(job, "running")
        self._advance(self._pipeline(job))

    def finish_job(self, job: Job, outcome: Status, failure_reason: str | None = None) -> None:
        """End a job.

        Raises:
            SimulationError: it does not run.
        """
        if job.status not in {"running", "canceling"}:
            raise SimulationError(f"job {job.id} is {job.status}, not running")
        job.finished_at = self._state.clock()
        if outcome == "failed":
            job.failure_reason = failure_reason or "script_failure"
        self._set_job(job, outcome)
        self._advance(self._pipeline(job))

    def play(self, job: Job) -> None:
        """Start a manual job by hand.

        Raises:
            SimulationError: it is not manual.
        """
        if job.status != "manual":
            raise SimulationError("Unplayable Job")
        self._queue_job(job)
        self._advance(self._pipeline(job))

    def retry(self, pipeline: Pipeline) -> None:
        """Run the failed and cancelled jobs of a pipeline again, with what was skipped for them."""
        for job in list(pipeline.latest_jobs):
            if job.status in {"failed", "canceled"}:
                job.retried = True
                self._add_job(pipeline, job.plan)
            elif job.status == "skipped":
                job.status = "created"
        self._reopen(pipeline)

    def retry_job(self, job: Job) -> Job:
        """Run a job again.

        Raises:
            SimulationError: it has not ended, or was retried already.
        """
        if job.status not in FINISHED or job.retried:
            raise SimulationError("Job is not retryable")
        job.retried = True
        pipeline = self._pipeline(job)
        again = self._add_job(pipeline, job.plan)
        self._reopen(pipeline)
        return again

    def _reopen(self, pipeline: Pipeline) -> None:
        if pipeline.status in FINISHED:
            pipeline.finished_at = None
        order = {
            stage: index for index, stage in enumerate(dict.fromkeys(j.plan.stage for j in pipeline.jobs))
        }
        pipeline.jobs.sort(key=lambda job: (order[job.plan.stage], job.id))
        self._advance(pipeline)

    def cancel(self, pipeline: Pipeline) -> None:
        """Cancel whatever of a pipeline has not ended."""
        for job in pipeline.latest_jobs:
            self.cancel_job(job, advance=False)
        self._advance(pipeline)

    def cancel_job(self, job: Job, *, advance: bool = True) -> None:
        """Cancel a job, unless it has ended."""
        if job.status in FINISHED:
            return
        job.finished_at = self._state.clock()
        self._set_job(job, "canceled")
        if advance:
            self._advance(self._pipeline(job))

    def _pipeline(self, job: Job) -> Pipeline:
        return self._state.pipeline_index[job.pipeline]

    def forget_jobs(self, project: Project) -> None:
        """Let no job of a project that is deleted be run."""
        self.pending = {number: job for number, job in self.pending.items() if job.project != project.id}

    def _set_job(self, job: Job, status: Status) -> None:
        job.status = status
        if job.plan.trigger is not None:
            return  # Bridges have no job hooks.
        if status == "pending":
            self.pending[job.id] = job
        else:
            self.pending.pop(job.id, None)
        pipeline = self._pipeline(job)
        project = self._state.projects[job.project]
        self._hooks.emit(project, "job_hooks", lambda: payloads.job(self._state, pipeline, job))

    def _queue_job(self, job: Job) -> None:
        job.queued_at = self._state.clock()
        self._set_job(job, "pending")
        if job.plan.trigger is not None:
            self._run_bridge(job)

    def _run_bridge(self, job: Job) -> None:
        """Start the pipeline that a bridge leads to; the bridge ends as soon as there is one."""
        job.started_at = job.finished_at = self._state.clock()
        try:
            self._start_downstream(job)
        except PipelineRefusedError:
            job.failure_reason = "downstream_pipeline_creation_failed"
            job.status = "failed"
        else:
            job.status = "success"

    def _start_downstream(self, job: Job) -> None:
        pipeline = self._pipeline(job)
        trigger = str(job.plan.trigger)
        child = trigger.startswith("./")
        project = self._state.projects[job.project] if child else self._state.find_project(trigger)
        depth = 0
        above = pipeline.source_job
        while above is not None:
            depth += 1
            above = self._pipeline(above).source_job
        if project is None or depth >= DOWNSTREAM_DEPTH_MAX:
            raise PipelineRefusedError("downstream pipeline can not be created")
        self.create(
            project,
            pipeline.ref if child else project.default_branch or "HEAD",
            user=self._state.users[job.user],
            source="parent_pipeline" if child else "pipeline",
            source_job=job,
        )

    def _advance(self, pipeline: Pipeline) -> None:
        """Queue the jobs whose stage has come, and compute the pipeline's status."""
        if not pipeline.jobs:
            return  # It was skipped, or its configuration is wrong: nothing changes it any more.
        while self._advance_stage(pipeline):
            pass
        self._set_status(pipeline, _status(pipeline.latest_jobs))

    def _advance_stage(self, pipeline: Pipeline) -> bool:
        """Decide the jobs of the first stage that has undecided ones; tell whether any changed."""
        jobs = pipeline.latest_jobs
        for stage in dict.fromkeys(job.plan.stage for job in jobs):
            members = [job for job in jobs if job.plan.stage == stage]
            undecided = [job for job in members if job.status == "created"]
            if undecided:
                failed = any(_is_failure(job) for job in jobs[: jobs.index(members[0])])
                for job in undecided:
                    self._decide_job(job, failed=failed)
                return True
            if any(job.status not in FINISHED and not _is_optional(job) for job in members):
                return False
        return False

    def _decide_job(self, job: Job, *, failed: bool) -> None:
        when = job.plan.when
        if when == "always" or (when == "on_failure" and failed) or (when == "on_success" and not failed):
            self._queue_job(job)
        elif when in {"manual", "delayed"} and not failed:
            self._set_job(job, "manual" if when == "manual" else "scheduled")
        else:
            self._set_job(job, "skipped")

    def _set_status(self, pipeline: Pipeline, status: Status) -> None:
        if pipeline.status == status:
            return
        now = self._state.clock()
        pipeline.status, pipeline.updated_at = status, now
        if status == "running" and pipeline.started_at is None:
            pipeline.started_at = now
        pipeline.finished_at = now if status in FINISHED else None
        project = self._state.projects[pipeline.project]
        # The body tells the status of when it is sent, not of now: GitLab builds it in a later job.
        self._hooks.emit(project, "pipeline_hooks", lambda: payloads.pipeline(self._state, pipeline))


def _is_failure(job: Job) -> bool:
    return job.status in {"failed", "canceled"} and not job.plan.allow_failure


def _is_optional(job: Job) -> bool:
    return job.status == "manual" and job.plan.allow_failure


def _status(jobs: Sequence[Job]) -> Status:
    """Compute the status of a pipeline from its jobs."""
    counted: list[Status] = [
        "success" if job.status == "failed" and job.plan.allow_failure else job.status
        for job in jobs
        if not _is_optional(job)
    ]
    begun = any(job.started_at is not None for job in jobs if not job.plan.trigger)
    found = set(counted)
    if "canceling" in found:
        return "canceling"
    if "running" in found:
        return "running"
    if "pending" in found:
        return "running" if begun else "pending"
    if "manual" in found:
        return "manual"
    if "scheduled" in found:
        return "scheduled"
    if "created" in found:
        return "created"
    if "failed" in found:
        return "failed"
    if "canceled" in found:
        return "canceled"
    return "skipped" if found <= {"skipped"} else "success"
