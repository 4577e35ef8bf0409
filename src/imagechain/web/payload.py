"""What is taken from the body of a webhook: ids, and nothing else. Pure.

The body is read before it is known who sent it, because only the project's id tells which secret to check.
So the reader is strict and small, and what it gives is believed only after that check. Payloads:
GitLab's `lib/gitlab/data_builder/*.rb`.
"""

from typing import Annotated

import msgspec

from imagechain.store import Hint, HintKind

#: GitLab's ids are signed 64-bit numbers.
_Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]

_KINDS: dict[str, HintKind] = {
    "pipeline": "pipeline",
    "push": "push",
    "tag_push": "push",
    "merge_request": "merge_request",
    "note": "note",
    "deployment": "deployment",
}


class PayloadError(ValueError):
    """The body is none of GitLab's; the message says what is wrong with it."""


class _Project(msgspec.Struct, frozen=True):
    #: Old forms have it beside the project only.
    id: _Id | None = None


class _MergeRequest(msgspec.Struct, frozen=True):
    iid: _Id


class _Payload(msgspec.Struct, frozen=True):
    #: Project events of group hooks have an `event_name` only.
    object_kind: str = ""
    project: _Project | None = None
    project_id: _Id | None = None
    #: Has other shapes for other kinds.
    object_attributes: msgspec.Raw = msgspec.Raw()
    #: Of notes: what they are on, unless that is a commit or an issue.
    merge_request: msgspec.Raw = msgspec.Raw(b"null")
    deployment_id: msgspec.Raw = msgspec.Raw()


class _Object(msgspec.Struct, frozen=True):
    """A pipeline or a note."""

    id: _Id


class _ChangedMergeRequest(_MergeRequest, frozen=True):
    #: Decides only whether it is worth a look.
    action: str = ""


_payload_decoder = msgspec.json.Decoder(_Payload)
_object_decoder = msgspec.json.Decoder(_Object)
_changed_decoder = msgspec.json.Decoder(_ChangedMergeRequest)
_merge_request_decoder = msgspec.json.Decoder(_MergeRequest | None)
_id_decoder = msgspec.json.Decoder(_Id)


class ProjectHint(msgspec.Struct, frozen=True):
    """A hint, and the project whose secret, or whose group's, must have come with it."""

    project_id: int
    hint: Hint


def read_payload(body: bytes) -> ProjectHint:
    """Read the ids from the body of a webhook.

    Raises:
        PayloadError: it is no JSON, or does not say which project it speaks of.
    """
    try:
        payload = _payload_decoder.decode(body)
        project = payload.project or _Project()
        project_id = project.id if project.id is not None else payload.project_id
        if project_id is None:
            raise PayloadError("the body names no project: only events of projects are understood")
        return ProjectHint(project_id, _hint(payload, project_id))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PayloadError(f"the body is no webhook of GitLab: {error}") from error


def _hint(payload: _Payload, project_id: int) -> Hint:
    kind = _KINDS.get(payload.object_kind, "other")
    match kind:
        case "pipeline":
            pipeline_id = _object_decoder.decode(payload.object_attributes).id
            return Hint(kind=kind, project_id=project_id, pipeline_id=pipeline_id)
        case "merge_request":
            changed = _changed_decoder.decode(payload.object_attributes)
            kind = "merge" if changed.action == "merge" else kind
            return Hint(kind=kind, project_id=project_id, merge_request=changed.iid)
        case "note":
            on = _merge_request_decoder.decode(payload.merge_request)
            return Hint(
                kind=kind,
                project_id=project_id,
                merge_request=on.iid if on is not None else None,
                note_id=_object_decoder.decode(payload.object_attributes).id,
            )
        case "deployment":
            deployment_id = _id_decoder.decode(payload.deployment_id)
            return Hint(kind=kind, project_id=project_id, deployment_id=deployment_id)
    return Hint(kind=kind, project_id=project_id)
