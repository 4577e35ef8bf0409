"""Section 7 of the contract, points 6, 8 and 10: pages, moved projects, limits, privacy."""

import base64
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from imagechain.testing import Role
from imagechain.testing.server import serving
from testing.gitlab_world import CI, World

BASE = "projects/images%2Fbase"


def links(answer: httpx2.Response) -> dict[str, str]:
    parts = [part.split("; ") for part in answer.headers["link"].split(", ")]
    return {rel[5:-1]: url[1:-1] for url, rel in parts}


def many_projects(count: int, **settings: Any) -> World:
    world = World(**settings)
    for number in range(count - 1):
        world.gitlab.add_project(f"images/p{number}")
    return world


# --- pages


def test_a_page_has_at_most_a_hundred_rows_and_all_headers() -> None:
    world = many_projects(250)
    answer = world.ask("GET", "groups/images/projects", params={"per_page": 1000, "simple": True})
    assert len(answer.json()) == 100
    names = ("x-page", "x-next-page", "x-prev-page", "x-per-page", "x-total", "x-total-pages")
    assert [answer.headers[name] for name in names] == ["1", "2", "", "100", "250", "3"]
    assert links(answer).keys() == {"next", "first", "last"}


def test_following_the_links_finds_every_project_once() -> None:
    world = many_projects(45)
    path: str | None = "groups/images/projects?simple=true&order_by=id&sort=asc&per_page=20"
    found: list[int] = []
    while path is not None:
        answer = world.ask("GET", path)
        found += [project["id"] for project in answer.json()]
        following = links(answer).get("next")
        path = None if following is None else following.partition("/api/v4/")[2]
    assert found == sorted(world.gitlab.state.projects)
    assert answer.headers["x-next-page"] == ""


def test_totals_are_left_out_where_there_are_very_many_rows() -> None:
    world = many_projects(45, totals_rows_max=40)
    answer = world.ask("GET", "groups/images/projects")
    assert not {"x-total", "x-total-pages"} & answer.headers.keys()
    assert links(answer).keys() == {"next", "first"}


def test_keyset_pages_of_a_tree_link_only_to_the_next() -> None:
    world = World()
    world.gitlab.push("images/base", {f"f{number}": "x" for number in range(30)})
    params = {"pagination": "keyset", "per_page": 20}
    first = world.ask("GET", f"{BASE}/repository/tree", params=params)
    assert links(first).keys() == {"next"}
    second = world.ask("GET", links(first)["next"].partition("/api/v4/")[2])
    assert "link" not in second.headers
    assert len(first.json()) + len(second.json()) == 32


# --- projects


def test_a_moved_project_redirects_reads_and_refuses_writes() -> None:
    world = World()
    world.gitlab.move_project("images/base", "images/sub/debian")
    answer = world.ask("GET", f"{BASE}/pipelines", params={"ref": "main"})
    assert answer.status_code == 301
    assert answer.headers["location"].endswith("/api/v4/projects/1/pipelines?ref=main")
    assert world.ask("POST", f"{BASE}/pipeline", json={"ref": "main"}).status_code == 405
    assert world.ask("GET", "projects/images%2Fsub%2Fdebian").json()["id"] == 1


@pytest.mark.parametrize("token", [None, "stranger"])
def test_what_one_may_not_see_is_not_found(token: str | None) -> None:
    world = World()
    if token is not None:
        token = world.gitlab.add_token(world.gitlab.add_user(token)).value
    for path in (BASE, f"{BASE}/pipelines", "groups/images/projects", f"{BASE}/repository/tree"):
        assert world.ask("GET", path, token=token).status_code == 404
    world.gitlab.move_project("images/base", "images/other")
    assert world.ask("GET", BASE, token=token).status_code == 404
    assert world.ask("GET", "projects", token=token).json() == []


def test_a_wrong_expired_or_revoked_token_is_refused_even_for_public_projects() -> None:
    world = World()
    world.gitlab.add_project("images/open", visibility="public", files={"a": "1"})
    path = "projects/images%2Fopen"
    assert world.ask("GET", path, token=None).status_code == 200
    old = world.gitlab.add_token(world.bot, expires_at=world.clock.now - 1)
    assert world.ask("GET", path, token="glpat-nonsense").status_code == 401
    answer = world.ask("GET", path, token=old.value)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
    rotated = world.ask("POST", "personal_access_tokens/self/rotate").json()["token"]
    assert world.ask("GET", path).status_code == 401
    assert world.ask("GET", path, token=rotated).status_code == 200


