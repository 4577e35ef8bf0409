"""What a CI configuration says about images."""

import textwrap

import pytest

from imagechain.ciconfig import CiConfig, CiConfigError, read_ci_config


def read(text: str, files: dict[str, str] | None = None, **variables: str) -> CiConfig:
    contents = {path: textwrap.dedent(content).encode() for path, content in (files or {}).items()}
    return read_ci_config(
        textwrap.dedent(text).encode(),
        read_local=contents.get,
        list_local=lambda: contents,
        variables=variables,
    )


def images(config: CiConfig) -> list[tuple[str, str, int]]:
    return [(image.pattern, image.file, image.line) for image in config.images]


def refused(text: str, files: dict[str, str] | None = None) -> tuple[str, int, str]:
    with pytest.raises(CiConfigError) as caught:
        read(text, files)
    return caught.value.file, caught.value.line, caught.value.message


def test_the_top_level_and_jobs_name_images_as_text_or_mapping() -> None:
    config = read("""\
        image: docker:28.0
        services:
          - docker:28.0-dind
          - name: redis:7
            alias: cache
        test:
          script: make
        lint:
          image:
            entrypoint: [""]
            name: quay.io/lint:1
          services: []
          script: lint
    """)
    assert [(i.kind, i.pattern, i.line, i.job) for i in config.images] == [
        ("ci-image", "docker:28.0", 1, "test"),
        ("ci-service", "docker:28.0-dind", 3, "test"),
        ("ci-service", "redis:7", 4, "test"),
        ("ci-image", "quay.io/lint:1", 9, "lint"),
    ]
    assert all(image.resolved for image in config.images)


def test_defaults_that_no_job_uses_are_listed_once_with_the_global_variables() -> None:
    config = read("""\
        variables: {TAG: "3"}
        default:
          image: alpine:$TAG
        build: {image: "debian:12", script: x}
    """)
    assert images(config) == [("debian:12", ".gitlab-ci.yml", 4), ("alpine:3", ".gitlab-ci.yml", 3)]


def test_default_wins_over_the_top_level_and_inherit_turns_it_off() -> None:
    config = read("""\
        image: old:1
        default: {image: "new:1"}
        a: {script: x}
        b: {inherit: {default: false}, script: x}
        c: {inherit: {default: [services]}, script: x}
    """)
    assert [(image.job, image.pattern) for image in config.images] == [("a", "new:1")]


def test_hidden_jobs_count_only_through_extends() -> None:
    config = read("""\
        .unused: {image: "never:1"}
        .base: {image: {name: "base:1", entrypoint: [x]}, services: [a, b]}
        .middle: {extends: .base, services: [c]}
        job: {extends: [.middle], image: {name: "own:2"}}
    """)
    assert [(image.pattern, image.line) for image in config.images] == [("own:2", 4), ("c", 3)]


def test_a_reference_tag_stands_for_what_it_names_also_after_extends() -> None:
    config = read("""\
        .root: {image: "root:1", services: [one, two]}
        .leaf: {extends: .root}
        job:
          image: !reference [.leaf, image]
          services: [!reference [.leaf, services], three]
        other:
          image:
            name: !reference [.leaf, image]
    """)
    assert [(image.pattern, image.line) for image in config.images] == [
        ("root:1", 4),
        ("one", 1),
        ("two", 1),
        ("three", 5),
        ("root:1", 7),
    ]


def test_a_job_that_triggers_another_pipeline_runs_in_no_image() -> None:
    assert images(read("image: a:1\njob: {trigger: group/x}\n")) == [("a:1", ".gitlab-ci.yml", 1)]
    assert read('job: {image: "a:1", trigger: group/x}\n').images == ()


def test_each_combination_of_the_matrix_names_its_image() -> None:
    config = read("""\
        variables: {OWNER: jupyter}
        build:
          variables: {VERSION: "0", FULL: "${OWNER}-$VERSION"}
          parallel:
            matrix:
              - VERSION: ["1", 2]
                OS: [debian, alpine]
              - {VERSION: "3", OS: fedora}
          image: quay.io/$FULL:$OS
    """)
    assert [image.pattern for image in config.images] == [
        "quay.io/jupyter-1:debian",
        "quay.io/jupyter-1:alpine",
        "quay.io/jupyter-2:debian",
        "quay.io/jupyter-2:alpine",
        "quay.io/jupyter-3:fedora",
    ]


def test_what_is_not_known_stays_a_pattern_unless_it_is_given() -> None:
    text = 'variables: {A: "1"}\njob: {image: "$CI_REGISTRY_IMAGE/x:${A}"}\n'
    (image,) = read(text).images
    assert (image.pattern, image.resolved) == ("$CI_REGISTRY_IMAGE/x:1", False)
    (image,) = read(text, CI_REGISTRY_IMAGE="r.example.com/g", A="9").images
    assert (image.pattern, image.resolved) == ("r.example.com/g/x:9", True)


