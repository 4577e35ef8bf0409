import asyncio
import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from imagechain.gitlab.hook_secrets import HookSecrets
from imagechain.store import Change, Hint, Lease, Store, StoredHint, open_store
from imagechain.web import make_app
from imagechain.web.hooks import HOOK_BYTES_MAX
from web.parts import API_TOKEN, HOOK_KEY, NOW, SECRETS, FakeService, pipeline_body, signed, with_token


def _stored(store: Store) -> list[Hint]:
    found: list[StoredHint] = list(asyncio.run(store.hints(100_000)))
    return [item.hint for item in found]


PIPELINE = Hint(kind="pipeline", project_id=7, pipeline_id=31)


def test_a_signed_delivery_is_stored_before_the_answer(
    client: TestClient, store: Store, service: FakeService
) -> None:
    body = pipeline_body()
    answer = client.post("/hooks/gitlab", content=body, headers=signed(body))
    assert (answer.status_code, answer.json()) == (202, {"new": True})
    assert _stored(store) == [PIPELINE]
    assert service.wakes == 1


def test_a_delivery_of_an_older_gitlab_is_known_by_its_token(client: TestClient, store: Store) -> None:
    assert client.post("/hooks/gitlab", content=pipeline_body(), headers=with_token()).status_code == 202
    assert _stored(store) == [PIPELINE]


def test_a_doubled_delivery_is_answered_alike_and_stored_once(
    client: TestClient, store: Store, service: FakeService
) -> None:
    body = pipeline_body()
    answers = [client.post("/hooks/gitlab", content=body, headers=signed(body)) for _ in range(3)]
    answers.append(client.post("/hooks/gitlab", content=body, headers=with_token()))
    assert [answer.status_code for answer in answers] == [202] * 4
    assert [answer.json()["new"] for answer in answers] == [True, False, False, False]
    assert len(_stored(store)) == 1
    assert service.wakes == 1


def test_a_delivery_that_was_followed_up_is_still_known(client: TestClient, store: Store) -> None:
    body = pipeline_body()
    client.post("/hooks/gitlab", content=body, headers=signed(body))

    async def finish() -> None:
        lease = await store.take_lease("me", 30, NOW)
        assert isinstance(lease, Lease)
        await store.write(Change(hints_done=tuple(hint.id for hint in await store.hints(9))), lease)

    asyncio.run(finish())
    assert client.post("/hooks/gitlab", content=body, headers=signed(body)).json() == {"new": False}
    assert _stored(store) == []


def test_deliveries_without_an_id_are_all_stored(client: TestClient, store: Store) -> None:
    for _ in range(2):
        client.post("/hooks/gitlab", content=pipeline_body(), headers=with_token(id=None))
    assert len(_stored(store)) == 2


def test_one_project_cannot_hide_the_delivery_of_another(client: TestClient, store: Store) -> None:
    for project_id in (7, 8):
        body = pipeline_body(project_id)
        answer = client.post("/hooks/gitlab", content=body, headers=signed(body, project_id, id="same"))
        assert answer.json() == {"new": True}
    assert [hint.project_id for hint in _stored(store)] == [7, 8]


def test_the_hook_of_a_group_has_secrets_of_its_own_and_its_hints_say_so(
    client: TestClient, store: Store
) -> None:
    body = pipeline_body()
    given = signed(body, "images/sub")
    assert client.post("/hooks/gitlab/groups/images/sub", content=body, headers=given).status_code == 202
    assert _stored(store) == [Hint(kind="pipeline", project_id=7, pipeline_id=31, group="images/sub")]
    for path, headers in {
        "/hooks/gitlab": given,
        "/hooks/gitlab/groups/images": given,
        "/hooks/gitlab/groups/7": signed(body, 7),
        "/hooks/gitlab/groups/": given,
    }.items():
        assert client.post(path, content=body, headers=headers).status_code == 401, path
    assert len(_stored(store)) == 1


FORGED = {
    "nothing": {},
    "an empty token": {"X-Gitlab-Token": ""},
    "another token": {"X-Gitlab-Token": "guess"},
    "the token of another project": with_token(8),
    "a signature of another project": signed(pipeline_body(), 8),
    "a signature of another body": signed(pipeline_body(pipeline_id=32)),
    "an old signature": signed(pipeline_body(), at=NOW - 301),
    "a signature from the future": signed(pipeline_body(), at=NOW + 301),
    "a signature of another key": signed(pipeline_body(), secrets=HookSecrets(b"another key, as long")),
    "a signature without its id": {
        name: value for name, value in signed(pipeline_body()).items() if name != "webhook-id"
    },
    "a wrong signature, but the right token": {**with_token(), "webhook-signature": "v1,AAAA"},
    "the signing token as token": {"X-Gitlab-Token": SECRETS.signing_token(7)},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_delivery_is_refused(
    client: TestClient, store: Store, service: FakeService, name: str
) -> None:
    answer = client.post("/hooks/gitlab", content=pipeline_body(), headers=FORGED[name])
    assert answer.status_code == 401
    assert _stored(store) == []
    assert service.wakes == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"project": {"id": 0}}', b"\x00" * 100])
