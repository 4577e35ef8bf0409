"""Section 7 of the contract, point 9: GraphQL with all of its limits."""

import base64
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.testing import Role
from imagechain.testing.graphql.answer import complexity
from imagechain.testing.graphql.language import Field, QueryError, parse_query
from testing.gitlab_world import World

QUERY = """
query($g: ID!, $after: String, $n: Int!, $paths: [String!]!, $p: Int!) {
  group(fullPath: $g) {
    projects(includeSubgroups: true, includeArchived: false, first: $n, after: $after) {
      pageInfo { hasNextPage endCursor }
      nodes { id fullPath archived
        repository { rootRef
          blobs(paths: $paths, first: $p) { nodes { path oid size rawTextBlob } } } } } }
  queryComplexity { score limit }
}"""


def ask(world: World, *, n: int = 100, paths: tuple[str, ...] = ("a",), after: str | None = None) -> Any:
    return world.query(QUERY, g="images", n=n, paths=list(paths), p=max(len(paths), 1), after=after)


@pytest.mark.parametrize(
    ("projects", "paths", "score"),
    [
        (100, 5, 67), (100, 10, 79), (100, 20, 107), (100, 40, 173),
        (50, 5, 50), (50, 10, 59), (50, 20, 80), (50, 40, 130),
        (25, 5, 42), (25, 10, 49), (25, 20, 67), (25, 40, 108),
    ],
)  # fmt: skip
def test_the_complexity_is_that_of_the_contract(projects: int, paths: int, score: int) -> None:
    answer = ask(World(), n=projects, paths=tuple(f"f{number}" for number in range(paths)))
    assert answer["data"]["queryComplexity"] == {"score": score + 3, "limit": 250}


@pytest.mark.parametrize(("projects", "most"), [(100, 58), (50, 75), (25, 88)])
def test_a_query_above_the_complexity_is_refused(projects: int, most: int) -> None:
    query = QUERY.replace("queryComplexity { score limit }", "")
    for paths, refused in [(most, False), (most + 1, True)]:
        names = [f"f{number}" for number in range(paths)]
        answer = World().query(query, g="images", n=projects, paths=names, p=paths, after=None)
        assert ("exceeds max complexity of 250" in str(answer.get("errors"))) == refused


def test_a_list_without_a_size_counts_as_a_hundred() -> None:
    def cost(arguments: dict[str, Any]) -> int:
        nodes = Field(name="nodes", alias="nodes", arguments={}, fields=(_leaf("path"),))
        blobs = Field(name="blobs", alias="b", arguments={"paths": ["a"], **arguments}, fields=(nodes,))
        return complexity(blobs, "Repository")

    assert cost({}) == cost({"first": 100}) == cost({"first": 1000}) == 10
    assert cost({"first": 1}) == 5


def _leaf(name: str) -> Field:
    return Field(name=name, alias=name, arguments={}, fields=())


