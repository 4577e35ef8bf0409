"""Where buildah reads a file otherwise than BuildKit, and that both readings say so."""

import pytest

from imagechain.containerfile import Containerfile, ContainerfileError, read_containerfile


def buildkit(*lines: str, **build_args: str) -> Containerfile:
    return read_containerfile("\n".join(lines), build_args=build_args)


def buildah(*lines: str, **build_args: str) -> Containerfile:
    return read_containerfile("\n".join(lines), build_args=build_args, dialect="buildah")


def pulled(containerfile: Containerfile) -> list[str]:
    return sorted(
        d.image.removeprefix("docker.io/library/") for d in containerfile.dependencies if d.image and d.needed
    )


def warned(containerfile: Containerfile) -> list[tuple[int, str]]:
    return [(warning.line, warning.message) for warning in containerfile.warnings]


def test_plain_files_are_read_alike_and_without_a_word() -> None:
    lines = (
        "ARG A=3",
        "FROM alpine:$A AS x",
        "FROM b",
        "COPY --from=x / /",
        "RUN --mount=from=q,target=/x y",
    )
    assert buildkit(*lines).dependencies == buildah(*lines).dependencies
    assert warned(buildkit(*lines)) == warned(buildah(*lines)) == []


def test_buildah_expands_variables_after_from() -> None:
    lines = (
        "ARG G=g",
        "FROM a",
        "ARG X=busybox",
        "ARG G",
        "COPY --from=$X:$G / /",
        "RUN --mount=from=$X,target=/x y",
    )
    containerfile = buildah(*lines)
    assert pulled(containerfile) == ["a:latest", "busybox:g", "busybox:latest"]
    assert warned(containerfile)[0] == (5, "BuildKit expands no variables in --from=$X:$G")
    with pytest.raises(ContainerfileError, match="variable expansion"):
        buildkit(*lines)
    with pytest.raises(ContainerfileError, match="variable without a value"):
        buildah("FROM a", "COPY --from=$X / /")


def test_buildah_minds_the_case_of_stage_names() -> None:
    lines = ("FROM debian AS Base", "FROM Base")
    assert pulled(buildah(*lines)) == ["debian:latest"]
    assert warned(buildah(*lines)) == [(2, "BuildKit finds the stage Base only in lower case")]
    with pytest.raises(ContainerfileError, match="invalid reference format"):
        buildkit(*lines)
    lines = ("FROM debian AS Base", "FROM base")
    assert pulled(buildah(*lines)) == ["base:latest"]
    assert warned(buildkit(*lines)) == [(2, "buildah minds the case of stage names: base is not Base")]


def test_buildah_accepts_any_stage_name() -> None:
    containerfile = buildah("FROM a AS $X", "FROM b")
    assert pulled(containerfile) == ["b:latest"]
    assert warned(containerfile) == [(1, "BuildKit refuses the stage name $X")]


def test_buildah_wants_platform_arguments_declared() -> None:
    lines = ("FROM x:a$TARGETARCH",)
    assert pulled(buildkit(*lines)) == ["x:aamd64"]
    assert pulled(buildah(*lines)) == ["x:a"]
    message = "TARGETARCH is empty for buildah unless ARG TARGETARCH stands before the first FROM"
    assert warned(buildkit(*lines)) == warned(buildah(*lines)) == [(1, message)]
    assert pulled(buildah("ARG TARGETARCH", *lines)) == ["x:aamd64"]
    assert warned(buildkit("ARG TARGETARCH", *lines)) == []


def test_buildah_takes_a_number_for_a_stage_everywhere() -> None:
    lines = ("FROM a", "FROM b", "RUN --mount=from=0,target=/x y")
    assert pulled(buildah(*lines)) == ["a:latest", "b:latest"]
    assert pulled(buildkit(*lines)) == ["0:latest", "b:latest"]
    assert read_containerfile("FROM a\nFROM b", target="0", dialect="buildah").target == 0


@pytest.mark.parametrize("substitution", ["${A#v}", "${A-x}", "${A:?x}", "${A/a/b}"])
def test_buildah_refuses_newer_substitutions(substitution: str) -> None:
    lines = ("ARG A=va", f"FROM x{substitution}")
    with pytest.raises(ContainerfileError, match=r"Missing ':' in substitution|Unsupported modifier"):
        buildah(*lines)
    assert [line for line, _ in warned(buildkit(*lines))] == [2]
    assert [line for line, _ in warned(buildkit("FROM a", "ENV A=v", f"ENV B={substitution}"))] == [3]


def test_heredocs_are_read_and_old_versions_warned_of() -> None:
    lines = ("FROM a", "RUN <<E", "FROM evil", "E")
    assert pulled(buildah(*lines)) == ["a:latest"]
    message = "buildah before 1.33 takes the lines of a heredoc for instructions"
    assert warned(buildkit(*lines)) == warned(buildah(*lines)) == [(2, message)]


def test_buildah_has_more_mount_options() -> None:
    lines = ("FROM a", "RUN --mount=type=bind,target=/x,z y")
    assert warned(buildah(*lines)) == [(2, "BuildKit refuses the mount option z")]
    with pytest.raises(ContainerfileError, match="must be a key=value pair"):
        buildkit(*lines)


def test_buildah_pulls_no_frontend() -> None:
    assert [d.kind for d in buildah("# syntax=a/b:1", "FROM a").dependencies] == ["from"]