def test_a_malformed_body_is_refused(client: TestClient, store: Store, body: bytes) -> None:
    for headers in ({}, with_token(), signed(body)):
        assert client.post("/hooks/gitlab", content=body, headers=headers).status_code == 400
    assert _stored(store) == []


def test_a_body_of_five_mebibytes_is_taken_and_a_larger_one_is_not(client: TestClient) -> None:
    frame = len(pipeline_body(filling=""))
    body = pipeline_body(filling="x" * (HOOK_BYTES_MAX - frame))
    assert len(body) == HOOK_BYTES_MAX
    assert client.post("/hooks/gitlab", content=body, headers=signed(body)).status_code == 202
    larger = body + b" "
    assert client.post("/hooks/gitlab", content=larger, headers=signed(larger)).status_code == 413


def test_a_large_body_without_a_length_is_refused_when_it_is_too_long(client: TestClient) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        while sent < 3 * HOOK_BYTES_MAX:
            sent += 1024 * 1024
            yield b" " * 1024 * 1024

    assert client.post("/hooks/gitlab", content=chunks(), headers=with_token()).status_code == 413


def test_a_length_that_lies_is_not_believed(client: TestClient) -> None:
    headers = {**with_token(), "Content-Length": "9" * 5_000}
    assert client.post("/hooks/gitlab", content=b"{}", headers=headers).status_code == 413


def test_an_endless_delivery_id_is_refused(client: TestClient, store: Store) -> None:
    headers = with_token(id="x" * 256)
    assert client.post("/hooks/gitlab", content=pipeline_body(), headers=headers).status_code == 400
    assert _stored(store) == []


def test_what_cannot_be_stored_is_refused_and_nobody_is_woken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.store.database.LOCK_WAIT_SECONDS_MAX", 0.05)
    store, service = open_store(f"sqlite:///{tmp_path}/x.db"), FakeService()
    app = make_app(
        store, service, hook_key=HOOK_KEY, api_token=API_TOKEN, now=lambda: NOW, machine_now=lambda: NOW
    )
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    body = pipeline_body()
    with TestClient(app) as client:
        answer = client.post("/hooks/gitlab", content=body, headers=signed(body))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 503
        assert "imagechain_store_up 0.0" in client.get("/metrics").text
        assert service.wakes == 0
        other.execute("ROLLBACK")
        assert client.post("/hooks/gitlab", content=body, headers=signed(body)).json() == {"new": True}
    other.close()
    store.close()


def test_a_full_disk_refuses_hooks_and_stores_none_by_halves(small_disk: Path) -> None:
    store, service = open_store(f"sqlite:///{small_disk}/x.db"), FakeService()
    app = make_app(store, service, hook_key=HOOK_KEY, api_token=API_TOKEN)
    answers: list[int] = []
    with TestClient(app) as client:
        while answers[-3:] != [503] * 3 and len(answers) < 50_000:
            headers = with_token(id=f"{len(answers)}{'x' * 240}")
            answer = client.post("/hooks/gitlab", content=pipeline_body(), headers=headers)
            answers.append(answer.status_code)
            if len(answers) == 10:
                (small_disk / "other.log").write_bytes(bytes(1_500_000))
    assert set(answers) == {202, 503}
    assert len(_stored(store)) == answers.count(202)
    assert service.wakes == answers.count(202)
    store.close()


def test_neither_bodies_nor_secrets_are_logged(
    client: TestClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    body = pipeline_body(variables=[{"key": "PASSWORD", "value": "hunter2-in-clear"}])
    for headers in (signed(body), with_token(), {**with_token(8), "webhook-signature": "v1,guessed="}):
        client.post("/hooks/gitlab", content=body, headers=headers)
    client.post("/hooks/gitlab", content=body[:-1], headers=with_token())
    said = caplog.text + "".join(capfd.readouterr())
    for secret in ("hunter2", SECRETS.token(7), SECRETS.token(8), "v1,"):
        assert secret not in said


def test_hooks_are_counted_by_their_answers(client: TestClient) -> None:
    body = pipeline_body()
    client.post("/hooks/gitlab", content=body, headers=signed(body))
    client.post("/hooks/gitlab", content=body)
    client.post("/hooks/gitlab", content=b"{")
    page = client.get("/metrics").text
    for status in (202, 401, 400):
        assert f'imagechain_hooks_total{{status="{status}"}} 1.0' in page


def test_only_posts_are_hooks(client: TestClient) -> None:
    assert client.get("/hooks/gitlab").status_code == 405


def test_errors_are_json(client: TestClient) -> None:
    assert set(json.loads(client.post("/hooks/gitlab", content=b"{").text)) == {"error"}


def test_signatures_are_checked_by_the_machines_clock(store: Store) -> None:
    """The service's clock never goes back: after the machine's was set right, it is wrong still."""
    app = make_app(
        store,
        FakeService(),
        hook_key=HOOK_KEY,
        api_token=API_TOKEN,
        now=lambda: NOW + 86_400,
        machine_now=lambda: NOW,
    )
    body = pipeline_body()
    with TestClient(app) as client:
        assert client.post("/hooks/gitlab", content=body, headers=signed(body)).status_code == 202
    (stored,) = asyncio.run(store.hints(9))
    assert stored.received_at == NOW + 86_400
