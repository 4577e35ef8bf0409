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

_KINDS: dict[str, HintKind] = {"pipeline": "pipeline", "push": "push", "tag_push": "push"}


class PayloadError(ValueError):
    """The body is none of GitLab's; the message says what is wrong with it."""


class _Project(msgspec.Struct, frozen=True):
    #: Old forms have it beside the project only.
    id: _Id | None = None


class _Payload(msgspec.Struct, frozen=True):
    #: Project events of group hooks have an `event_name` only.
    object_kind: str = ""
    project: _Project | None = None
    project_id: _Id | None = None
    #: Has other shapes for other kinds: looked at for pipelines only.
    object_attributes: msgspec.Raw = msgspec.Raw()


class _Pipeline(msgspec.Struct, frozen=True):
    id: _Id


_payload_decoder = msgspec.json.Decoder(_Payload)
_pipeline_decoder = msgspec.json.Decoder(_Pipeline)


class ProjectHint(msgspec.Struct, frozen=True):
    """A hint, and the project whose secret must have come with it."""

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
            raise PayloadError("the body names no project: only hooks of projects are understood")
        kind = _KINDS.get(payload.object_kind, "other")
        pipeline_id = _pipeline_decoder.decode(payload.object_attributes).id if kind == "pipeline" else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PayloadError(f"the body is no webhook of GitLab: {error}") from error
    return ProjectHint(project_id, Hint(kind=kind, project_id=project_id, pipeline_id=pipeline_id))
