import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.store import Hint
from imagechain.web.payload import PayloadError, read_payload
from web.parts import EXAMPLES, pipeline_body

PROJECT_HOOKS = {
    "docs/pipeline.json": Hint(kind="pipeline", project_id=1, pipeline_id=31),
    "docs/push.json": Hint(kind="push", project_id=15),
    "docs/push_as_logged.json": Hint(kind="push", project_id=7),
    "docs/tag_push.json": Hint(kind="push", project_id=1),
    "docs/merge_request.json": Hint(kind="merge_request", project_id=2, merge_request=16),
    "docs/note_merge_request.json": Hint(kind="note", project_id=5, merge_request=1, note_id=1244),
    "docs/deployment.json": Hint(kind="deployment", project_id=30, deployment_id=15),
    "docs/job.json": Hint(kind="other", project_id=380),
    "go-gitlab/pipeline.json": Hint(kind="pipeline", project_id=1, pipeline_id=31),
    "go-gitlab/wiki_page.json": Hint(kind="other", project_id=1),
    "go-gitlab-system/push.json": Hint(kind="other", project_id=15),
}


@pytest.mark.parametrize("name", PROJECT_HOOKS)
def test_real_payloads_give_their_ids(name: str) -> None:
    path = EXAMPLES / name
    if not path.exists():
        pytest.skip("the example payloads are not beside the repository")
    found = read_payload(path.read_bytes())
    assert found.hint == PROJECT_HOOKS[name]
    assert found.project_id == PROJECT_HOOKS[name].project_id


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"pipeline"',
        b"{",
        b"\xff\xfe",
        b'{"object_kind": "push"}',
        b'{"object_kind": "push", "project": {"id": 0}}',
        b'{"object_kind": "push", "project": {"id": -1}}',
        b'{"object_kind": "push", "project": {"id": "7"}}',
        b'{"object_kind": "push", "project": {"id": 7.5}}',
        b'{"object_kind": "push", "project": {"id": true}}',
        b'{"object_kind": "push", "project": {"id": 9223372036854775808}}',
        b'{"object_kind": "push", "project": []}',
        b'{"object_kind": 1, "project": {"id": 7}}',
        b'{"object_kind": "pipeline", "project": {"id": 7}}',
        b'{"object_kind": "pipeline", "project": {"id": 7}, "object_attributes": {}}',
        b'{"object_kind": "pipeline", "project": {"id": 7}, "object_attributes": {"id": null}}',
        b'{"object_kind": "note", "project": {"id": 7}, "object_attributes": {}}',
        b'{"object_kind": "note", "project": {"id": 7}, "object_attributes": {"id": 1}, "merge_request": 1}',
        b'{"object_kind": "merge_request", "project": {"id": 7}, "object_attributes": {"id": 1}}',
        b'{"object_kind": "deployment", "project": {"id": 7}, "deployment_id": "15"}',
        b'{"object_kind": "push", "project": {"id": 7}} {}',
        b'{"project": {"id": 7}, "deep": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
)
def test_what_is_no_hook_of_a_project_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError):
        read_payload(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        found = read_payload(json.dumps(value).encode())
    except PayloadError:
        return
    assert found.project_id >= 1


@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key not in {"project", "object_kind"}), JSON))
def test_only_ids_are_taken(more: dict[str, object]) -> None:
    body = {**more, "object_kind": "push", "project_id": 3, "project": {"id": 7, "extra": more}}
    assert read_payload(json.dumps(body).encode()).hint == Hint(kind="push", project_id=7)


def test_a_status_or_a_name_changes_nothing() -> None:
    plain = read_payload(pipeline_body())
    assert read_payload(pipeline_body(user={"name": "x" * 10_000}, builds=[{"id": 1}])) == plain


def test_a_merge_is_told_from_other_changes_of_a_merge_request() -> None:
    body = {"object_kind": "merge_request", "project": {"id": 7}, "object_attributes": {"iid": 3, "id": 90}}
    changed = Hint(kind="merge_request", project_id=7, merge_request=3)
    assert read_payload(json.dumps(body).encode()).hint == changed
    body["object_attributes"] = {"iid": 3, "action": "merge"}
    assert read_payload(json.dumps(body).encode()).hint == Hint(kind="merge", project_id=7, merge_request=3)


def test_a_note_on_a_commit_names_no_merge_request() -> None:
    body = {"object_kind": "note", "project": {"id": 7}, "object_attributes": {"id": 5}, "commit": {}}
    assert read_payload(json.dumps(body).encode()).hint == Hint(kind="note", project_id=7, note_id=5)