def test_an_escaped_dollar_and_an_unexpanded_variable_are_no_variables() -> None:
    config = read(
        'variables: {A: {value: "$B", expand: false}, B: "1"}\njob: {image: "x:$A"}\nk: {image: "y:$$B"}\n'
    )
    assert [(image.pattern, image.resolved) for image in config.images] == [("x:$B", False), ("y:$B", False)]


def test_numbers_are_read_as_gitlab_reads_them() -> None:
    config = read(
        'variables: {A: 3.10, B: 012, C: true, D: {description: x}}\njob: {image: "x:$A-$B-$C-$D-"}\n'
    )
    assert [image.pattern for image in config.images] == ["x:3.1-10-true--"]


def test_inherit_variables_keeps_only_the_listed_ones() -> None:
    config = read("""\
        variables: {A: "1", B: "2"}
        x: {inherit: {variables: [A]}, image: "x:$A-$B"}
        y: {inherit: {variables: false}, image: "y:$A"}
    """)
    assert [image.pattern for image in config.images] == ["x:1-$B", "y:$A"]


def test_local_includes_are_merged_below_the_file_that_includes_them() -> None:
    config = read(
        """\
        include:
          - local: /ci/first.yml
          - ci/second.yml
        job:
          image: own:1
        """,
        {
            "ci/first.yml": "include: /deep.yml\njob: {image: first:1, services: [s]}\nmore: {image: f:2}\n",
            "ci/second.yml": "more: {image: second:2}\n",
            "deep.yml": "more: {image: deep:1}\ndeepest: {image: 'deep:2'}\n",
        },
    )
    assert sorted(images(config)) == [
        ("deep:2", "deep.yml", 2),
        ("own:1", ".gitlab-ci.yml", 5),
        ("s", "ci/first.yml", 2),
        ("second:2", "ci/second.yml", 1),
    ]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("ci/*.yml", ["ci/a.yml"]),
        ("ci/**.yml", ["ci/a.yml", "ci/x/b.yml", "ci/x/y/c.yml"]),
        ("/ci/**/*.yml", ["ci/x/b.yml", "ci/x/y/c.yml"]),
        ("c?/*.yml", []),
    ],
)
def test_wildcards_match_as_in_gitlab(pattern: str, found: list[str]) -> None:
    files = {
        path: f"'{path}': {{image: x}}" for path in ["ci/a.yml", "ci/x/b.yml", "ci/x/y/c.yml", "ci/a.txt"]
    }
    if found:
        assert sorted(image.job for image in read(f"include: '{pattern}'", files).images) == found
    else:
        assert "no file" in refused(f"include: '{pattern}'", files)[2]


def test_includes_of_other_projects_are_listed() -> None:
    config = read("""\
        include:
          - project: group/ci
            ref: v1
            file: [/a.yml, b.yml]
          - component: gitlab.example.com/group/build/image@1.2
          - template: Jobs/Build.gitlab-ci.yml
          - https://example.com/x.yml
          - remote: https://example.com/y.yml
        job: {extends: .from-there, image: !reference [.from-there, image]}
    """)
    assert [(i.kind, i.location, i.ref, i.path, i.line) for i in config.includes] == [
        ("project", "group/ci", "v1", "a.yml", 2),
        ("project", "group/ci", "v1", "b.yml", 2),
        ("component", "gitlab.example.com/group/build/image", "1.2", "", 5),
        ("template", "Jobs/Build.gitlab-ci.yml", "", "", 6),
        ("remote", "https://example.com/x.yml", "", "", 7),
        ("remote", "https://example.com/y.yml", "", "", 8),
    ]
    assert config.images == ()


def test_an_include_with_an_unknown_variable_is_a_warning() -> None:
    config = read("include: $DIR/a.yml\njob: {extends: .there, image: x}\n")
    assert [
        (warning.line, image.pattern) for warning, image in zip(config.warnings, config.images, strict=True)
    ] == [(1, "x")]
    assert read("include: $DIR/a.yml", {"ci/a.yml": "job: {image: y}"}, DIR="ci").images[0].pattern == "y"


