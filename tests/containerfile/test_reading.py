"""What a Containerfile tells besides the images that are pulled."""

import pytest

from imagechain.containerfile import Containerfile, ContainerfileError, read_containerfile
from imagechain.refs import Platform


def read(*lines: str, **build_args: str) -> Containerfile:
    return read_containerfile("\n".join(lines), build_args=build_args)


def refused(*lines: str, **build_args: str) -> ContainerfileError:
    with pytest.raises(ContainerfileError) as caught:
        read(*lines, **build_args)
    return caught.value


def test_every_dependency_knows_its_line_stage_and_whether_it_is_needed() -> None:
    containerfile = read(
        "# syntax=docker/dockerfile:1",
        "FROM --platform=linux/aarch64 a AS x",
        "COPY --from=q1 \\",
        "  / /",
        "FROM b AS y",
        "FROM x",
        "RUN --mount=from=q2,target=/m --mount=type=bind,from=y,target=/n z",
    )
    assert [
        (d.kind, d.written, d.line, d.stage, d.of_stage, d.platform, d.needed)
        for d in containerfile.dependencies
    ] == [
        ("from", "a", 2, 0, None, "linux/arm64", True),
        ("copy-from", "q1", 3, 0, None, None, True),
        ("from", "b", 5, 1, None, None, True),
        ("from", "x", 6, 2, 0, None, True),
        ("mount-from", "q2", 7, 2, None, None, True),
        ("mount-from", "y", 7, 2, 1, None, True),
        ("syntax", "docker/dockerfile:1", 1, None, None, None, False),
    ]
    assert [(s.name, s.line, s.needed) for s in containerfile.stages] == [
        ("x", 2, True),
        ("y", 5, True),
        (None, 6, True),
    ]
    assert containerfile.target == 2


def test_unneeded_stages_are_listed_as_such() -> None:
    containerfile = read("FROM a AS x", "FROM b AS y", "COPY --from=q / /", "FROM x")
    assert [(d.written, d.needed) for d in containerfile.dependencies] == [
        ("a", True),
        ("b", False),
        ("q", False),
        ("x", True),
    ]


@pytest.mark.parametrize(
    ("head", "image", "line"),
    [
        ("# syntax=a/b:1", "docker.io/a/b:1", 1),
        ("#syntax = a/b:1 --with=options", "docker.io/a/b:1", 1),
        ("# escape=\\\n# SYNTAX=a/b:1", "docker.io/a/b:1", 2),
        ("#!/usr/bin/env x\n# syntax=a/b:1", "docker.io/a/b:1", 2),
        ("\ufeff# syntax=a/b:1\r", "docker.io/a/b:1", 1),
        ("# comment\n# syntax=a/b:1", None, None),
        (" # syntax=a/b:1", None, None),
        ("# syntax=:1", None, 1),
    ],
)
def test_the_frontend_image_is_found(head: str, image: str | None, line: int | None) -> None:
    found = [d for d in read(head, "FROM x").dependencies if d.kind == "syntax"]
    assert [(d.image, d.line) for d in found] == ([(image, line)] if line is not None else [])
    assert not any(d.needed for d in found)


def test_triggers_of_the_target_are_told_to_its_children() -> None:
    containerfile = read(
        "FROM a AS x",
        "ONBUILD COPY --from=other / /",
        "FROM b",
        "ONBUILD COPY --from=q:1 / /",
        "ONBUILD RUN --mount=from=r,target=/x --mount=from=s,target=/y z",
        "ONBUILD COPY --from=0 / /",
        "ONBUILD ADD https://example.com/x /",
        "ONBUILD COPY . /app",
        "ONBUILD RUN --mount=target=/src make",
        "ONBUILD RUN <<E",
        "x",
        "E",
    )
    assert [
        (t.instruction, t.line, [(d.kind, d.written, d.image) for d in t.dependencies], t.reads_context)
        for t in containerfile.triggers
    ] == [
        ("COPY --from=q:1 / /", 4, [("copy-from", "q:1", "docker.io/library/q:1")], False),
        (
            "RUN --mount=from=r,target=/x --mount=from=s,target=/y z",
            5,
            [
                ("mount-from", "r", "docker.io/library/r:latest"),
                ("mount-from", "s", "docker.io/library/s:latest"),
            ],
            False,
        ),
        ("COPY --from=0 / /", 6, [("copy-from", "0", None)], False),
        ("ADD https://example.com/x /", 7, [], False),
        ("COPY . /app", 8, [], True),
        ("RUN --mount=target=/src make", 9, [], True),
        ("RUN <<E\nx\nE", 10, [], False),
    ]
    onbuild = [
        (d.written, d.line, d.stage, d.needed) for d in containerfile.dependencies if d.kind == "onbuild"
    ]
    assert onbuild == [
        ("other", 2, 0, False),
        ("q:1", 4, 1, False),
        ("r", 5, 1, False),
        ("s", 5, 1, False),
        ("0", 6, 1, False),
    ]


