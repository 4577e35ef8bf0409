"""The pages: what they show, what they let through, and what they cost."""

import itertools
import shlex
from collections.abc import Callable, Iterator
from typing import Literal
from urllib.parse import quote, unquote

import pytest
from starlette.testclient import TestClient

from imagechain.chain import BuildFinished, BuildStarted, Paused, Problem, Resumed, SourceStatus
from imagechain.chain.status import Survey
from imagechain.service.known import Known
from imagechain.store import BuildRow, Store, StoreError
from imagechain.web import make_app
from imagechain.web.overview import ROWS_MAX, Overview
from web.parts import API_TOKEN, HOOK_KEY, NOW, FakeService, write_builds
from web.shown import PageReader, ShownService

PAGES = ("/", "/images/images/app", "/graph", "/graph?around=images/app", "/cascades")
Serve = Callable[[FakeService], TestClient]
Outcome = Literal["success", "failed"]


@pytest.fixture
def serve(store: Store) -> Iterator[Serve]:
    clients: list[TestClient] = []

    def serving(service: FakeService) -> TestClient:
        app = make_app(
            store, service, hook_key=HOOK_KEY, api_token=API_TOKEN, now=lambda: NOW, machine_now=lambda: NOW
        )
        clients.append(TestClient(app).__enter__())
        return clients[-1]

    yield serving
    for client in clients:
        client.__exit__(None, None, None)


def read(client: TestClient, path: str, status: int = 200) -> PageReader:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return PageReader(answer.text)


def build(service: ShownService, id: str, number: int, at: float, outcome: Outcome | None = None) -> BuildRow:
    """Let a build be seen, which ends after 90 s if it has an outcome; give its row in the history."""
    assert service.chain is not None
    url = f"https://gitlab.example.com/{id}/-/pipelines/{number}"
    cause = "images/base moved (sha256:v1… -> sha256:v2…)"
    service.chain.apply(BuildStarted(project=id, build=str(number), at=at, cause=cause, url=url))
    if outcome is not None:
        end = BuildFinished(
            project=id,
            build=str(number),
            at=at + 90,
            outcome=outcome,
            message="no space left" * (outcome == "failed"),
        )
        service.chain.apply(end)
    return BuildRow(
        id=str(number),
        source=id,
        url=url,
        status=outcome or "running",
        cause=cause,
        cascade="c",
        started_at=at,
        finished_at=None if outcome is None else at + 90,
    )


def broken() -> tuple[ShownService, list[BuildRow]]:
    """A moved base, of whose children one failed, one builds, and one was built; and what is below them."""
    service = ShownService(
        [
            ("images/failing", "images/base"),
            ("images/busy", "images/base"),
            ("images/built", "images/base"),
            ("images/app", "images/failing"),
            ("images/leaf", "images/busy"),
        ]
    )
    service.move("images/base")
    rows = [
        build(service, "images/failing", 31, NOW - 500, "failed"),
        build(service, "images/built", 32, NOW - 400, "success"),
        build(service, "images/busy", 33, NOW - 300),
    ]
    return service, rows


# --- what each page shows -------------------------------------------------------------------------------


def test_the_first_page_counts_states_and_lists_first_what_needs_somebody(serve: Serve) -> None:
    service, _ = broken()
    page = read(serve(service), "/")
    assert "1 ✕ failed 1 ⊘ blocked 1 ▶ building" in page.text
    shown = [(row[0], row[1].split()[-1]) for row in page.rows[1:]]
    assert shown == [
        ("images/failing", "failed"),
        ("images/app", "blocked"),
        ("images/busy", "building"),
        ("images/base", "fresh"),
        ("images/built", "fresh"),
        ("images/leaf", "fresh"),
    ]
    failing, app, *_ = page.rows[1:]
    assert failing[2] == "no space left images/base moved"
    assert failing[3:] == ["2023-11-14 22:06 UTC", "failed, 2023-11-14 22:06 UTC"]
    assert app[2] == "blocked by images/failing"
    assert "https://gitlab.example.com/images/failing/-/pipelines/31" in page.links
    assert "All is as it should be" not in page.text


