"""Hosts report with a token that is good for nothing else; what they sent is read back by anybody."""

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient

from imagechain.chain import VersionRead
from imagechain.hosts.report import CONTAINERS_MAX, DIGESTS_MAX, REPORT_BYTES_MAX
from imagechain.service.host_tokens import HostTokens
from imagechain.store import Store
from web.parts import API_TOKEN, HOOK_KEY, NOW, SECRETS, FakeService

TOKENS = HostTokens(HOOK_KEY)
DEBIAN = "r.io/debian:12"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


WEB1 = bearer(TOKENS.token("web1"))


def container(**more: object) -> dict[str, object]:
    plain = {"user": "root", "name": "db", "image": DEBIAN, "is_running": True, "state": "current"}
    return {**plain, "content": "v1", "made_seconds_ago": 10, **more}


def report(*containers: dict[str, object]) -> dict[str, object]:
    return {"containers": containers or (container(),)}


def test_a_report_is_stored_and_the_next_one_takes_its_place(client: TestClient, store: Store) -> None:
    assert client.post("/api/v1/hosts", json=report(), headers=WEB1).json() == {"host": "web1"}
    assert client.post("/api/v1/hosts", json=report(container(name="x")), headers=WEB1).status_code == 200
    (row,) = asyncio.run(store.hosts())
    assert (row.name, row.heard_at) == ("web1", NOW)
    (image,) = client.get("/api/v1/hosts").json()["images"]
    assert (image["image"], image["source"]) == (DEBIAN, DEBIAN)
    assert [(one["name"], one["standing"], one["since"]) for one in image["containers"]] == [
        ("x", "present", NOW - 10)
    ]


@pytest.mark.parametrize(
    "token",
    ["", API_TOKEN, "web1:", "web1:" + "0" * 64, SECRETS.token(7), TOKENS.token("web1")[:-1], "é:\xff"],
)
def test_only_the_token_of_a_host_reports(client: TestClient, store: Store, token: str) -> None:
    headers = {b"Authorization": f"Bearer {token}".encode()}
    answer = client.post("/api/v1/hosts", json=report(), headers=headers)
    assert answer.status_code == 401
    assert "imagechain hosts token" in answer.json()["error"]
    assert asyncio.run(store.hosts()) == []


def test_the_token_of_a_host_may_do_nothing_else(client: TestClient, store: Store) -> None:
    client.post("/api/v1/hosts", json=report(), headers=WEB1)
    for ask in ("rebuild", "pause", "resume", "retry", "reconcile"):
        assert client.post(f"/api/v1/{ask}", headers=WEB1).status_code == 401
    assert client.delete("/api/v1/hosts/web1", headers=WEB1).status_code == 401
    assert client.post("/hooks/gitlab", json={}, headers=WEB1).status_code in {400, 401}
    assert asyncio.run(store.waiting_hints()) == 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"containers": [], "kernel": "6.1"}, "unknown field `kernel`"),
        (report(container(command="psql")), "unknown field `command`"),
        (report(container(name=7)), "Expected `str`"),
        (report(container(name="a\x1b[2J")), "matching regex"),
        (report(container(name="x" * 513)), "length <= 512"),
        (report(container(made_seconds_ago=-1)), ">= 0"),
        (report(container(state="happy")), "Invalid enum value"),
        (report(container(digests=["d"] * (DIGESTS_MAX + 1))), f"length <= {DIGESTS_MAX}"),
        (report(*[container()] * (CONTAINERS_MAX + 1)), f"length <= {CONTAINERS_MAX}"),
        ([], "Expected `object`"),
    ],
)
def test_what_is_no_report_is_refused_and_said_why(
    client: TestClient, store: Store, body: Any, told: str
) -> None:
    answer = client.post("/api/v1/hosts", json=body, headers=WEB1)
    assert answer.status_code == 400
    assert told in answer.json()["error"]
    assert "newer imagechain" in answer.json()["error"]
    assert asyncio.run(store.hosts()) == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    assert client.post("/api/v1/hosts", content=body, headers=WEB1).status_code == 400


