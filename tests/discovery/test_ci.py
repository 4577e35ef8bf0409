"""What the CI configurations of a tree add."""

from discovery.trees import Chain, edges, only_message, problems

MATRIX = """\
image: docker:28
.base:
  parallel:
    matrix:
      - VERSION: ["3.11", "3.12", "3.13"]
  script:
    - docker build --build-arg="VERSION=${VERSION}" .
build: {extends: .base}
lint: {image: "quay.io/lint:1", script: lint}
"""


def test_a_matrix_gives_one_dependency_for_each_value(chain: Chain) -> None:
    chain.write({".gitlab-ci.yml": MATRIX, "Dockerfile": "ARG VERSION=3.9\nFROM quay.io/python:$VERSION\n"})
    found = chain.discover()
    assert edges(found) == [
        (".", "quay.io/python:3.11", "from", 2),
        (".", "quay.io/python:3.12", "from", 2),
        (".", "quay.io/python:3.13", "from", 2),
        (".", "docker.io/library/docker:28", "ci-image", 1),
        (".", "quay.io/lint:1", "ci-image", 9),
    ]
    assert found.projects["."].build_args == {"VERSION": "3.11"}
    assert all(one.needed for one in found.dependencies)


def test_settings_and_the_command_line_win_over_ci(chain: Chain) -> None:
    chain.write({".gitlab-ci.yml": MATRIX, "a/Dockerfile": "ARG VERSION\nFROM quay.io/python:$VERSION\n"})

    def parents(**options: object) -> list[str | None]:
        found = chain.discover(**options)  # type: ignore[arg-type]
        return [one.parent for one in found.dependencies if one.kind == "from"]

    assert parents() == [f"quay.io/python:3.{minor}" for minor in (11, 12, 13)]
    assert parents(settings={"build_args": {"a": {"VERSION": "1"}}}) == ["quay.io/python:1"]
    assert parents(settings={"build_args": {"a": {"VERSION": "1"}}}, build_args={"VERSION": "2"}) == [
        "quay.io/python:2"
    ]


def test_values_of_one_job_are_never_mixed_with_those_of_another(chain: Chain) -> None:
    chain.write(
        {
            ".gitlab-ci.yml": """\
build:
  parallel:
    matrix:
      - {NAME: debian, TAG: ["12", "13"]}
      - {NAME: alpine, TAG: "3"}
  script: [build]
deploy: {variables: {NAME: debian}, script: [deploy]}
""",
            "Dockerfile": "ARG NAME=x\nARG TAG=y\nFROM quay.io/$NAME:$TAG\n",
        }
    )
    assert [one.image for one in chain.discover().dependencies] == [
        "quay.io/debian:12",
        "quay.io/debian:13",
        "quay.io/alpine:3",
    ]


def test_an_argument_that_decides_no_base_is_not_taken_from_ci(chain: Chain) -> None:
    chain.write(
        {
            ".gitlab-ci.yml": "variables: {A: '1', B: '2'}\njob: {script: x}\n",
            "Dockerfile": "ARG A=0\nFROM quay.io/x:$A\nARG B\nRUN echo $B\n",
        }
    )
    assert chain.discover().projects["."].build_args == {"A": "1"}


def test_a_base_that_only_ci_knows_is_found_by_the_job_that_gives_it(chain: Chain) -> None:
    ci = "lint: {script: x, variables: {C: '1'}}\nbuild: {script: x, variables: {BASE: quay.io/b}}\n"
    chain.write({".gitlab-ci.yml": ci, "Dockerfile": "ARG BASE\nFROM ${BASE:?needed}\n"})
    found = chain.discover()
    assert [one.image for one in found.dependencies] == ["quay.io/b:latest"]
    assert found.problems == ()


def test_a_configuration_speaks_of_the_projects_in_its_folder(chain: Chain) -> None:
    chain.write(
        {
            ".gitlab-ci.yml": "job: {image: quay.io/top, services: [quay.io/service], script: x}\n",
            "Dockerfile": "FROM scratch\n",
            "Dockerfile.web": "FROM scratch\n",
            "builds/tool.in": "FROM scratch\n",
            "sub/Dockerfile": "FROM scratch\n",
        }
    )
    found = chain.discover()
    assert [(one.child, one.kind, one.file, one.line) for one in found.dependencies] == [
        (child, kind, ".gitlab-ci.yml", 1)
        for child in (".", ".:web", "builds:tool")
        for kind in ("ci-image", "ci-service")
    ]


def test_a_configuration_without_a_project_beside_it_speaks_of_those_below(chain: Chain) -> None:
    chain.write(
        {
            ".gitlab-ci.yml": "job: {image: quay.io/top, script: x}\n",
            "a/Dockerfile": "FROM scratch\n",
            "b/c/Dockerfile": "FROM scratch\n",
            "d/.gitlab-ci.yml": "include: /ci/own.yml\n",
            "d/ci/own.yml": "job: {image: localhost/a, script: x}\n",
            "d/Dockerfile": "FROM scratch\n",
        }
    )
    assert [(one.child, one.parent, one.file) for one in chain.discover().dependencies] == [
        ("a", "quay.io/top:latest", ".gitlab-ci.yml"),
        ("b/c", "quay.io/top:latest", ".gitlab-ci.yml"),
        ("d", "a", "d/ci/own.yml"),
    ]


