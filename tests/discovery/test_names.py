"""Which files are Containerfiles, and how projects are called."""

import pytest

from discovery.trees import Chain, ids, only_message, problems

FROM = "FROM scratch\n"


@pytest.mark.parametrize(
    ("file", "project", "context"),
    [
        ("Containerfile", ".", "."),
        ("Dockerfile", ".", "."),
        ("a/b/dockerfile", "a/b", "a/b"),
        ("a/CONTAINERFILE", "a", "a"),
        ("a/Dockerfile.web", "a:web", "a"),
        ("a/web.Dockerfile", "a:web", "a"),
        ("a/Containerfile.x.Y", "a:x.Y", "a"),
        ("a/x.y.containerfile", "a:x.y", "a"),
        ("Dockerfile.web", ".:web", "."),
        ("a/Dockerfile.in", "a", "a"),
        ("a/Dockerfile.web.in", "a:web", "a"),
        ("a/web.Containerfile.IN", "a:web", "a"),
        ("builds/web.in", "builds:web", "."),
        ("a/b/builds/web.in", "a/b/builds:web", "a/b"),
        ("a/builds/Dockerfile.web.in", "a/builds:web", "a"),
        ("a/builds/Dockerfile", "a/builds", "a/builds"),
    ],
)
def test_a_containerfile_is_a_project_called_by_its_folder(
    chain: Chain, file: str, project: str, context: str
) -> None:
    found = chain.write({file: FROM}).discover()
    assert [(one.id, one.file, one.context) for one in found.projects.values()] == [(project, file, context)]
    assert [(source.id, source.kind, source.file) for source in found.sources] == [(project, "project", file)]
    assert found.problems == ()


@pytest.mark.parametrize(
    "file",
    [
        "Dockerfile.dockerignore",
        "Dockerfile.web.dockerignore",
        "Containerfile.containerignore",
        ".dockerignore",
        "Dockerfile~",
        "Dockerfile.web~",
        "Dockerfile.orig",
        "Containerfile.rej",
        "Dockerfile.swp",
        ".Dockerfile.swp",
        ".Dockerfile",
        "Dockerfile.",
        "Dockerfiles",
        "MyDockerfile",
        "Dockerfile-linux.template",
        "web.in",
        "builds/web",
        "builds/.in",
        "docker.in",
    ],
)
def test_what_only_looks_like_a_containerfile_is_none(chain: Chain, file: str) -> None:
    found = chain.write({file: FROM, "real/Dockerfile": FROM}).discover()
    assert ids(found) == ["real"]
    assert found.problems == ()


def test_templates_are_not_read_and_one_problem_says_so(chain: Chain) -> None:
    templates = ["a/Dockerfile.j2", "b/Dockerfile.template", "c/web.tmpl.Dockerfile", "d/Dockerfile.web.erb"]
    found = chain.write({**dict.fromkeys(templates, "FROM {{ base }}\n"), "real/Dockerfile": FROM}).discover()
    assert ids(found) == ["real"]
    message = only_message(found)
    assert message.startswith("4 files are templates")
    assert "a/Dockerfile.j2" in message
    assert "`files` in [chain]" in message


def test_more_file_names_come_from_the_settings(chain: Chain) -> None:
    files = ["a/base.image", "a/b/x.image.in", "t/Dockerfile.j2", "b/odd", "c/odd"]
    chain.write(dict.fromkeys(files, FROM))
    found = chain.discover({"files": ["*.image", "*.image.in", "Dockerfile.j2", "b/odd"]})
    assert ids(found) == ["a/b:x", "a:base", "b:odd", "t:j2"]
    assert found.problems == ()


def test_of_two_files_with_one_name_the_containerfile_has_it(chain: Chain) -> None:
    found = chain.write({"a/Containerfile": FROM, "a/Dockerfile": FROM, "a/dockerfile.web": FROM}).discover()
    assert {one.id: one.file for one in found.projects.values()} == {
        "a": "a/Containerfile",
        "a:Dockerfile": "a/Dockerfile",
        "a:web": "a/dockerfile.web",
    }
    assert problems(found) == [("a/Dockerfile", None)]
    assert "a/Containerfile is already 'a', so this is 'a:Dockerfile';" in only_message(found)


def test_no_file_is_lost_however_the_names_collide(chain: Chain) -> None:
    files = ["Containerfile", "Dockerfile", "Dockerfile.Dockerfile", "Dockerfile.web", "web.Dockerfile"]
    files += ["web.containerfile", "Dockerfile.Dockerfile.web"]
    found = chain.write({f"a/{file}": FROM for file in files}).discover()
    read = {one.file.removeprefix("a/") for one in found.projects.values()}
    unread = {problem.file.removeprefix("a/") for problem in found.problems if "not read" in problem.message}
    assert read | unread == set(files)
    assert not read & unread
    assert unread == {"Dockerfile.web"}


def test_nested_settings_are_said_to_be_unread(chain: Chain) -> None:
    found = chain.write({"a/Dockerfile": FROM, "a/imagechain.toml": "", "imagechain.toml": ""}).discover()
    assert problems(found) == [("a/imagechain.toml", None)]