def test_scopes_open_only_what_they_are_for() -> None:
    world = World()
    reading = world.member(Role.OWNER, scopes=("read_api",))
    files = world.member(Role.OWNER, scopes=("read_repository",))
    file = f"{BASE}/repository/files/Containerfile/raw"
    wanted = [(reading, BASE, 200), (files, BASE, 403), (files, file, 200), (reading, file, 200)]
    for token, path, status in wanted:
        assert world.ask("GET", path, token=token).status_code == status
    answer = world.ask("POST", f"{BASE}/pipeline", token=reading, json={"ref": "main"})
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", f"{BASE}/repository/tree", Role.REPORTER),
        ("GET", f"{BASE}/pipelines", Role.REPORTER),
        ("POST", f"{BASE}/pipeline", Role.DEVELOPER),
        ("GET", f"{BASE}/hooks", Role.MAINTAINER),
        ("GET", f"{BASE}/triggers", Role.MAINTAINER),
        ("DELETE", f"{BASE}/pipelines/1", Role.OWNER),
    ],
)
def test_a_role_too_low_is_forbidden(method: str, path: str, least: Role) -> None:
    roles = [Role.GUEST, Role.REPORTER, Role.DEVELOPER, Role.MAINTAINER, Role.OWNER]
    for role in roles:
        world = World()
        answer = world.ask(method, path, token=world.member(role))
        assert (answer.status_code == 403) == (role < least), role


def test_archived_and_shared_projects_can_be_left_out() -> None:
    world = World()
    world.gitlab.add_project("images/old").archived = True
    group = world.gitlab.add_group("guests")
    world.gitlab.add_project("elsewhere/x", members={world.bot: Role.OWNER}).shared_with.add(group.id)
    assert len(world.ask("GET", "groups/images/projects").json()) == 2
    kept = world.ask("GET", "groups/images/projects", params={"archived": False}).json()
    assert [project["path"] for project in kept] == ["base"]
    token = world.gitlab.add_token(world.gitlab.root).value
    assert len(world.ask("GET", "groups/guests/projects", token=token).json()) == 1
    alone = world.ask("GET", "groups/guests/projects", token=token, params={"with_shared": False})
    assert alone.json() == []
    made = world.ask("POST", "projects/images%2Fold/pipeline", json={"ref": "main"})
    assert made.status_code == 403


def test_an_empty_repository_has_no_default_branch_and_no_tree() -> None:
    world = World()
    world.gitlab.add_project("images/empty")
    path = "projects/images%2Fempty"
    shown = world.ask("GET", path).json()
    assert (shown["default_branch"], shown["empty_repo"]) == (None, True)
    assert world.ask("GET", f"{path}/repository/tree").status_code == 404
    assert world.ask("GET", f"{path}/ci/lint").json() == {"message": "404 Repository Not Found"}


# --- files


def test_ids_are_those_that_git_computes(tmp_path: Path) -> None:
    world = World()
    files = {"b/c.txt": "c", "b.txt": "b", "a": "\0binary", "b-d/x": "x"}
    world.gitlab.push("images/base", files)
    head = world.base.head
    assert head is not None
    for path, file in head.files.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    assert git("write-tree") == head.tree
    listed = git("ls-tree", "-r", "-t", head.tree).splitlines()
    shown = world.ask("GET", f"{BASE}/repository/tree", params={"recursive": True}).json()
    wanted = {tuple(line.replace("\t", " ").split(" ")) for line in listed}
    assert {(entry["mode"], entry["type"], entry["id"], entry["path"]) for entry in shown} == wanted


