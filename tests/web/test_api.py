import asyncio
import json

import pytest
from starlette.testclient import TestClient

from imagechain.chain import ImageFound, Paused
from imagechain.store import BuildRow, Hint, Store
from imagechain.web import make_app
from web.parts import API_TOKEN, NOW, FakeService, write_builds

BEARER = {"Authorization": f"Bearer {API_TOKEN}"}
ASKS = ("rebuild", "pause", "resume", "retry", "reconcile")


def _hints(store: Store) -> list[Hint]:
    return [item.hint for item in asyncio.run(store.hints(100))]


def test_status_names_every_source_and_its_state(client: TestClient) -> None:
    sources = client.get("/api/v1/status").json()["sources"]
    assert [(source["id"], source["kind"], source["state"]) for source in sources] == [
        ("images/app", "project", "unknown"),
        ("images/base", "project", "unknown"),
        ("r.io/debian:12", "external", "fresh"),
    ]
    fields = {"id", "kind", "state", "reasons", "blocked_by", "version", "since", "last_build"}
    assert all(set(source) == fields for source in sources)


def test_the_graph_has_the_shape_of_a_scan(client: TestClient) -> None:
    graph = client.get("/api/v1/graph").json()
    assert set(graph) == {"sources", "dependencies", "cycles", "problems"}
    assert set(graph["sources"][0]) == {"id", "kind", "images", "file"}
    assert [edge["child"] for edge in graph["dependencies"]] == ["images/app", "images/base"]
    assert graph["problems"] == [{"file": "images/app/.gitlab-ci.yml", "line": 3, "message": "it is no YAML"}]


@pytest.mark.parametrize("written", ["images/app", "images%2Fapp"])
def test_explain_takes_paths_as_they_are_or_escaped(client: TestClient, written: str) -> None:
    answer = client.get(f"/api/v1/explain/{written}").json()
    assert answer["status"]["id"] == "images/app"
    assert answer["blockers"][0]["id"] == "images/base"


def test_an_external_image_is_explained_too(client: TestClient) -> None:
    assert client.get("/api/v1/explain/r.io/debian:12").json()["would_build"] == []


def test_a_plan_tells_what_would_follow(client: TestClient, service: FakeService) -> None:
    assert client.get("/api/v1/plan").json() == {"builds": []}
    assert client.get("/api/v1/plan", params={"if_changed": "images/base"}).status_code == 200


@pytest.mark.parametrize("path", ["explain/nobody", "plan?if_changed=nobody"])
def test_an_unknown_source_is_not_found(client: TestClient, path: str) -> None:
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 404
    assert answer.json()["error"] == "there is no image 'nobody'; `imagechain status` lists all of them"


@pytest.mark.parametrize("id", ["app", "images/ap"])
def test_the_nearest_names_are_told_in_the_place_of_one_that_there_is_not(
    client: TestClient, store: Store, id: str
) -> None:
    told = f"there is no image '{id}'; did you mean images/app"
    for path in (f"explain/{id}", f"plan?if_changed={id}"):
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["error"][: len(told)]) == (404, told)
    for kind in ASKS:
        answer = client.post(f"/api/v1/{kind}", json={"id": id}, headers=BEARER)
        assert (answer.status_code, answer.json()["error"][: len(told)]) == (404, told)
    assert _hints(store) == []


def test_status_says_when_webhooks_do_not_arrive(client: TestClient, service: FakeService) -> None:
    assert client.get("/api/v1/status").json()["notices"] == []
    service.unannounced = 3
    answer = client.get("/api/v1/status")
    assert "webhooks do not arrive" in answer.json()["notices"][0]
    assert answer.headers["Imagechain-Answer-From"] == "service"


def test_a_gitlab_that_is_down_is_told_with_its_time_and_is_no_illness(
    client: TestClient, service: FakeService
) -> None:
    assert client.get("/healthz").json() == {"ok": True, "gitlab_down_since": None, "gitlab_trouble": ""}
    assert "imagechain_gitlab_up 1.0" in client.get("/metrics").text
    assert "imagechain_gitlab_down_since 0.0" in client.get("/metrics").text
    service.gitlab_down_since = NOW
    (notice,) = client.get("/api/v1/status").json()["notices"]
    assert notice == "GitLab does not answer since 2023-11-14 22:13:20 UTC: nothing is started"
    assert client.get("/healthz").json() == {"ok": True, "gitlab_down_since": NOW, "gitlab_trouble": notice}
    assert f"imagechain_gitlab_down_since {NOW / 1e9}e+09" in client.get("/metrics").text
    assert "imagechain_gitlab_up 0.0" in client.get("/metrics").text