def test_includes_of_other_projects_are_external_sources(chain: Chain) -> None:
    chain.write(
        {
            ".gitlab-ci.yml": (
                "include:\n"
                "  - {project: group/ci, ref: v1, file: /build.yml}\n"
                "  - {template: A.gitlab-ci.yml}\n"
            ),
            "Dockerfile": "FROM scratch\n",
        }
    )
    found = chain.discover()
    assert edges(found) == [
        (".", "group/ci@v1:/build.yml", "ci-include", 2),
        (".", "A.gitlab-ci.yml", "ci-include", 3),
    ]
    assert [(source.id, source.kind, source.images) for source in found.sources] == [
        (".", "project", ("localhost/chain:latest",)),
        ("A.gitlab-ci.yml", "external", ()),
        ("group/ci@v1:/build.yml", "external", ()),
    ]


def test_an_image_that_only_gitlab_knows_is_a_problem_with_its_pattern(chain: Chain) -> None:
    chain.write({".gitlab-ci.yml": "job:\n  image: $CI_REGISTRY_IMAGE/x:1\n", "Dockerfile": "FROM scratch\n"})
    found = chain.discover()
    assert found.dependencies == ()
    assert problems(found) == [(".gitlab-ci.yml", 2)]
    assert "$CI_REGISTRY_IMAGE/x:1" in only_message(found)


def test_a_wrong_configuration_is_a_problem_and_the_rest_goes_on(chain: Chain) -> None:
    chain.write({"a/.gitlab-ci.yml": "job: [\n", "a/Dockerfile": "FROM quay.io/x\n"})
    chain.write(
        {
            "b/.gitlab-ci.yml": "include: x.yml\n",
            "b/x.yml": "\njob: {image: 1}\n",
            "b/Dockerfile": "FROM scratch\n",
        }
    )
    chain.write({"c/.gitlab-ci.yml": "job: {image: 'A B'}", "c/Dockerfile": "FROM scratch"})
    chain.write({"d/.gitlab-ci.yml": "include: $X.yml\n", "e/.gitlab-ci.yml": b"a: \0"})
    found = chain.discover()
    assert problems(found) == [
        ("a/.gitlab-ci.yml", 2),
        ("b/x.yml", 2),
        ("c/.gitlab-ci.yml", 1),
        ("d/.gitlab-ci.yml", 1),
        ("e/.gitlab-ci.yml", None),
    ]
    assert edges(found) == [("a", "quay.io/x:latest", "from", 1)]


def test_local_includes_are_found_by_wildcards_and_never_outside_the_tree(chain: Chain) -> None:
    (chain.top.parent / "secret.yml").write_text("job: {image: quay.io/secret}\n")
    chain.write({"Dockerfile": "FROM scratch\n", "ci/a.yml": "a: {image: quay.io/a}\n", "ci/b.txt": ""})
    chain.write({".gitlab-ci.yml": "include: ci/*.yml\n"})
    assert [one.image for one in chain.discover().dependencies] == ["quay.io/a:latest"]
    (chain.top / "ci/link.yml").symlink_to(chain.top.parent / "secret.yml")
    found = chain.discover()
    assert found.dependencies == ()
    assert "ci/link.yml does not exist, or cannot be read" in only_message(found)


def test_a_value_that_makes_no_image_is_a_problem_and_the_others_count(chain: Chain) -> None:
    ci = "build:\n  parallel:\n    matrix:\n      - BASE: ['a b', quay.io/x, quay.io/y]\n  script: x\n"
    chain.write({".gitlab-ci.yml": ci, "Dockerfile": "ARG BASE\nFROM $BASE\n"})
    found = chain.discover()
    assert [one.image for one in found.dependencies] == ["quay.io/x:latest", "quay.io/y:latest"]
    assert found.projects["."].build_args == {"BASE": "quay.io/x"}
    assert problems(found) == [("Dockerfile", 2)]


def test_a_configuration_that_another_includes_is_a_part_of_it(chain: Chain) -> None:
    """In a repository of many images the folders' own files extend jobs of the top one."""
    job = "{name}:\n  extends: .build\n  image: quay.io/{name}\n  variables: {{VERSION: '{version}'}}\n"
    chain.write(
        {
            ".gitlab-ci.yml": (
                "include: '*/.gitlab-ci.yml'\n"
                ".build: {script: build, services: [quay.io/service]}\n"
                "lint: {image: quay.io/lint}\n"
            ),
            "a/.gitlab-ci.yml": job.format(name="a", version=1),
            "b/.gitlab-ci.yml": job.format(name="b", version=2),
            "c/Dockerfile": "FROM scratch\n",
        }
    )
    for folder in "ab":
        chain.write({f"{folder}/Dockerfile": "ARG VERSION\nFROM quay.io/base:$VERSION\n"})
    found = chain.discover()
    assert found.problems == ()
    assert edges(found) == [
        ("a", "quay.io/base:1", "from", 2),
        ("a", "quay.io/a:latest", "ci-image", 3),
        ("a", "quay.io/service:latest", "ci-service", 2),
        ("b", "quay.io/base:2", "from", 2),
        ("b", "quay.io/b:latest", "ci-image", 3),
        ("b", "quay.io/service:latest", "ci-service", 2),
        ("c", "quay.io/lint:latest", "ci-image", 3),
    ]