def test_a_trigger_that_fires_in_the_file_is_a_dependency_of_the_child() -> None:
    containerfile = read(
        "FROM a AS x", "ONBUILD COPY --from=q / /", "ONBUILD COPY src /", "FROM x", "COPY y /"
    )
    fired = [d for d in containerfile.dependencies if d.kind == "copy-from"]
    assert [(d.written, d.line, d.stage, d.needed) for d in fired] == [("q", 4, 1, True)]
    assert containerfile.context_sources == ("src", "y")


@pytest.mark.parametrize(
    ("lines", "sources"),
    [
        (["FROM a", "RUN x"], ()),
        (["FROM a", "COPY . /app"], (".",)),
        (["FROM a", "COPY a b/ ./c/../d *.txt /x/"], ("a", "b", "d", "*.txt")),
        (["FROM a", 'COPY ["a b", "/x"]'], ("a b",)),
        (["FROM a", "COPY ../../etc/x /"], ("etc/x",)),
        (["FROM a", "COPY / /"], (".",)),
        (["FROM a", "ADD https://example.com/x git@example.com:x.git https://h/x.git#v1 y /"], ("y",)),
        (["FROM a", "COPY --from=b x /", "COPY <<E /y", "E"], ()),
        (["FROM a", "RUN --mount=type=bind,source=src,target=/x y"], ("src",)),
        (["FROM a", "RUN --mount=target=/x y"], (".",)),
        (["FROM a", "RUN --mount=type=cache,source=c,target=/x --mount=type=tmpfs,target=/y z"], ()),
        (["ARG V=1", "FROM a", "ARG V", "ENV D=d/$V", "COPY $D/x /"], ("d/1/x",)),
        (["FROM a", "ARG V=1", "COPY x$V /"], ("x2",)),
        (["FROM a", "ARG TARGETARCH", "COPY bin-$TARGETARCH /"], ("bin-amd64",)),
        (["FROM scratch", "COPY x$UNSET /"], ("x",)),
        (["FROM scratch AS s", "ENV A=q", "FROM s", "COPY $A /"], ("q",)),
        (["FROM a AS s", "ENV A=q", "ARG A=r", "COPY $A /", "FROM s", "COPY $A /"], ("r", "q")),
        (["FROM a AS s", "ENV A=$HOME", "ARG A=r", "FROM s", "COPY $A /"], None),
        (["FROM a AS s", "COPY unneeded /", "FROM b", "COPY x /"], ("x",)),
        (["FROM a AS s", "COPY y /", "FROM b", "COPY x /", "COPY --from=s / /"], ("y", "x")),
        (["FROM a", "COPY $UNKNOWN/x /"], None),
        (["FROM a", "COPY ${UNKNOWN:-y}/x /"], None),
        (["FROM a", "ENV A=$HOME/x", "COPY $A /"], None),
        (["FROM a", "ENV A=$HOME/x", "ENV A=y", "COPY $A /"], ("y",)),
        (["FROM a", "RUN --mount=target=/x,source=$UNKNOWN y"], None),
        (["# escape=`", "FROM a", "COPY app\\src C:\\app"], ("app/src",)),
    ],
)
def test_the_paths_that_a_build_reads(lines: list[str], sources: tuple[str, ...] | None) -> None:
    assert read(*lines, V="2" if "ARG V=1" in lines[1:] else "1").context_sources == sources


def test_arguments_that_decide_the_base_are_told() -> None:
    containerfile = read(
        "ARG REG", "ARG TAG=$VERSION", "ARG OTHER=1", "FROM a-$TARGETARCH$REG:x$TAG", "ARG V", "RUN $OTHER"
    )
    assert containerfile.arguments_used == {"REG", "TAG", "VERSION"}
    assert containerfile.arguments_unset == {"REG", "VERSION"}
    assert read("ARG REG", "FROM $REG", REG="a").arguments_unset == frozenset()


def test_an_unresolved_base_is_told_as_a_pattern_with_what_to_do() -> None:
    error = refused("ARG REG", "ARG BASE=$REG/team", "FROM $BASE/base:$TAG")
    assert error.line == 3
    for part in (
        "*/team/base:*",
        "REG, TAG",
        "--build-arg",
        "[chain.build_args]",
        "declare ARG TAG before the first FROM",
    ):
        assert part in error.message
    assert "declare" not in refused("ARG BASE", "FROM $BASE").message
    assert "without values for BASE it is *" in refused("ARG BASE", "FROM $BASE").message


def test_the_platform_of_the_target_can_be_told() -> None:
    text = "FROM --platform=$BUILDPLATFORM a\nFROM --platform=$TARGETPLATFORM b"
    containerfile = read_containerfile(text, platform=Platform("linux", "arm", "v7"))
    assert [d.platform for d in containerfile.dependencies] == ["linux/amd64", "linux/arm/v7"]
    containerfile = read_containerfile(text, build_platform=Platform("linux", "s390x"))
    assert [d.platform for d in containerfile.dependencies] == ["linux/s390x", "linux/amd64"]


def test_an_error_prints_its_line() -> None:
    assert str(refused("FROM a", "FOO")).startswith("line 2: unknown instruction: FOO")
    assert str(refused("")).startswith("the Dockerfile cannot be empty")