def test_a_gitlab_that_refuses_the_service_is_told_everywhere_and_is_no_illness(
    client: TestClient, service: FakeService
) -> None:
    service.gitlab_trouble = "the group images: GitLab answers 401: the token is wrong"
    (notice,) = client.get("/api/v1/status").json()["notices"]
    assert notice == (
        f"GitLab does not do what the service asks ({service.gitlab_trouble}); `imagechain doctor` tells more"
    )
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["gitlab_trouble"]) == (200, notice)
    assert "imagechain_gitlab_up 0.0" in client.get("/metrics").text
    service.chain = None
    answer = client.get("/api/v1/status")
    assert (answer.status_code, answer.json()["error"]) == (503, f"nothing is known yet: {notice}")
    assert "the token is wrong); `imagechain doctor` tells more." in client.get("/").text


def test_before_the_first_scan_nothing_is_answered(client: TestClient, service: FakeService) -> None:
    service.chain = None
    for path in ("status", "graph", "explain/images/app", "plan"):
        assert client.get(f"/api/v1/{path}").status_code == 503


def test_builds_are_listed_the_latest_first(client: TestClient, store: Store) -> None:
    write_builds(
        store,
        *(
            BuildRow(id=str(number), source=source, status="success", started_at=float(number))
            for number, source in enumerate(["images/app", "images/base", "images/app"])
        ),
    )
    builds = client.get("/api/v1/builds").json()["builds"]
    assert [build["id"] for build in builds] == ["2", "1", "0"]
    fields = {"id", "source", "url", "status", "cause", "cascade", "started_at", "finished_at"}
    assert set(builds[0]) == fields
    of_app = client.get("/api/v1/builds", params={"source": "images/app"}).json()["builds"]
    assert [build["id"] for build in of_app] == ["2", "0"]
    assert len(client.get("/api/v1/builds", params={"limit": 1}).json()["builds"]) == 1


def test_cascades_hold_their_builds(client: TestClient, store: Store) -> None:
    write_builds(
        store,
        BuildRow(
            id="1", source="images/base", status="success", cascade="c", started_at=1.0, finished_at=2.0
        ),
        BuildRow(id="2", source="images/app", status="success", cascade="c", started_at=3.0, finished_at=9.0),
        BuildRow(id="3", source="images/app", status="running", started_at=3.0),
    )
    (cascade,) = client.get("/api/v1/cascades").json()["cascades"]
    assert (cascade["id"], cascade["started_at"], cascade["finished_at"]) == ("c", 1.0, 9.0)
    assert [build["id"] for build in cascade["builds"]] == ["1", "2"]
    assert "imagechain_cascade_seconds 8.0" in client.get("/metrics").text


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "ten", "", "1e2", "9" * 5_000, "\uff11"])
def test_a_limit_is_a_small_number(client: TestClient, limit: str) -> None:
    assert client.get("/api/v1/builds", params={"limit": limit}).status_code == 400


@pytest.mark.parametrize("kind", ASKS)
def test_what_is_asked_for_becomes_a_hint(
    client: TestClient, store: Store, service: FakeService, kind: str
) -> None:
    body = {"id": "images/base", "downstream": True, "subtree": False, "reason": "the mirror moved"}
    answer = client.post(f"/api/v1/{kind}", json=body, headers=BEARER)
    assert answer.status_code == 202
    idle = kind in {"resume", "retry"}
    assert sorted(answer.json()["ids"]) == ([] if idle else ["images/app", "images/base"])
    assert bool(answer.json()["notes"]) == idle
    (hint,) = _hints(store)
    assert (hint.kind, hint.source, hint.reason, hint.downstream) == (
        kind,
        "images/base",
        "the mirror moved",
        True,
    )
    assert service.wakes == 1


def test_one_project_alone_or_all(client: TestClient, store: Store) -> None:
    alone = client.post("/api/v1/rebuild", json={"id": "images/base"}, headers=BEARER)
    assert alone.json() == {"ids": ["images/base"], "notes": []}
    for content in (b"", b"{}"):
        answer = client.post("/api/v1/pause", content=content, headers=BEARER)
        assert answer.json()["ids"] == ["images/app", "images/base"]
    assert [hint.source for hint in _hints(store)] == ["images/base", None, None]


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {API_TOKEN}",
        API_TOKEN,
        f"Bearer {API_TOKEN}x",
        "Bearer \xe9",
    ],
)
def test_without_the_token_nothing_is_changed(
    client: TestClient, store: Store, kind: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    answer = client.post(f"/api/v1/{kind}", content=b"{}", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert _hints(store) == []


def test_the_scheme_is_read_in_any_case(client: TestClient) -> None:
    headers = {"Authorization": f"bearer {API_TOKEN}"}
    assert client.post("/api/v1/reconcile", headers=headers).status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"ID": "images/app"}',
        b'{"id": 3}',
        b'{"downstream": "yes"}',
        json.dumps({"reason": "two\nlines"}).encode(),
        json.dumps({"reason": "nul \0"}).encode(),
        json.dumps({"reason": "x" * 1_001}).encode(),
        b"[" * 50_000,
    ],
)
def test_a_body_that_is_not_understood_changes_nothing(client: TestClient, store: Store, body: bytes) -> None:
    assert client.post("/api/v1/pause", content=body, headers=BEARER).status_code == 400
    assert _hints(store) == []