def test_when_nothing_is_to_be_told_it_says_so(serve: Serve) -> None:
    assert "All is as it should be." in read(serve(ShownService([("app", "base")])), "/").text


def test_while_gitlab_refuses_the_service_nothing_is_as_it_should_be(serve: Serve) -> None:
    service = ShownService([("app", "base")])
    client = serve(service)
    assert "All is as it should be." in read(client, "/").text
    service.gitlab_trouble = "the token is wrong"
    page = read(client, "/")
    assert "GitLab does not do what the service asks (the token is wrong)" in page.text
    assert "All is as it should be." not in page.text
    service.gitlab_trouble = ""
    assert "All is as it should be." in read(client, "/").text


def test_what_is_wrong_now_is_told_in_sentences(serve: Serve) -> None:
    service = ShownService([("images/app", "images/base")])
    assert service.chain is not None
    service.unannounced = 5
    service.gitlab_down_since = NOW
    service.unchecked = {"r.io/x/y:1": "r.io failed 10 times in a row", "r.io/x/z:1": "r.io failed"}
    service.failing = {"images/app": "GET /projects/7: 500"}
    service.problems = (Problem(file="images/app/.gitlab-ci.yml", line=3, message="it is no YAML"),)
    service.chain.apply(Paused(project=None, at=NOW, by="anna", reason="release day"))
    client = serve(service)
    page = read(client, "/")
    for words in (
        "Webhooks do not arrive: 5 ended pipelines were found by reconcile only",
        "GitLab does not answer since 2023-11-14 22:13:20 UTC: nothing is started.",
        "2 images of r.io cannot be read, so that no change is seen there: r.io failed 10 times in a row.",
        "Anna paused everything (release day); nothing is started until `imagechain resume`.",
        "images/app: GitLab fails on it, and is asked again (GET /projects/7: 500).",
        "1 problem in files images/app/.gitlab-ci.yml:3: it is no YAML",
    ):
        assert words in page.text
    for path in ("/images/images/app", "/cascades"):
        assert (
            "There is something to know about the service: it stands on the first page."
            in read(client, path).text
        )


def test_a_cycle_is_told_with_its_members(serve: Serve) -> None:
    page = read(serve(ShownService([("a", "b"), ("b", "a"), ("c", "a")])), "/")
    assert "1 cycle" in page.text
    assert "A cycle: a → b → a" in page.text or "A cycle: b → a → b" in page.text


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("q=APP", ["images/app"]),
        ("q=%20app%20", ["images/app"]),
        ("state=failed", ["images/failing"]),
        ("state=fresh&q=images/b", ["images/base", "images/built"]),
        ("state=nonsense&q=leaf&page=-7", ["images/leaf"]),
        ("q=leaf&page=99999999999999999999", ["images/leaf"]),
        ("q=leaf&page=%EF%BC%91", ["images/leaf"]),
        ("q=nothing-like-it", []),
    ],
)
def test_the_table_is_filtered_by_text_and_by_state(serve: Serve, query: str, ids: list[str]) -> None:
    page = read(serve(broken()[0]), f"/?{query}")
    assert [row[0] for row in page.rows[1:]] == ids
    assert ids or "No image is like that." in page.text


def test_what_is_looked_for_stands_in_the_form(serve: Serve) -> None:
    page = read(serve(broken()[0]), '/?q="><b>&state=blocked')
    (field,) = (attributes for tag, attributes in page.elements if tag == "input")
    assert field["value"] == '"><b>'
    (option,) = (a for tag, a in page.elements if tag == "option" and "selected" in a)
    assert option["value"] == "blocked"