def test_a_report_that_is_too_large_is_refused(client: TestClient) -> None:
    answer = client.post("/api/v1/hosts", content=b" " * (REPORT_BYTES_MAX + 1), headers=WEB1)
    assert answer.status_code == 413


def test_more_hosts_than_there_is_room_for_are_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.store.hosts.HOSTS_MAX", 1)
    client.post("/api/v1/hosts", json=report(), headers=WEB1)
    answer = client.post("/api/v1/hosts", json=report(), headers=bearer(TOKENS.token("web2")))
    assert answer.status_code == 507
    assert "hosts forget" in answer.json()["error"]


def test_a_host_that_is_no_more_is_forgotten_with_the_api_token(client: TestClient) -> None:
    client.post("/api/v1/hosts", json=report(), headers=WEB1)
    assert client.delete("/api/v1/hosts/web1", headers=bearer(API_TOKEN)).status_code == 200
    assert client.delete("/api/v1/hosts/web1", headers=bearer(API_TOKEN)).status_code == 404
    assert client.get("/api/v1/hosts").json() == {"hosts": [], "images": [], "ways": []}


def test_a_report_is_kept_before_anything_is_known_of_the_chain(
    client: TestClient, service: FakeService
) -> None:
    chain, service.chain = service.chain, None
    assert client.post("/api/v1/hosts", json=report(), headers=WEB1).status_code == 200
    assert client.get("/api/v1/hosts").status_code == 503
    assert "\nimagechain_hosts " not in client.get("/metrics").text
    service.chain = chain
    assert len(client.get("/api/v1/hosts").json()["hosts"]) == 1


def test_a_move_is_followed_and_measured_to_the_last_host(client: TestClient, service: FakeService) -> None:
    web2 = bearer(TOKENS.token("web2"))
    assert service.chain is not None
    for headers in (WEB1, web2):
        client.post("/api/v1/hosts", json=report(), headers=headers)
    service.chain.apply(VersionRead(input=DEBIAN, version="v2", at=NOW - 50))
    new = report(container(content="v2", made_seconds_ago=40))
    client.post("/api/v1/hosts", json=new, headers=WEB1)
    (way,) = client.get("/api/v1/hosts").json()["ways"]
    assert (way["source"], way["moved_at"], way["missing"]) == (DEBIAN, NOW - 50, ["web2/root/db"])
    assert (way["first_at"], way["seconds"]) == (NOW - 40, None)
    page = client.get("/metrics").text
    assert "imagechain_hosts_behind 1.0" in page
    assert "imagechain_hosts_lag_seconds 50.0" in page
    assert 'imagechain_host_containers{standing="behind"} 1.0' in page

    newest = report(container(content="v2", made_seconds_ago=20))
    client.post("/api/v1/hosts", json=newest, headers=web2)
    # Made anew for another reason: that makes nothing late.
    client.post("/api/v1/hosts", json=report(container(content="v2", made_seconds_ago=1)), headers=web2)
    (way,) = client.get("/api/v1/hosts").json()["ways"]
    assert (way["is_done"], way["seconds"], way["missing"]) == (True, 30.0, [])
    page = client.get("/metrics").text
    assert "imagechain_hosts_lag_seconds 0.0" in page
    assert "imagechain_hosts_way_seconds 30.0" in page
    assert "imagechain_hosts_silent 0.0" in page


def test_of_many_hosts_not_every_report_is_followed_up(
    client: TestClient, service: FakeService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.chain is not None
    service.chain.apply(VersionRead(input=DEBIAN, version="v2", at=NOW - 50))
    monkeypatch.setattr("imagechain.web.hosts._HOSTS_PER_SECOND", 1)
    client.post("/api/v1/hosts", json=report(), headers=WEB1)
    client.post("/api/v1/hosts", json=report(container(content="v2")), headers=WEB1)
    assert asyncio.run(store.ways()) == []
    # The answer is the present one all the same.
    (way,) = client.get("/api/v1/hosts").json()["ways"]
    assert way["is_done"]
