"""Which images a pipeline builds, and why."""

import pytest

from child_pipeline.parts import image
from imagechain.engines.child_pipeline import (
    Base,
    ChildPipelineError,
    PipelineImage,
    Reads,
    choose,
    find_base,
)
from imagechain.engines.child_pipeline.changes import expand_braces
from imagechain.images.ignorefile import parse_ignore_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NONE = "0" * 40


def reading(
    context: str = ".",
    sources: tuple[str, ...] | None = None,
    *,
    files: tuple[str, ...] = (),
    ignored: str = "",
    more: tuple[str, ...] = (),
) -> PipelineImage:
    reads = Reads(
        files=frozenset(files),
        context=context,
        sources=sources,
        ignored=parse_ignore_file(ignored),
        more=more,
    )
    one = image("one")
    return PipelineImage(
        name="one", file=one.file, context=context, build_args={}, arches=(), parents=(), reads=reads
    )


@pytest.mark.parametrize(
    ("image", "path", "is_built"),
    [
        (reading("app"), "app/deep/file", True),
        (reading("app"), "application/file", False),
        (reading("app"), "README.md", False),
        (reading("."), "README.md", True),
        (reading(".", ignored="*.md"), "README.md", False),
        (reading(".", ignored="*\n!src"), "src/file", True),
        (reading(".", ("src/core", "*.txt")), "src/core/deep/file", True),
        (reading(".", ("src/core", "*.txt")), "src/web/file", False),
        (reading(".", ("src/core", "*.txt")), "a.txt", True),
        (reading(".", ("src/core", "*.txt")), "src/a.txt", False),
        (reading("app", ("src",)), "src/file", False),
        (reading("app", ("src",)), "app/src/file", True),
        (reading("sub/app", ("src",)), "sub", True),
        (reading(".", ("sub/src/file",)), "sub", True),
        (reading(".", (), files=("builds/one.in", "builds/block")), "builds/block", True),
        (reading(".", (), more=("src/{core,web}",)), "src/web/deep/file", True),
        (reading(".", (), more=("src/{core,web}",)), "src/webs/file", False),
        (reading(".", (), more=("src/{core,web}/*",)), "src/web/file", True),
        (reading(".", (), more=("src/**/file",)), "src/a/b/file", True),
        (reading(".", ()), "imagechain.toml", True),
        (reading(".", ()), ".gitlab-ci.yml", True),
        (reading(".", ()), "sub/imagechain.toml", False),
        (reading(".", ("[",)), "anything", True),
    ],
)
def test_a_change_builds_the_images_that_can_notice_it(
    image: PipelineImage, path: str, is_built: bool
) -> None:
    assert bool(choose([image], [path])) is is_built


def test_without_history_everything_is_built_and_without_changes_nothing() -> None:
    images = [image("base"), image("app", ["base"])]
    assert [one.name for one in choose(images, None)] == ["base", "app"]
    assert choose(images, []) == ()


def test_images_that_are_built_from_each_other_are_refused_with_their_path() -> None:
    with pytest.raises(ChildPipelineError, match=r"(a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c);"):
        choose([image("a", ["c"]), image("b", ["a"]), image("c", ["b"])], None)


PUSH = {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BEFORE_SHA": COMMIT}
MERGE_REQUEST = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "7",
    "CI_MERGE_REQUEST_DIFF_BASE_SHA": COMMIT,
    "CI_COMMIT_BEFORE_SHA": NONE,
}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (PUSH, Base(COMMIT, "changes since CI_COMMIT_BEFORE_SHA")),
        (MERGE_REQUEST, Base(COMMIT, "changes since CI_MERGE_REQUEST_DIFF_BASE_SHA")),
        # The job that writes the pipeline may itself be in a child pipeline.
        (
            {**MERGE_REQUEST, "CI_PIPELINE_SOURCE": "parent_pipeline"},
            Base(COMMIT, "changes since CI_MERGE_REQUEST_DIFF_BASE_SHA"),
        ),
        (
            {**PUSH, "CI_COMMIT_BEFORE_SHA": NONE},
            Base(None, "CI_COMMIT_BEFORE_SHA names no commit: nothing was here before"),
        ),
        (
            {**PUSH, "CI_COMMIT_TAG": "v1"},
            Base(None, "this is a git tag, not a push or a merge request"),
        ),
        (
            {**PUSH, "CI_PIPELINE_SOURCE": "schedule"},
            Base(None, "this is 'schedule', not a push or a merge request"),
        ),
        ({}, Base(None, "this is no pipeline, not a push or a merge request")),
    ],
    ids=["push", "merge-request", "child", "new-branch", "tag", "schedule", "laptop"],
)
def test_changes_are_counted_from_what_gitlab_says(environ: dict[str, str], expected: Base) -> None:
    assert find_base(environ) == expected


def test_a_base_that_is_no_commit_never_reaches_git() -> None:
    with pytest.raises(ChildPipelineError, match="'--output=/etc/passwd', which is no commit"):
        find_base({**PUSH, "CI_COMMIT_BEFORE_SHA": "--output=/etc/passwd"})


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("src", ["src"]),
        ("/src/", ["src"]),
        ("src/**", ["src"]),
        ("src/{core,web}", ["src/core", "src/web"]),
        ("{a,b}/{c,d}", ["a/c", "a/d", "b/c", "b/d"]),
        ("a{b,c{d,e}}", ["ab", "acd", "ab", "ace"]),
        ("src/{core", ["src/{core"]),
    ],
)
def test_braces_are_expanded_as_in_the_rules_of_gitlab(pattern: str, expected: list[str]) -> None:
    assert set(expand_braces(pattern)) == set(expected)


def test_braces_without_end_are_refused() -> None:
    with pytest.raises(ChildPipelineError, match="stands for more than 1000 paths"):
        expand_braces("{a,b}" * 40)