def test_a_long_table_comes_in_pages_that_lead_to_each_other(serve: Serve) -> None:
    ids = [f"images/{number:03}" for number in range(2 * ROWS_MAX + 1)]
    client = serve(ShownService([], ids))
    path, seen = "/?q=images&state=fresh", list[str]()
    for last in (False, False, True):
        page = read(client, path)
        seen += [row[0] for row in page.rows[1:]]
        onward = [attributes["href"] for tag, attributes in page.elements if attributes.get("rel") == "next"]
        assert bool(onward) is not last
        path = onward[0] if onward else path
    assert seen == ids
    assert read(client, "/?page=4").text == read(client, "/?page=3").text.replace("q=images&state=fresh", "")


def test_images_of_others_are_told_apart(client: TestClient) -> None:
    page = read(client, "/?state=external")
    assert [row[0] for row in page.rows[1:]] == ["r.io/debian:12"]
    assert "1 of others" in page.text
    assert "imagechain rebuild" not in read(client, "/images/r.io/debian:12").text


def test_the_page_of_an_image_explains_it(serve: Serve, store: Store) -> None:
    service, rows = broken()
    write_builds(store, *rows)
    client = serve(service)
    page = read(client, "/images/images/failing")
    for words in (
        "images/failing ✕ failed",
        "images/failing failed (no space left): images/base moved (v1 -> v2).",
        "Built from 1 Image State Written in images/base ✓ fresh Containerfile:1 (from)",
        "Built from it 1 Image State Written in images/app ⊘ blocked",
        "These would be built, in this order; a build that changes nothing ends it there: images/app.",
        "Publishes r.io/images/failing:latest",
    ):
        assert words in page.text
    assert [
        "31 failed",
        "images/base moved (sha256:v1… -> sha256:v2…)",
        "2023-11-14 22:05 UTC",
        "1 min 30 s",
    ] in page.rows
    for command in ("retry", "rebuild", "pause"):
        assert f"imagechain {command} images/failing" in page.text
    assert "imagechain retry" not in read(client, "/images/images/built").text
    assert "images/failing failed: no space left" in read(client, "/images/images/app").text


def test_until_when_an_image_waits_is_told(serve: Serve) -> None:
    service = ShownService([("images/app", "images/base")])
    assert service.chain is not None
    service.move("images/base")
    for number, at in ((31, NOW - 600), (32, NOW - 400), (33, NOW - 200)):
        build(service, "images/app", number, at, "failed")
    text = read(serve(service), "/images/images/app").text
    assert "It waits for its next retry. (2023-11-14 22:16 UTC)" in text


def test_a_pause_is_told_with_who_and_why(serve: Serve) -> None:
    service, _ = broken()
    assert service.chain is not None
    service.chain.apply(Paused(project="images/base", at=NOW, subtree=True, by="anna", reason="release day"))
    client = serve(service)
    text = read(client, "/images/images/leaf").text
    assert "imagechain resume images/base ends what anna paused images/base (release day)" in text
    assert "imagechain pause" not in text
    row = read(client, "/?q=leaf").rows[1]
    assert row[1:3] == ["‖ paused", "anna paused images/base (release day) waits for images/busy"]
    # Each page tells one moment: a pause that came after the states were counted is told too.
    service.chain.apply(Resumed(project="images/base", at=NOW))
    assert "paused" not in read(client, "/?q=leaf").rows[1][1]


@pytest.mark.parametrize(
    "path", ["images/nobody", "images/", "images/images/ap", "images/app", "graph?around=images/ap"]
)
def test_an_unknown_image_is_not_found_and_the_nearest_names_are_told(serve: Serve, path: str) -> None:
    page = read(serve(broken()[0]), f"/{path}", 404)
    assert "No image is called" in page.text
    assert ("/images/images/app" in page.links) is path.endswith(("ap", "app"))


