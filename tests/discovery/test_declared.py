"""`.gitlab-deps` files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.trees import Chain, edges, only_message, problems
from imagechain.discovery.declared import parse_declaration

FROM = "FROM quay.io/x\n"


def declare(chain: Chain, text: str) -> Chain:
    for folder in ("images/base", "images/ruby", "tools/ruby", "app"):
        chain.write({f"{folder}/Dockerfile": FROM})
    return chain.write({"app/.gitlab-deps": text})


@pytest.mark.parametrize(
    ("entry", "parent"),
    [
        ("images/base", "images/base"),
        ("base", "images/base"),
        ("group/base", "images/base"),
        ("https://gitlab.example.com/group/sub/base", "images/base"),
        ("https://gitlab.example.com/images/ruby.git", "images/ruby"),
        ("git@gitlab.example.com:group/tools/ruby.git", "tools/ruby"),
        ("ssh://git@gitlab.example.com:22/group/tools/ruby.git@main", "tools/ruby"),
        ("group/base@stable  # why", "images/base"),
        ("  /images/base/  ", "images/base"),
    ],
)
def test_an_entry_is_the_project_that_its_path_ends_in(chain: Chain, entry: str, parent: str) -> None:
    found = declare(chain, f"# what app needs\n\n{entry}\n").discover()
    declared = [one for one in found.dependencies if one.kind == "declared"]
    assert [(one.child, one.parent, one.file, one.line, one.image, one.needed) for one in declared] == [
        ("app", parent, "app/.gitlab-deps", 3, None, True)
    ]
    assert ("app", "quay.io/x:latest", "from", 1) in edges(found)
    assert found.problems == ()


def test_the_top_project_is_named_by_its_folder(chain: Chain) -> None:
    found = chain.write(
        {"Dockerfile": FROM, "a/Dockerfile": FROM, "a/.gitlab-deps": "group/chain\n"}
    ).discover()
    assert ("a", ".", "declared", 1) in edges(found)


def test_a_first_line_makes_it_the_whole_list(chain: Chain) -> None:
    chain.write({"app/.gitlab-ci.yml": "job: {image: quay.io/ci}\n"})
    found = declare(chain, "# imagechain: only\nimages/base\nimages/ruby\n").discover()
    assert [edge for edge in edges(found) if edge[0] == "app"] == [
        ("app", "images/base", "declared", 2),
        ("app", "images/ruby", "declared", 3),
    ]
    found = declare(chain, "\n# imagechain: only\n").discover()
    assert ("app", "quay.io/x:latest", "from", 1) in edges(found)


def test_what_matches_nothing_or_several_is_a_problem_with_its_line(chain: Chain) -> None:
    found = declare(chain, "group/nothing\ngroup/ruby\nimages/ruby\n").discover()
    assert problems(found) == [("app/.gitlab-deps", 1), ("app/.gitlab-deps", 2)]
    assert "'group/nothing' is no project of this tree" in found.problems[0].message
    assert "'group/ruby' may mean images/ruby, tools/ruby" in found.problems[1].message
    assert ("app", "images/ruby", "declared", 3) in edges(found)


def test_a_file_without_a_containerfile_beside_it_is_a_problem(chain: Chain) -> None:
    found = chain.write({"a/Dockerfile": FROM, ".gitlab-deps": "a\n"}).discover()
    assert problems(found) == [(".gitlab-deps", None)]
    assert "beside" in only_message(found)


def test_a_binary_file_is_a_problem(chain: Chain) -> None:
    found = chain.write({"a/Dockerfile": FROM, "a/.gitlab-deps": b"a\0"}).discover()
    assert problems(found) == [("a/.gitlab-deps", None)]


@given(st.text(alphabet="ab/@#:. \r\n\tgit", max_size=60))
def test_any_text_is_read_and_each_entry_knows_its_line(text: str) -> None:
    declaration = parse_declaration(text)
    lines = text.splitlines()
    assert all(entry.path in lines[entry.line - 1] for entry in declaration.projects)
    assert len(declaration.projects) <= len(lines)
