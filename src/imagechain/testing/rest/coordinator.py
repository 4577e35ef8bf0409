"""The API by which runners take jobs: registration, `jobs/request`, traces and results.

A runner that runs shell or container jobs without a checkout works with it, artifacts included (`artifacts`);
there is no git server. Rules: gitlab-runner's `network` package; its retries and resumes are answered as
GitLab does (416 with the range, 412 for a trace that does not match).
"""

import zlib
from collections.abc import Sequence
from typing import Any

from imagechain.testing.calls import Answer, ApiError, Call, Endpoint, forbidden, invalid, not_found
from imagechain.testing.ci import predefined_variables
from imagechain.testing.rest.artifacts import needed_artifacts, wanted_artifacts
from imagechain.testing.state import Runner
from imagechain.testing.values import FINISHED, Job, Json, Status

TRACE_BYTES_MAX = 4 * 1024 * 1024
JOB_TIMEOUT_SECONDS = 3600
_TRACE_INTERVAL_SECONDS = "3"
_FAILURE_REASONS = [
    "script_failure",
    "runner_system_failure",
    "job_execution_timeout",
    "image_pull_failure",
    "unknown_failure",
]


def _runner(call: Call) -> Runner:
    """Find the runner by the token of the body or the header."""
    token = call.optional_text("token") or call.headers.get("runner-token", "")
    runner = call.state.runners.get(token)
    if runner is None:
        raise forbidden()
    return runner


def _new_runner(call: Call) -> Runner:
    state = call.state
    runner = Runner(
        id=state.next_id("runner"),
        token=f"glrt-{state.random.getrandbits(80):020x}",
        tags=tuple(call.texts("tag_list")),
        run_untagged=call.flag("run_untagged", default=True),
    )
    state.runners[runner.token] = runner
    return runner


def _shown(runner: Runner) -> Json:
    return {"id": runner.id, "token": runner.token, "token_expires_at": None}


def _create_runner(call: Call) -> Answer:
    call.choice("runner_type", ("instance_type", "group_type", "project_type"), "")
    return Answer(status=201, data=_shown(_new_runner(call)))


def _verify(call: Call) -> Answer:
    return Answer(data=_shown(_runner(call)))


def _unregister(call: Call) -> Answer:
    del call.state.runners[_runner(call).token]
    return Answer(status=204)


def _unregister_manager(call: Call) -> Answer:
    """Forget one machine of a runner, which keeps its token: machines are not told apart here."""
    _runner(call)
    return Answer(status=204)


# --- handing out


def _fits(runner: Runner, job: Job) -> bool:
    if not job.plan.tags:
        return runner.run_untagged
    return set(job.plan.tags) <= set(runner.tags)


def _request_job(call: Call) -> Answer:
    runner = _runner(call)
    waiting = call.parts.pipelines.pending.values()
    job = next((job for job in waiting if _fits(runner, job)), None)
    if job is None:
        return Answer(status=204, headers={"X-GitLab-Last-Update": f"{len(call.state.job_index):x}"})
    call.parts.pipelines.start_job(job)
    job.runner = runner.id
    return Answer(status=201, data=_job_body(call, job))


def _job_variables(call: Call, job: Job) -> list[Json]:
    state = call.state
    project, pipeline = state.projects[job.project], state.pipeline_index[job.pipeline]
    public = {
        **predefined_variables(state, project, pipeline.ref, pipeline.sha, pipeline.source, tag=pipeline.tag),
        **job.plan.variables,
        "CI_JOB_ID": str(job.id),
        "CI_JOB_NAME": job.plan.name,
        "CI_JOB_STAGE": job.plan.stage,
        "CI_PIPELINE_ID": str(pipeline.id),
        "CI_PIPELINE_IID": str(pipeline.iid),
        "CI_REGISTRY_USER": "gitlab-ci-token",
        "GIT_STRATEGY": "none",
    }
    secret = {
        "CI_JOB_TOKEN": job.token,
        "CI_REGISTRY_PASSWORD": job.token,
        "CI_REPOSITORY_URL": _repository_url(call, job),
    }
    return [
        {"key": key, "value": value, "public": key not in secret, "masked": key in secret, "raw": True}
        for key, value in (public | secret).items()
    ]


def _repository_url(call: Call, job: Job) -> str:
    scheme, _, host = call.state.settings.url.partition("://")
    return f"{scheme}://gitlab-ci-token:{job.token}@{host}/{call.state.projects[job.project].full_path}.git"


def _step(name: str, script: Sequence[str], *, when: str) -> Json:
    return {
        "name": name,
        "script": list(script),
        "timeout": JOB_TIMEOUT_SECONDS,
        "when": when,
        "allow_failure": when == "always",
    }