def test_a_large_body_is_refused(client: TestClient) -> None:
    body = b" " * (64 * 1024 + 1)
    assert client.post("/api/v1/pause", content=body, headers=BEARER).status_code == 413


def test_an_unknown_project_is_not_asked_for(client: TestClient, store: Store) -> None:
    answer = client.post("/api/v1/rebuild", json={"id": "nobody"}, headers=BEARER)
    assert answer.status_code == 404
    assert _hints(store) == []


def test_without_an_id_what_failed_or_is_stale_is_meant(client: TestClient, service: FakeService) -> None:
    assert service.chain is not None
    service.chain.apply(ImageFound(project="images/base", at=NOW - 90, inputs={"r.io/debian:12": "v0"}))
    assert client.post("/api/v1/rebuild", headers=BEARER).json()["ids"] == ["images/base"]
    assert client.post("/api/v1/retry", headers=BEARER).json()["ids"] == []


def test_an_external_image_is_not_rebuilt(client: TestClient, store: Store) -> None:
    answer = client.post("/api/v1/rebuild", json={"id": "r.io/debian:12"}, headers=BEARER)
    assert answer.status_code == 404
    below = client.post("/api/v1/rebuild", json={"id": "r.io/debian:12", "downstream": True}, headers=BEARER)
    assert below.json()["ids"] == ["images/app", "images/base"]


@pytest.mark.parametrize("kind", ASKS)
def test_what_changes_something_is_posted(client: TestClient, kind: str) -> None:
    assert client.get(f"/api/v1/{kind}").status_code == 405


def test_the_service_is_healthy_while_its_loop_turns(client: TestClient, service: FakeService) -> None:
    assert client.get("/healthz").status_code == 200
    service.turned_at = NOW - 119
    assert client.get("/healthz").status_code == 200
    service.turned_at = NOW - 121
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert "121 s" in answer.json()["error"]


def test_metrics_tell_states_staleness_and_what_the_service_counted(
    client: TestClient, service: FakeService
) -> None:
    page = client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    for line in (
        'imagechain_sources{kind="external",state="fresh"} 1.0',
        'imagechain_sources{kind="project",state="unknown"} 2.0',
        'imagechain_staleness_seconds{source="images/app"} 0.0',
        "imagechain_hooks_missed_total 3.0",
        'imagechain_budget{host="gitlab"} 7.0',
        'imagechain_budget{host="registry"} 9.0',
        f"imagechain_loop_turned_at {NOW}",
        "imagechain_store_up 1.0",
    ):
        assert line in page.text.replace("1.7e+09", str(NOW)), line


def test_metrics_tell_how_many_hints_wait(client: TestClient) -> None:
    for _ in range(3):
        client.post("/api/v1/reconcile", headers=BEARER)
    assert "imagechain_inbox_hints 3.0" in client.get("/metrics").text


def test_a_project_that_waits_grows_stale(client: TestClient, service: FakeService) -> None:
    assert service.chain is not None
    service.chain.apply(ImageFound(project="images/base", at=NOW - 90, inputs={"r.io/debian:12": "v0"}))
    service.chain.apply(Paused(project=None, at=NOW - 60))
    page = client.get("/metrics").text
    assert 'imagechain_staleness_seconds{source="images/base"} 60.0' in page
    assert 'imagechain_sources{kind="project",state="paused"} 1.0' in page


def test_an_empty_token_is_no_token() -> None:
    with pytest.raises(ValueError, match="openssl rand"):
        make_app(None, FakeService(), hook_key=b"0" * 32, api_token="")  # type: ignore[arg-type]


def test_a_pause_of_everything_is_told_beside_the_states_and_in_each_explanation(
    client: TestClient, service: FakeService
) -> None:
    assert client.get("/api/v1/status").json()["notices"] == []
    assert service.chain is not None
    service.chain.apply(Paused(project=None, at=NOW, by="a person", reason="release day"))
    assert client.get("/api/v1/status").json()["notices"] == [
        "a person paused everything (release day); nothing is started until `imagechain resume`"
    ]