def test_the_graph_has_a_box_for_each_image_and_a_line_for_each_edge(serve: Serve) -> None:
    service, _ = broken()
    client = serve(service)
    page = read(client, "/graph")
    labels = {a["aria-label"] for tag, a in page.elements if tag == "a" and "aria-label" in a}
    assert "images/failing, failed" in labels
    assert "images/app, blocked" in labels
    assert len(labels) == 6
    assert sum(tag == "path" for tag, _ in page.elements) == 5
    around = read(client, "/graph?around=images/leaf")
    boxes = {a["aria-label"] for tag, a in around.elements if tag == "a" and "aria-label" in a}
    assert boxes == {"images/leaf, fresh", "images/busy, building", "images/base, fresh"}


def test_of_a_large_graph_what_is_not_fresh_is_drawn_with_what_it_is_built_from(serve: Serve) -> None:
    edges = [(f"images/{number:04}", "images/base") for number in range(400)]
    service = ShownService(edges)
    client = serve(service)
    assert "All 401 images are as they should be." in read(client, "/graph").text
    service.move("images/0007")  # Nothing is built from it: it moved, and nobody is stale.
    build(service, "images/0009", 5, NOW - 10)
    page = read(client, "/graph")
    labels = {a["aria-label"] for tag, a in page.elements if tag == "a" and "aria-label" in a}
    assert labels == {"images/0009, building", "images/base, fresh"}


def test_a_cascade_tells_what_changed_what_followed_and_what_waits(serve: Serve, store: Store) -> None:
    service, rows = broken()
    write_builds(store, *rows)
    page = read(serve(service), "/cascades")
    assert "images/base moved 2023-11-14 22:05 UTC, 3 builds, some of them run, 3 still waiting" in page.text
    assert [row[:2] for row in page.rows[1:]] == [
        ["images/failing", "failed"],
        ["images/built", "success"],
        ["images/busy", "running"],
    ]
    assert page.rows[1][3] == "1 min 30 s"
    waiting = page.text.partition("Still waiting")[2]
    assert "✕ failed images/failing no space left" in waiting
    assert "⊘ blocked images/app blocked by images/failing" in waiting
    assert "✓ fresh images/leaf waits for images/busy" in waiting


def test_an_empty_service_says_so(serve: Serve) -> None:
    client = serve(ShownService([]))
    assert "There are no images yet" in read(client, "/").text
    assert "There are no images yet" in read(client, "/graph").text
    assert "Nothing that imagechain started is in the history yet." in read(client, "/cascades").text


# --- when something is away -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_before_anything_is_known_a_page_says_so_and_tries_again(
    client: TestClient, service: FakeService, path: str
) -> None:
    service.chain = None
    page = read(client, path, 503)
    assert "Nothing is known yet" in page.text
    assert "This page tries again by itself." in page.text
    assert client.get(path).headers["retry-after"] == "5"