def test_a_file_is_the_same_as_json_raw_and_head() -> None:
    world = World()
    first = world.gitlab.push("images/base", {"d/x y": "text"})
    world.gitlab.push("images/base", {"other": "1"})
    path = f"{BASE}/repository/files/d%2Fx%20y"
    shown = world.ask("GET", path, params={"ref": "main"}).json()
    head = world.ask("HEAD", path, params={"ref": "main"})
    raw = world.ask("GET", f"{path}/raw")
    assert base64.b64decode(shown["content"]) == raw.content == b"text"
    assert shown["content_sha256"] == hashlib.sha256(b"text").hexdigest()
    assert shown["last_commit_id"] == first.sha == head.headers["x-gitlab-last-commit-id"]
    assert shown["blob_id"] == head.headers["x-gitlab-blob-id"]
    assert (head.headers["x-gitlab-size"], head.content) == ("4", b"")


@pytest.mark.parametrize(
    ("path", "status", "answer"),
    [
        ("files/x/raw", 404, {"message": "404 File Not Found"}),
        ("files/Containerfile?ref=gone", 404, {"message": "404 Commit Not Found"}),
        ("files/Containerfile", 400, {"error": "ref is missing"}),
        ("tree?path=none", 404, {"message": "404 Tree Not Found"}),
        ("tree?ref=gone", 404, {"message": "404 Tree Not Found"}),
        ("branches/gone", 404, {"message": "404 Branch Not Found"}),
        ("tree?per_page=x", 400, {"error": "per_page is invalid"}),
    ],
)
def test_errors_have_gitlabs_shapes(path: str, status: int, answer: object) -> None:
    found = World().ask("GET", f"{BASE}/repository/{path}")
    assert (found.status_code, found.json()) == (status, answer)


def test_a_commit_of_actions_creates_updates_moves_and_deletes_or_does_nothing() -> None:
    world = World()

    def commit(*actions: dict[str, str]) -> httpx2.Response:
        data = {"branch": "main", "commit_message": "m", "actions": list(actions)}
        return world.ask("POST", f"{BASE}/repository/commits", json=data)

    made = commit(
        {
            "action": "create",
            "file_path": "new",
            "content": base64.b64encode(b"1").decode(),
            "encoding": "base64",
        },
        {"action": "update", "file_path": "Containerfile", "content": "FROM b"},
        {"action": "move", "file_path": "ci.yml", "previous_path": ".gitlab-ci.yml"},
    )
    assert made.status_code == 201
    head = world.base.head
    assert head is not None
    assert {path: file.content for path, file in head.files.items()} == {
        "new": b"1",
        "Containerfile": b"FROM b",
        "ci.yml": CI.encode(),
    }
    for wrong in ({"action": "create", "file_path": "new"}, {"action": "delete", "file_path": "gone"}):
        assert commit({"action": "delete", "file_path": "new"}, wrong).status_code == 400
    assert world.base.head == head


# --- limits and faults


def test_the_general_limit_answers_in_text_with_all_headers_and_tells_of_itself_before() -> None:
    world = World(requests_per_minute_max=2)
    first, _, third = (world.ask("GET", BASE) for _ in range(3))
    assert (first.headers["ratelimit-observed"], first.headers["ratelimit-remaining"]) == ("1", "1")
    assert (third.status_code, third.text) == (429, "Retry later\n")
    assert third.headers["content-type"].startswith("text/plain")
    assert {"retry-after", "ratelimit-reset", "ratelimit-resettime"} <= third.headers.keys()
    world.clock.now += 61
    assert world.ask("GET", BASE).status_code == 200


