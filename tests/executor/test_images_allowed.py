import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.executor import globs, pull, references, services
from imagechain.executor.errors import BuildFailureError, SystemFailureError
from imagechain.executor.job import Image
from imagechain.executor.settings import Settings


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("docker:24-dind", "docker.io/library/docker:24-dind"),
        ("a/b:1", "docker.io/a/b:1"),
        ("localhost/x", "localhost/x:latest"),
        ("reg:5000/x/y", "reg:5000/x/y:latest"),
        ("r.example/x:1@sha256:" + "a" * 64, "r.example/x@sha256:" + "a" * 64),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
    ],
)
def test_a_name_is_made_whole(written: str, whole: str) -> None:
    reference = references.parse(written)
    assert reference is not None
    assert reference.whole == whole


@pytest.mark.parametrize(
    "written",
    [
        "", "-v", "--privileged", "dir:/etc", "dir:etc", "oci:x", "containers-storage:x", "oci-archive:a",
        "docker-archive:/x.tar", "docker-daemon:x:y", "docker://alpine", "https://x/y", "/x", "A", "x y",
        "x\n", "x;y", "$(x)", "x@sha256:abc", "x" * 513,
    ],
)  # fmt: skip
def test_what_is_no_image_of_a_registry_is_refused(written: str) -> None:
    assert references.parse(written) is None
    with pytest.raises(BuildFailureError, match="not the name of an image of a registry"):
        pull.choose(Image(written), (), "", "image")


@given(st.text(max_size=40))
def test_no_text_becomes_an_option_or_a_transport(text: str) -> None:
    reference = references.parse(text)
    if reference is not None:
        assert re.match(r"[a-zA-Z0-9\[][^/]*[.:\]a-z0-9]*/[a-z0-9]", reference.whole)


@pytest.mark.parametrize(
    ("patterns", "image", "allowed"),
    [
        ((), "alpine", True),
        ((), "localhost/x", False),
        (("localhost/**",), "localhost/x", True),
        (("alpine",), "alpine", True),
        (("alpine",), "alpine:3", False),
        (("docker.io/library/*",), "alpine:3", True),
        (("docker.io/*",), "alpine:3", False),
        (("docker.io/**",), "a/b", True),
        (("**", "!docker.io/**"), "alpine", False),
        (("**", "!docker.io/**"), "r.example/x", True),
        (("r.example/**",), "docker.io/r.example/x", False),
        (("r.example/a",), "r.example/a:1", True),
    ],
)
def test_a_pattern_means_the_name_as_written_or_made_whole(
    patterns: tuple[str, ...], image: str, allowed: bool
) -> None:
    if allowed:
        assert pull.choose(Image(image), patterns, "", "image")
    else:
        with pytest.raises(BuildFailureError, match="not allowed on this runner"):
            pull.choose(Image(image), patterns, "", "image")


def test_the_image_of_the_settings_is_always_allowed() -> None:
    assert pull.choose(Image("localhost/own"), ("other",), "localhost/own:latest", "image")


@given(st.text("ab/*", max_size=8), st.text("ab/", max_size=8))
def test_patterns_agree_with_a_naive_matcher(pattern: str, text: str) -> None:
    def naive(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern.startswith("**/"):
            rest = pattern[3:]
            cuts = [0, *(index + 1 for index, character in enumerate(text) if character == "/")]
            return any(naive(rest, text[cut:]) for cut in cuts)
        if pattern.startswith("**"):
            return any(naive(pattern[2:], text[cut:]) for cut in range(len(text) + 1))
        if pattern.startswith("*"):
            length = len(text.split("/", maxsplit=1)[0])
            return any(naive(pattern[1:], text[cut:]) for cut in range(length + 1))
        return bool(text) and text[0] == pattern[0] and naive(pattern[1:], text[1:])

    assert globs.matches(pattern, text) is naive(pattern, text)


def test_a_job_gets_the_policies_that_are_allowed_in_its_own_order() -> None:
    settings = Settings("/s", pull_policy=("if-not-present", "always"))
    assert pull.policies(Image("x"), settings, "image") == ("if-not-present",)
    assert pull.policies(Image("x", pull_policy=("always", "never")), settings, "image") == ("always",)
    assert pull.policies(Image("x", pull_policy=("always", "if-not-present")), settings, "image") == (
        "always",
        "if-not-present",
    )
    with pytest.raises(BuildFailureError, match="asks for the pull policy never"):
        pull.policies(Image("x", pull_policy=("never",)), settings, "image")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (
            "Error: initializing source docker://x: reading manifest 1 in x: manifest unknown",
            BuildFailureError,
        ),
        ("Error: x: unauthorized: authentication required", BuildFailureError),
        ("Error: requested access to the resource is denied", BuildFailureError),
        ("Error: choosing an image from manifest list: no image found in manifest list", BuildFailureError),
        ("Error: pinging container registry x: dial tcp: connect: connection refused", SystemFailureError),
        ("Error: dial tcp: lookup x: no such host", SystemFailureError),
        ("Error: reading blob: unexpected EOF", SystemFailureError),
        ("Error: received unexpected HTTP status: 503 Service Unavailable", SystemFailureError),
        ("Error: writing blob: no space left on device", SystemFailureError),
        ("Error: toomanyrequests: You have reached your pull rate limit", SystemFailureError),
        ("", SystemFailureError),
    ],
)
def test_a_failed_pull_is_final_only_where_the_registry_says_so(said: str, kind: type[Exception]) -> None:
    reference = references.parse("x")
    assert reference is not None
    assert type(pull._failure(reference, said)) is kind


def test_services_are_called_after_their_images_and_the_first_keeps_a_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = services.aliases(
        [
            Image("r.example:5000/group/postgres:16", aliases=("db", "db", "main.db")),
            Image("mysql@sha256:" + "a" * 64, aliases=("db", "bad name!", "build")),
        ]
    )
    assert names[0] == ("r.example__group__postgres", "r.example-group-postgres", "db", "main.db")
    assert names[1] == ("mysql",)
    said = capsys.readouterr().err
    assert "is not called 'db'" in said
    assert "is not called 'build'" in said
    assert "no host name" in said