@pytest.mark.parametrize("path", ["/images/images/app", "/cascades"])
def test_a_store_that_is_away_is_told_in_words(
    serve: Serve, store: Store, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(broken()[0])
    assert read(client, "/").rows

    async def away(*_: object) -> None:
        raise StoreError("the disk is full: make room on it")

    for name in ("builds", "cascades"):
        monkeypatch.setattr(store, name, away)
    page = read(client, path, 503)
    assert "The store does not answer" in page.text
    assert "the disk is full: make room on it" in page.text


def test_a_replica_that_cannot_read_the_store_says_so(serve: Serve) -> None:
    class Away(FakeService):
        async def known(self) -> None:
            raise StoreError("the database db.example.com does not answer: connection refused")

    page = read(serve(Away()), "/", 503)
    assert "the database db.example.com does not answer: connection refused" in page.text


# --- what others wrote ----------------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    'x" onmouseover="alert(1)',
    "x' onmouseover='alert(1)",
    "{{ 7 * 191 }}",
    "a&lt;b>/c?d#e;f g",
    "images/app@$(touch x)`id`;'",
    "…/\u202etxt.exe\u0000\u2028",
    "</title></style></textarea><svg/onload=alert(1)>",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_others_wrote_is_text_and_nothing_else(serve: Serve, store: Store, name: str) -> None:
    service = ShownService([("images/app", name)])
    assert service.chain is not None
    service.move(name)
    row = build(service, "images/app", 31, NOW - 500)
    end = BuildFinished(project="images/app", build="31", at=NOW - 400, outcome="failed", message=name)
    service.chain.apply(end)
    write_builds(
        store, BuildRow(id=name, source="images/app", status=name, cause=name, cascade=name, url=row.url)
    )
    service.problems = (Problem(file=name, line=1, message=name),)
    service.unchecked = {"r.io/x:1": name}
    service.chain.apply(Paused(project=name, at=NOW, by=name, reason=name))
    client = serve(service)
    calm = {
        tag for path in PAGES for tag, _ in read(serve(ShownService([("images/app", "b")])), path).elements
    }
    for path in (*PAGES, f"/images/{quote(name)}", f"/graph?around={quote(name, safe='')}"):
        page = read(client, path)
        assert {tag for tag, _ in page.elements} <= calm | {"li", "ul", "details", "summary", "article", "h3"}
        assert sum(tag == "script" for tag, _ in page.elements) == 1
        assert not any(attribute.startswith("on") for _, a in page.elements for attribute in a)
        assert "1337" not in page.text
    links = [link for link in read(client, "/").links if link.startswith("/images/")]
    assert f"/images/{name}" in [unquote(link) for link in links]
    for link in links:
        assert client.get(link).status_code == 200
    assert name.partition(" ")[0][:4] in read(client, "/images/images/app").text


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", " https://x", "//x", "JAVASCRIPT:x", ""]
)
def test_only_pages_are_linked_to(serve: Serve, store: Store, url: str) -> None:
    service, _ = broken()
    assert service.chain is not None
    service.chain.apply(BuildStarted(project="images/app", build="9", at=NOW, url=url))
    write_builds(
        store, BuildRow(id="9", source="images/app", status="running", cascade="c", url=url, started_at=NOW)
    )
    client = serve(service)
    for path in PAGES:
        assert all(
            link.startswith(("/", "#", "https://gitlab.example.com/")) and not link.startswith("//")
            for link in read(client, path).links
        )


@pytest.mark.parametrize("name", ["images/app", "images/app@$(touch x)`id`;'", "-rf", "a b"])
def test_commands_can_be_pasted_into_a_shell(serve: Serve, name: str) -> None:
    page = read(serve(ShownService([], [name])), f"/images/{quote(name)}")
    command = page.text.partition("imagechain rebuild ")[2].partition(" builds it")[0]
    assert shlex.split(command) == [name]


# --- headers and costs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/images/nobody", "/static/style.css", "/static/nothing"])
def test_each_answer_is_locked_down(serve: Serve, path: str) -> None:
    headers = serve(broken()[0]).get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("frame-ancestors") == "'none'"
    assert set(policy.values()) == {"'self'"}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "set-cookie" not in headers


@pytest.mark.parametrize("path", PAGES)
def test_pages_load_nothing_but_their_own_files_which_never_change(serve: Serve, path: str) -> None:
    client = serve(broken()[0])
    page = read(client, path)
    loaded = [
        a.get("src") or a.get("href", "") for tag, a in page.elements if tag in {"script", "link", "img"}
    ]
    assert len(loaded) == 3
    for address in loaded:
        answer = client.get(address)
        assert (answer.status_code, "?v=" in address) == (200, True)
        assert "immutable" in answer.headers["cache-control"]
        assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert not any("style" in attributes for _, attributes in page.elements)


