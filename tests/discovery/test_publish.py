"""What projects publish, and with which build arguments they are built."""

import pytest

from discovery.trees import Chain, problems

FROM = "FROM scratch\n"


def images(chain: Chain, settings: dict[str, object] | None = None) -> dict[str, tuple[str, ...]]:
    found = chain.discover(settings)
    assert found.problems == ()
    assert {source.id: source.images for source in found.sources if source.kind == "project"} == {
        one.id: one.images for one in found.projects.values()
    }
    return {one.id: one.images for one in found.projects.values()}


def test_a_folder_publishes_its_path_under_the_prefix(chain: Chain) -> None:
    files = ["Dockerfile", "Dockerfile.x", "a/B/Dockerfile", "a/Dockerfile.Web", "builds/y.in"]
    chain.write(dict.fromkeys(files, FROM))
    assert images(chain) == {
        ".": ("localhost/chain:latest",),
        ".:x": ("localhost/chain/x:latest",),
        "a/B": ("localhost/a/b:latest",),
        "a:Web": ("localhost/a/web:latest",),
        "builds:y": ("localhost/builds/y:latest",),
    }
    assert images(chain, {"prefix": "r.example.com:5000/g"})["a/B"] == ("r.example.com:5000/g/a/b:latest",)


def test_the_last_key_that_matches_names_the_images(chain: Chain) -> None:
    chain.write(dict.fromkeys(["images/a/Dockerfile", "images/b/Dockerfile", "images/b/x/Dockerfile"], FROM))
    chain.write(dict.fromkeys(["tools/Dockerfile.one", "none/Dockerfile"], FROM))
    templates = {
        "**": "quay.io/all/{path}:1",
        "images/*": "quay.io/jupyter/{name}:latest",
        "images/b": ["quay.io/b/{path}", "docker.io/library/b:2", "b:2"],
        "tools/Dockerfile.*": "quay.io/tools/{name}",
        "none": [],
    }
    assert images(chain, {"images": templates}) == {
        "images/a": ("quay.io/jupyter/a:latest",),
        "images/b": ("quay.io/b/images/b:latest", "docker.io/library/b:2"),
        "images/b/x": ("quay.io/all/images/b/x:1",),
        "none": (),
        "tools:one": ("quay.io/tools/one:latest",),
    }


def test_build_arguments_of_all_keys_are_merged_and_the_command_line_wins(chain: Chain) -> None:
    chain.write({"images/a/Dockerfile": FROM, "images/b/Dockerfile": FROM})
    settings = {"build_args": {"**": {"A": "1", "B": "1"}, "images/b": {"B": "2", "C": "2"}}}
    found = chain.discover(settings, build_args={"C": "3"})
    assert {one.id: dict(one.build_args) for one in found.projects.values()} == {
        "images/a": {"A": "1", "B": "1", "C": "3"},
        "images/b": {"A": "1", "B": "2", "C": "3"},
    }


def test_a_key_that_matches_nothing_is_a_problem(chain: Chain) -> None:
    chain.write({"images/a/Dockerfile": FROM})
    templates = {"image/*": "x/{name}", "images/*": "y/{name}", "images/a": "z"}
    found = chain.discover({"images": templates, "build_args": {"images": {}}})
    assert problems(found) == [("imagechain.toml", None)] * 2
    assert sorted(problem.message.partition("]")[0] for problem in found.problems) == [
        "'image/*' in [chain.images",
        "'images' in [chain.build_args",
    ]


@pytest.mark.parametrize("folder", ["my app", "_x", "a..b", "ünï", "a--b-"])
def test_a_folder_without_a_valid_image_name_is_a_problem(chain: Chain, folder: str) -> None:
    chain.write({f"{folder}/Dockerfile": FROM})
    found = chain.discover()
    assert found.projects[folder].images == ()
    assert problems(found) == [(f"{folder}/Dockerfile", None)]
    assert f'[chain.images] in imagechain.toml: "{folder}" = "localhost/' in found.problems[0].message
    assert chain.discover({"images": {folder: "localhost/x"}}).problems == ()


def test_two_projects_that_publish_one_reference_are_a_problem_and_the_first_keeps_it(chain: Chain) -> None:
    chain.write({"b/Dockerfile": FROM, "a/Dockerfile": FROM, "c/Dockerfile": "FROM x:1\n"})
    found = chain.discover({"images": {"[ab]": "no", "a": ["x:1", "y:1"], "b": ["x:1", "z:1"]}})
    assert found.projects["a"].images == ("docker.io/library/x:1", "docker.io/library/y:1")
    assert found.projects["b"].images == ("docker.io/library/z:1",)
    assert [one.parent for one in found.dependencies] == ["a"]
    (problem,) = [problem for problem in found.problems if problem.file == "b/Dockerfile"]
    assert "'a' and 'b' both publish docker.io/library/x:1; 'a' keeps it" in problem.message


def test_folders_that_differ_only_in_case_publish_one_reference(chain: Chain) -> None:
    found = chain.write({"A/Dockerfile": FROM, "a/Dockerfile": FROM}).discover()
    assert problems(found) == [("a/Dockerfile", None)]
    assert "'A' and 'a' both publish localhost/a:latest" in found.problems[0].message
