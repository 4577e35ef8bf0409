"""Artifacts of jobs: a runner uploads them, and those of later jobs (and people) download them.

Rules: gitlab-runner's `network/gitlab.go`, and GitLab's page "Job artifacts API". All is kept in memory.
"""

from collections.abc import Mapping
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any

from imagechain.testing.calls import Answer, ApiError, Call, Endpoint, bad_request, forbidden, get, not_found
from imagechain.testing.payloads import artifacts_file
from imagechain.testing.state import State
from imagechain.testing.values import FINISHED, Artifact, Job, Json

#: GitLab's default of the largest artifact.
ARTIFACT_BYTES_MAX = 100 * 1024 * 1024


def wanted_artifacts(job: Job) -> list[Json] | None:
    """Tell a runner what to upload after a job; None: nothing."""
    plan = job.plan.artifacts
    if plan is None:
        return None
    common = {"when": plan.get("when", "on_success"), "expire_in": plan.get("expire_in", "30 days")}
    wanted: list[Json] = []
    if plan.get("paths") or plan.get("untracked"):
        wanted.append(
            common
            | {
                "name": plan.get("name", "artifacts"),
                "untracked": bool(plan.get("untracked")),
                "paths": _texts(plan.get("paths")),
                "exclude": _texts(plan.get("exclude")),
                "artifact_type": "archive",
                "artifact_format": "zip",
            }
        )
    reports = plan.get("reports")
    for kind, paths in (reports if isinstance(reports, Mapping) else {}).items():
        wanted.append(
            common
            | {
                "name": f"{kind}.xml",
                "paths": _texts(paths),
                "artifact_type": str(kind),
                "artifact_format": "gzip",
                "when": "always",
            }
        )
    return wanted


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def needed_jobs(state: State, job: Job) -> list[Job]:
    """Give the jobs whose artifacts a job gets: those it names, else all of earlier stages."""
    pipeline = state.pipeline_index[job.pipeline]
    stages = list(dict.fromkeys(other.plan.stage for other in pipeline.jobs))
    earlier = frozenset(stages[: stages.index(job.plan.stage)])
    return [
        other
        for other in pipeline.jobs
        if "archive" in other.artifacts
        and not other.retried
        and (
            other.plan.stage in earlier
            if job.plan.dependencies is None
            else other.plan.name in job.plan.dependencies
        )
    ]


def needed_artifacts(state: State, job: Job) -> list[Json]:
    """Tell a runner what to download before a job."""
    return [
        {
            "id": other.id,
            "token": other.token,
            "name": other.plan.name,
            "artifacts_file": artifacts_file(other),
        }
        for other in needed_jobs(state, job)
    ]


# --- upload and download


def _job_of_token(call: Call, *, needed_by: bool) -> Job:
    """Find the job of the path, for whoever has its token, or the token of a job that needs it."""
    job = call.found(call.state.job_index, "job_id")
    token = call.headers.get("job-token") or call.optional_text("token")
    if token is None:
        raise ApiError(401, {"message": "401 Unauthorized"})
    if token == job.token:
        return job
    if needed_by:
        pipeline = call.state.pipeline_index[job.pipeline]
        if any(token == other.token and job in needed_jobs(call.state, other) for other in pipeline.jobs):
            return job
    raise forbidden()


def _uploaded_file(call: Call) -> tuple[str, bytes]:
    """Read the file of a form (`multipart/form-data`)."""
    kind = Message()
    kind["content-type"] = call.headers.get("content-type", "")
    boundary = str(kind.get_param("boundary", "")).encode()
    for part in (b"\r\n" + call.body).split(b"\r\n--" + boundary)[1:] if boundary else ():
        head, _, content = part.lstrip(b"\r\n").partition(b"\r\n\r\n")
        headers = BytesHeaderParser().parsebytes(head)
        if headers.get_param("name", header="content-disposition") == "file":
            return headers.get_filename("artifacts.zip"), content
    raise bad_request("file is missing")


def _upload(call: Call) -> Answer:
    job = _job_of_token(call, needed_by=False)
    if job.status in FINISHED:
        raise ApiError(403, {"message": "403 Forbidden - Job is not running"}, {"Job-Status": job.status})
    if len(call.body) > ARTIFACT_BYTES_MAX:
        raise ApiError(413, {"message": "413 Request Entity Too Large"})
    filename, content = _uploaded_file(call)
    artifact = Artifact(
        type=call.optional_text("artifact_type") or "archive",
        format=call.optional_text("artifact_format") or "zip",
        filename=filename,
        content=content,
    )
    job.artifacts[artifact.type] = artifact
    return Answer(status=201, data={})


def _answer(job: Job) -> Answer:
    archive = job.artifacts.get("archive")
    if archive is None:
        raise not_found()
    return Answer(
        body=archive.content,
        content_type="application/zip" if archive.format == "zip" else "application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{archive.filename}"'},
    )


def _download(call: Call) -> Answer:
    return _answer(_job_of_token(call, needed_by=True))


def _download_by_people(call: Call) -> Answer:
    job = call.found(call.state.job_index, "job_id")
    if job.project != call.project.id:
        raise not_found()
    return _answer(job)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(method="POST", path="jobs/:job_id/artifacts", handler=_upload, scopes=None),
    Endpoint(method="GET", path="jobs/:job_id/artifacts", handler=_download, scopes=None),
    get("projects/:id/jobs/:job_id/artifacts", _download_by_people),
)