def test_build_arguments_come_from_scripts_and_their_matrix() -> None:
    config = read("""\
        variables: {OWNER: jupyter, UNUSED: "1"}
        .base_job:
          parallel:
            matrix:
              - PYTHON_VERSION: ["3.11", "3.12"]
          before_script: [login]
          script:
            - docker build --build-arg="PYTHON_VERSION=${PYTHON_VERSION}" --build-arg OWNER --tag $CI_X .
            - >-
              buildah bud --build-arg 'RAW=$OWNER' --build-arg BASE=quay.io/"$OWNER"
              --build-arg COMMIT=$CI_COMMIT_SHA --build-arg D=$(date) --build-arg E=${OWNER:-x} .
        build: {extends: .base_job}
        lint: {script: lint, variables: {PYTHON_VERSION: "9", COLOR: red}}
    """)
    passed = {"OWNER": "jupyter", "RAW": "$OWNER", "BASE": "quay.io/jupyter", "UNUSED": "1"}
    assert [dict(arguments.values) for arguments in config.build_arguments] == [
        {**passed, "PYTHON_VERSION": "3.11"},
        {**passed, "PYTHON_VERSION": "3.12"},
        {"UNUSED": "1", "COLOR": "red"},
    ]


def test_anchors_and_merge_keys_are_read_as_psych_reads_them() -> None:
    config = read("""\
        .a: &a {image: "a:1", services: [x]}
        .b: &b {image: "b:1"}
        one: {<<: *a, image: "own:1"}
        two: {image: "own:2", <<: *a}
        three: {<<: [*b, *a]}
        four: *b  # the same image on the same line
    """)
    assert [(image.job, image.pattern) for image in config.images if image.kind == "ci-image"] == [
        ("one", "own:1"),
        ("two", "a:1"),
        ("three", "b:1"),
    ]


def test_a_header_with_inputs_is_no_job() -> None:
    config = read('spec: {inputs: {x: {default: a}}}\n---\njob: {image: "$[[ inputs.x ]]:1"}\n')
    assert [(image.pattern, image.resolved) for image in config.images] == [("$[[ inputs.x ]]:1", False)]


def test_an_empty_file_says_nothing() -> None:
    assert read("") == read("# nothing\n") == read("---\n") == CiConfig()


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\nb: [\n", 3, "not YAML"),
        ("a: \x00", 1, "not a YAML text"),
        ("\na:\n  b: 1\n  b: 2\n", 4, "stands twice"),
        ("- a\n", 1, "must be a mapping"),
        ("job: 1\n", 1, "must be a mapping"),
        ("a: {script: *b}\n", 1, "*b"),
        ("&a [*a]: x\n", 1, "plain text"),
        ("a: &a {script: *a}\n", 1, "*a"),
        ("job:\n  image: 3\n", 2, "name of an image"),
        ("job:\n  image: {entrypoint: []}\n", 2, "name of an image"),
        ("job:\n  services: x\n", 2, "list"),
        ("job:\n  services:\n    - [[[[[[[[[[[x]]]]]]]]]]]\n", 3, "nested"),
        ("job:\n  image: !ref [a]\n", 2, "unknown tag"),
        ("job:\n  image: !ref a\n", 2, "unknown tag"),
        ("job:\n  image: !!int x\n", 2, "no int"),
        ("job:\n  image: !reference []\n", 2, "!reference needs"),
        ("job:\n  image: !reference [.x, image]\n", 2, "leads to nothing"),
        ("a:\n  image: !reference [a, image]\n", 2, "!reference tags are nested deeper"),
        ("job:\n  extends: .x\n", 2, "nowhere"),
        ("job:\n  extends: 1\n", 2, "name of a job"),
        ("a: {extends: b}\nb: {extends: a}\n", 2, "circle: a -> b -> a"),
        ("variables: [a]\n", 1, "mapping"),
        ("job:\n  variables:\n    A: [x]\n", 3, "text or a number"),
        ("job:\n  parallel:\n    matrix: x\n", 3, "list"),
        ("job:\n  parallel:\n    matrix:\n      - x\n", 4, "mapping"),
        ("variables: {A: $B, B: $A}\njob:\n  image: x$A\n", 3, "leads to itself"),
        ("include: [1]\n", 1, "must be a path"),
        ("include:\n  - loca: x\n", 2, "needs one of"),
        ("include: a.yml\n", 1, "does not exist"),
        ("include: ../a.yml\n", 1, "top folder"),
        ("include: a.txt\n", 1, ".yml"),
        ("a: 1\n---\nb: 1\n", 3, "header"),
        ("spec: 1\n---\nb: {}\n---\nc: {}\n", 4, "documents"),
        ("default: 1\n", 1, "mapping"),
        ("<<: 1\n", 1, "`<<` needs"),
    ],
)
def test_malformed_input_is_an_error_with_its_line(text: str, line: int, part: str) -> None:
    file, found, message = refused(text)
    assert (file, found) == (".gitlab-ci.yml", line)
    assert part in message


def test_an_error_in_an_included_file_names_that_file() -> None:
    assert refused("include: a.yml", {"a.yml": "\njob: {image: 1}"})[:2] == ("a.yml", 2)