@pytest.mark.parametrize("path", PAGES)
def test_what_has_not_changed_is_not_sent_again(serve: Serve, path: str) -> None:
    service, _ = broken()
    client = serve(service)
    first = client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    for etag in (first.headers["etag"], f"W/{first.headers['etag']}", f'"other", {first.headers["etag"]}'):
        again = client.get(path, headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert service.chain is not None
    service.chain.apply(Paused(project="images/app", at=NOW))
    assert client.get("/", headers={"If-None-Match": first.headers["etag"]}).status_code == 200


@pytest.mark.parametrize("host", ["[", "x y", "<script>", ""])
def test_it_does_not_matter_what_the_service_is_called(serve: Serve, host: str) -> None:
    client = serve(broken()[0])
    assert client.get("/", headers={"Host": host}).text == client.get("/").text


def test_long_ways_and_cycles_are_cut_in_the_middle(serve: Serve) -> None:
    names = [f"images/{number:03}" for number in range(300)]
    chain = [(child, parent) for parent, child in itertools.pairwise(names)]
    ring = [(f"ring/{number:03}", f"ring/{(number + 1) % 300:03}") for number in range(300)]
    service = ShownService([*chain, *ring])
    build(service, names[0], 31, NOW - 100)
    client = serve(service)
    end = read(client, f"/images/{names[-1]}")
    assert "images/005 → … 288 more … → images/294" in end.text
    for path in ("/", "/images/ring/007"):
        assert "→ … 289 more … →" in read(client, path).text


@pytest.mark.parametrize("path", PAGES)
def test_pages_only_read(serve: Serve, path: str) -> None:
    client = serve(broken()[0])
    assert client.head(path).status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, path).status_code == 405


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Known]:
    """What all images were looked at in."""
    found: list[Known] = []

    class Counted(Overview):
        def __init__(self, known: Known, notices: tuple[str, ...]) -> None:
            found.append(known)
            super().__init__(known, notices)

    monkeypatch.setattr("imagechain.web.dashboard.Overview", Counted)
    return found


def test_while_nothing_changes_images_are_looked_at_once_for_all_pages(
    serve: Serve, looks: list[Known]
) -> None:
    service, _ = broken()
    client = serve(service)
    for path in ("/", "/?q=app", "/graph", "/"):
        read(client, path)
    assert len(looks) == 1
    service.move("images/base", "v3", NOW - 5)
    read(client, "/")
    assert len(looks) == 2


def test_a_look_that_takes_long_is_not_repeated_for_each_change(
    serve: Serve, looks: list[Known], monkeypatch: pytest.MonkeyPatch
) -> None:
    spent, clock = itertools.count(0.0, 1.0), [100.0]
    monkeypatch.setattr("imagechain.web.dashboard.time.thread_time", lambda: next(spent))
    monkeypatch.setattr("imagechain.web.dashboard.time.monotonic", lambda: clock[0])
    service, _ = broken()
    client = serve(service)
    read(client, "/")
    service.move("images/base", "v3", NOW - 5)
    # It took a second, of which it may take one in twenty.
    for clock[0], count in ((100.0, 1), (119.0, 1), (120.0, 2), (139.0, 2)):
        read(client, "/")
        assert len(looks) == count


def test_of_a_large_graph_only_what_is_listed_is_told_in_full(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    original = Survey.status_of

    def counted(survey: Survey, number: int) -> SourceStatus:
        told.append(number)
        return original(survey, number)

    monkeypatch.setattr(Survey, "status_of", counted)
    edges = [(f"images/{number:05}", f"images/{number // 7:05}") for number in range(1, 20_000)]
    service = ShownService(edges)
    service.move("images/00000")
    client = serve(service)
    page = read(client, "/")
    assert f"20000 images, page 1 of {20_000 // ROWS_MAX}" in page.text
    assert len(told) == ROWS_MAX
    assert len(client.get("/").content) < 100_000
    assert len(client.get("/graph").content) < 300_000
    assert len(client.get("/images/images/00000").content) < 100_000