def test_an_application_limit_answers_in_json_without_the_other_headers() -> None:
    world = World(notes_per_minute_max=1)
    world.gitlab.push("images/base", {"a": "1"}, branch="topic")
    world.gitlab.collaboration.open_merge_request(world.base, author=world.bot, source="topic")
    path = f"{BASE}/merge_requests/1/notes"
    answers = [world.ask("POST", path, json={"body": "b"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 429]
    assert answers[1].headers["retry-after"] == "60"
    assert "message" in answers[1].json()
    assert not [name for name in answers[1].headers if name.startswith("ratelimit")]


def test_a_lost_request_is_not_carried_out_and_a_lost_answer_is() -> None:
    world = World()
    faults = world.gitlab.state.faults
    faults.request_lost = 1.0
    with pytest.raises(httpx2.ReadTimeout):
        world.ask("POST", f"{BASE}/pipeline", json={"ref": "main"})
    assert len(world.base.pipelines) == 0
    faults.request_lost, faults.answer_lost = 0.0, 1.0
    with pytest.raises(httpx2.ReadTimeout):
        world.ask("POST", f"{BASE}/pipeline", json={"ref": "main"})
    assert len(world.base.pipelines) == 1


@pytest.mark.parametrize(("fault", "made"), [("request_lost", 0), ("answer_lost", 1)])
def test_over_a_socket_a_lost_answer_never_comes(fault: str, made: int) -> None:
    world = World()
    setattr(world.gitlab.state.faults, fault, 1.0)
    with (
        serving(world.gitlab) as url,
        httpx2.Client(base_url=url, headers={"PRIVATE-TOKEN": world.token}, trust_env=False) as client,
    ):
        with pytest.raises(httpx2.ReadTimeout):
            client.post(f"/api/v4/{BASE}/pipeline", json={"ref": "main"}, timeout=0.2)
        world.gitlab.state.faults.hang_seconds_max = 0.05
        assert client.get(f"/api/v4/{BASE}", timeout=5).status_code == 504
    assert len(world.base.pipelines) == made


def answers_under_faults(seed: int) -> list[int]:
    world = World(seed)
    faults = world.gitlab.state.faults
    faults.error, faults.limit_text, faults.limit_json = 0.3, 0.2, 0.1
    return [world.ask("GET", BASE).status_code for _ in range(100)]


def test_a_seed_repeats_the_faults_and_all_kinds_of_them_come() -> None:
    assert answers_under_faults(3) == answers_under_faults(3)
    assert {200, 429, 500, 502, 503} == set(answers_under_faults(3))


def test_unknown_paths_and_methods_are_refused() -> None:
    world = World()
    assert world.ask("GET", "nonsense").status_code == 404
    assert world.ask("DELETE", "version").status_code == 405
    assert world.ask(
        "POST", f"{BASE}/pipeline", content=b"{", headers={"Content-Type": "application/json"}
    ).json() == {"error": "Invalid json"}


# --- the rest


def test_only_the_call_for_one_tag_has_the_digest() -> None:
    world = World()
    digest = "sha256:" + "1" * 64
    world.gitlab.set_image("images/base", "latest", digest)
    world.gitlab.set_image("images/base", "1", digest, name="slim")
    first, second = world.ask("GET", f"{BASE}/registry/repositories").json()
    assert (first["path"], second["path"]) == ("images/base", "images/base/slim")
    assert second["location"] == "registry.example.com/images/base/slim"
    path = f"{BASE}/registry/repositories/{first['id']}/tags"
    [tag] = world.ask("GET", path).json()
    assert tag.keys() == {"name", "path", "location"}
    assert world.ask("GET", f"{path}/latest").json()["digest"] == digest
    assert len(world.ask("GET", "groups/images/registry/repositories").json()) == 2


def test_filters_of_deployments_are_coupled_to_their_order() -> None:
    world = World()
    head = world.base.head
    assert head is not None
    data = {"environment": "prod", "sha": head.sha, "ref": "main", "tag": False, "status": "success"}
    assert world.ask("POST", f"{BASE}/deployments", json=data).status_code == 201
    params = {"updated_after": "2020-01-01T00:00:00Z"}
    assert world.ask("GET", f"{BASE}/deployments", params=params).status_code == 400
    found = world.ask("GET", f"{BASE}/deployments", params={**params, "order_by": "updated_at"}).json()
    assert [row["environment"]["name"] for row in found] == ["prod"]
    [environment] = world.ask("GET", f"{BASE}/environments").json()
    assert environment["tier"] == "production"


def test_a_note_of_quick_actions_alone_is_no_note() -> None:
    world = World()
    world.gitlab.push("images/base", {"a": "1"}, branch="topic")
    world.gitlab.collaboration.open_merge_request(world.base, author=world.bot, source="topic")
    answer = world.ask("POST", f"{BASE}/merge_requests/1/notes", json={"body": "/close"})
    assert (answer.status_code, "id" in answer.json()) == (202, False)