def _job_body(call: Call, job: Job) -> Json:
    state = call.state
    project, pipeline = state.projects[job.project], state.pipeline_index[job.pipeline]
    body: Json = {
        "id": job.id,
        "token": job.token,
        "allow_git_fetch": True,
        "job_info": {
            "name": job.plan.name,
            "stage": job.plan.stage,
            "project_id": project.id,
            "project_name": project.path,
            "pipeline_id": pipeline.id,
        },
        "git_info": {
            "repo_url": _repository_url(call, job),
            "repo_object_format": "sha1",
            "ref": pipeline.ref,
            "sha": pipeline.sha,
            "before_sha": pipeline.before_sha,
            "ref_type": "tag" if pipeline.tag else "branch",
            "refspecs": [],
            "depth": 20,
            "protected": pipeline.ref in project.protected_branches,
        },
        "runner_info": {"timeout": JOB_TIMEOUT_SECONDS, "runner_session_url": None},
        "variables": _job_variables(call, job),
        "steps": [
            _step("script", job.plan.script, when="on_success"),
            *([_step("after_script", job.plan.after_script, when="always")] if job.plan.after_script else []),
        ],
        "services": [{"name": service} for service in job.plan.services],
        "artifacts": wanted_artifacts(job),
        "cache": [],
        "credentials": [
            {
                "type": "registry",
                "url": state.settings.registry_host,
                "username": "gitlab-ci-token",
                "password": job.token,
            }
        ],
        "dependencies": needed_artifacts(state, job),
        "features": {"trace_sections": True, "failure_reasons": _FAILURE_REASONS},
    }
    if job.plan.image is not None:
        body["image"] = {"name": job.plan.image, "entrypoint": None, "ports": []}
    return body


# --- traces and results


def _own_job(call: Call) -> Job:
    """Find the job that the token is of; a job that has ended takes nothing more."""
    job = call.found(call.state.job_index, "job_id")
    token = call.headers.get("job-token") or call.optional_text("token")
    if token != job.token:
        raise forbidden()
    return job


def _trace_headers(job: Job) -> dict[str, str]:
    return {
        "Job-Status": job.status,
        "Range": f"0-{len(job.trace)}",
        "X-GitLab-Trace-Update-Interval": _TRACE_INTERVAL_SECONDS,
    }


def _append_trace(call: Call) -> Answer:
    job = _own_job(call)
    if job.status in FINISHED:
        raise ApiError(403, {"message": "403 Forbidden - Job is not running"}, {"Job-Status": job.status})
    start, dash, end = call.headers.get("content-range", "").partition("-")
    if not (dash and start.isdecimal() and end.isdecimal()):
        raise invalid("Content-Range", "is missing")
    if int(start) != len(job.trace) or int(end) - int(start) + 1 != len(call.body):
        raise ApiError(416, {"message": "416 Range Not Satisfiable"}, _trace_headers(job))
    if len(job.trace) + len(call.body) > TRACE_BYTES_MAX:
        raise ApiError(413, {"message": "413 Request Entity Too Large"})
    job.trace += call.body
    return Answer(status=202, data={}, headers=_trace_headers(job))


def _update_job(call: Call) -> Answer:
    job = _own_job(call)
    headers = {"Job-Status": job.status, "X-GitLab-Trace-Update-Interval": _TRACE_INTERVAL_SECONDS}
    state = call.choice("state", ("pending", "running", "success", "failed"), "")
    if job.status in FINISHED:
        raise ApiError(403, {"message": "403 Forbidden - Job is not running"}, headers)
    if state in {"success", "failed"}:
        output: Any = call.params.get("output") or {}
        wanted = output.get("checksum") or call.optional_text("checksum")
        if wanted is not None and wanted != f"crc32:{zlib.crc32(bytes(job.trace)):08x}":
            raise ApiError(412, {"message": "412 Precondition Failed"}, headers)
        outcome: Status = "success" if state == "success" else "failed"
        call.parts.pipelines.finish_job(job, outcome, call.optional_text("failure_reason"))
        headers["Job-Status"] = job.status
    return Answer(data={}, headers=headers)


def _current_job(call: Call) -> Answer:
    token = call.headers.get("job-token", "")
    for job in call.state.job_index.values():
        if job.token == token and job.status == "running":
            return Answer(data={"id": job.id, "name": job.plan.name, "status": job.status})
    raise not_found()


def _with_own_token(method: str, path: str, handler: Any) -> Endpoint:
    return Endpoint(method=method, path=path, handler=handler, scopes=None)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="POST", path="user/runners", handler=_create_runner, scopes=("create_runner",), login=True
    ),
    _with_own_token("POST", "runners/verify", _verify),
    _with_own_token("DELETE", "runners", _unregister),
    _with_own_token("DELETE", "runners/managers", _unregister_manager),
    _with_own_token("POST", "jobs/request", _request_job),
    _with_own_token("PATCH", "jobs/:job_id/trace", _append_trace),
    _with_own_token("PUT", "jobs/:job_id", _update_job),
    _with_own_token("GET", "job", _current_job),
)