def test_a_page_has_at_most_a_hundred_projects_and_the_cursor_leads_on() -> None:
    world = World()
    for number in range(129):
        world.gitlab.add_project(f"images/sub/p{number}")
    found, after = [], None
    for size in (100, 30):
        page = ask(world, n=1000, after=after)["data"]["group"]["projects"]
        assert len(page["nodes"]) == size
        found += [node["fullPath"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
    assert page["pageInfo"]["hasNextPage"] is False
    assert len(set(found)) == 130


def test_paths_that_are_not_there_are_left_out_and_binary_files_have_no_text() -> None:
    world = World()
    world.gitlab.push("images/base", {"bin": b"\0\1", "text": "ü"})
    [node] = ask(world, paths=("bin", "gone", "text"))["data"]["group"]["projects"]["nodes"]
    blobs = node["repository"]["blobs"]["nodes"]
    assert [(blob["path"], blob["size"], blob["rawTextBlob"]) for blob in blobs] == [
        ("bin", "2", None),
        ("text", "2", "ü"),
    ]


def test_ids_of_blobs_are_those_of_the_rest_api() -> None:
    world = World()
    [node] = ask(world, paths=("Containerfile",))["data"]["group"]["projects"]["nodes"]
    path = "projects/1/repository/files/Containerfile"
    shown = world.ask("GET", path, params={"ref": "HEAD"}).json()
    assert node["repository"]["blobs"]["nodes"][0]["oid"] == shown["blob_id"]


def test_more_than_twenty_megabytes_of_one_project_are_an_error_and_the_rest_is_answered() -> None:
    world = World()
    world.gitlab.add_project("images/small", files={"a": "1", "b": "2"})
    large = "x" * (11 * 1024 * 1024)
    world.gitlab.push("images/base", {"a": large, "b": large})
    answer = ask(world, paths=("a", "b"))
    assert "Max blobs size limit exceeded (22 MB / 20 MB)." in answer["errors"][0]["message"]
    small, base = answer["data"]["group"]["projects"]["nodes"]
    assert base["repository"]["blobs"] is None
    assert len(small["repository"]["blobs"]["nodes"]) == 2
    world.gitlab.push("images/base", {"a": large * 2})
    [_, alone] = ask(world, paths=("a",))["data"]["group"]["projects"]["nodes"]
    assert alone["repository"]["blobs"]["nodes"][0]["size"] == str(2 * len(large))


def test_sizes_alone_may_be_asked_of_any_number_of_bytes() -> None:
    world = World()
    large = "x" * (11 * 1024 * 1024)
    world.gitlab.push("images/base", {"a": large, "b": large})
    query = QUERY.replace("size rawTextBlob", "size")
    answer = world.query(query, g="images", n=1, paths=["a", "b"], p=2, after=None)
    assert "errors" not in answer


def test_without_the_right_to_read_code_the_repository_is_null_and_no_error() -> None:
    world = World()
    token = world.member(Role.GUEST)
    query = "query($p: ID!) { project(fullPath: $p) { fullPath repository { rootRef } } }"
    answer = world.query(query, token=token, p="images/base")
    assert answer == {"data": {"project": {"fullPath": "images/base", "repository": None}}}


def test_what_one_may_not_see_is_null() -> None:
    world = World()
    stranger = world.gitlab.add_token(world.gitlab.add_user("stranger")).value
    query = "query($g: ID!, $p: ID!) { group(fullPath: $g) { id } project(fullPath: $p) { id } }"
    for token in (stranger, None):
        answer = world.query(query, token=token, g="images", p="images/base")
        assert answer == {"data": {"group": None, "project": None}}


@pytest.mark.parametrize("token", ["glpat-wrong", "files"])
def test_a_wrong_token_or_scope_is_refused(token: str) -> None:
    world = World()
    if token == "files":
        token = world.member(Role.OWNER, scopes=("read_repository",))
    assert world.query("{ currentUser { username } }", token=token) == {
        "errors": [{"message": "Invalid token"}]
    }


def test_archived_projects_are_there_unless_left_out_and_subgroups_only_if_asked_for() -> None:
    world = World()
    world.gitlab.add_project("images/old").archived = True
    world.gitlab.add_project("images/sub/deep")

    def paths(arguments: str) -> set[str]:
        text = f'{{ group(fullPath: "images") {{ projects(first: 9{arguments}) {{ nodes {{ path }} }} }} }}'
        return {node["path"] for node in world.query(text)["data"]["group"]["projects"]["nodes"]}

    assert paths("") == {"base", "old"}
    assert paths(", includeArchived: false") == {"base"}
    assert paths(", includeSubgroups: true") == {"base", "old", "deep"}
    assert paths(', ids: ["gid://gitlab/Project/1"]') == {"base"}


def test_a_tree_is_listed_in_pages_with_the_newest_commit() -> None:
    world = World()
    commit = world.gitlab.push("images/base", {f"d/f{number:03}": "x" for number in range(120)})
    query = """query($p: ID!, $after: String) { project(fullPath: $p) { repository { tree(recursive: true) {
        lastCommit { sha } trees { nodes { path } }
        blobs(first: 100, after: $after) { pageInfo { hasNextPage endCursor } nodes { path sha mode } }
        } } } }"""
    first = world.query(query, p="images/base", after=None)["data"]["project"]["repository"]["tree"]
    assert first["lastCommit"]["sha"] == commit.sha
    assert (first["trees"]["nodes"], len(first["blobs"]["nodes"])) == ([{"path": "d"}], 100)
    cursor = first["blobs"]["pageInfo"]["endCursor"]
    second = world.query(query, p="images/base", after=cursor)["data"]["project"]["repository"]["tree"]
    assert len(second["blobs"]["nodes"]) == 22
    assert second["blobs"]["pageInfo"]["hasNextPage"] is False


def test_pipelines_are_listed_newest_first_and_filtered() -> None:
    world = World()
    for number in range(3):
        world.clock.now += 10
        world.gitlab.push("images/base", {"a": str(number)})
    world.gitlab.pipelines.finish(world.base.pipelines[1])
    query = """query($p: ID!, $t: Time) { project(fullPath: $p) { pipelines(first: 5, updatedAfter: $t) {
        nodes { id status refPath source } } } }"""
    nodes = world.query(query, p="images/base", t=None)["data"]["project"]["pipelines"]["nodes"]
    assert [node["id"].rpartition("/")[2] for node in nodes] == ["3", "2", "1"]
    assert [node["status"] for node in nodes] == ["PENDING", "PENDING", "SUCCESS"]
    assert nodes[0]["refPath"] == "refs/heads/main"
    late = world.query(query, p="images/base", t="2100-01-01T00:00:00Z")
    assert late["data"]["project"]["pipelines"]["nodes"] == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "Unexpected end"),
        ("{ nonsense }", "doesn't exist on type 'Query'"),
        ("{ currentUser }", "must have selections"),
        ("{ currentUser { id { x } } }", "can't have selections"),
        ("{ group { id } }", "missing required arguments: fullPath"),
        ('{ group(fullPath: "a", x: 1) { id } }', "doesn't accept argument 'x'"),
        ("query($a: ID!) { currentUser { id } }", "invalid value"),
        ("query($a: ID) { currentUser { id } }", "declared by anonymous query but not used"),
        ("{ group(fullPath: $a) { id } }", "used by anonymous query but not declared"),
        ("query($a: String) { group(fullPath: $a) { id } }", "Type mismatch"),
        ("mutation { x }", "queries only"),
        ("{ ...f } fragment f on Query { id }", "no fragments"),
        ("{ currentUser @skip { id } }", "no directives"),
        ("{ currentUser { id } } { x }", "one operation"),
        ("{ " + "currentUser { id } " * 600 + "}", "too large"),
        ("{ a" + "{ a " * 60, "nested too deeply"),
        ("{ currentUser { id } } ~", "Parse error"),
    ],
)
def test_a_wrong_query_is_an_error_with_status_200(query: str, message: str) -> None:
    answer = World().query(query)
    assert message in answer["errors"][0]["message"]
    assert "data" not in answer


def test_a_cursor_of_nothing_is_an_error_of_its_field() -> None:
    after = base64.b64encode(b'{"id": "77"}').decode()
    answer = ask(World(), after=after)
    assert answer["errors"][0] == {"message": "Invalid cursor", "path": ["group", "projects"]}


def test_several_queries_may_be_asked_at_once_and_fields_may_have_other_names() -> None:
    world = World()
    body = [{"query": "{ me: currentUser { name: username } }"}, {"query": "{ metadata { version } }"}]
    answer = world.query_many(body)
    assert answer == [{"data": {"me": {"name": "bot"}}}, {"data": {"metadata": {"version": "19.0.0"}}}]


@given(st.text(alphabet='{}()[]$:!="ab1, \n#.@', max_size=60))
def test_any_text_is_read_or_refused_with_a_message(text: str) -> None:
    with contextlib.suppress(QueryError):
        assert parse_query(text).fields
