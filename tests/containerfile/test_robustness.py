"""Whatever the bytes are, there is an answer or a ContainerfileError, and soon."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containerfile.soup import files, sensible_files
from imagechain.containerfile import Containerfile, ContainerfileError, Dialect, read_containerfile
from imagechain.containerfile.lines import FILE_BYTES_MAX, INSTRUCTIONS_MAX

DIALECTS: tuple[Dialect, ...] = ("buildkit", "buildah")
SECONDS_MAX = 5.0


def read(data: bytes | str, dialect: Dialect = "buildkit") -> Containerfile | ContainerfileError:
    """Read a file; any other exception than the one promised fails the test."""
    try:
        return read_containerfile(data, dialect=dialect, build_args={"X": "a"})
    except ContainerfileError as error:
        return error


@given(st.one_of(files, sensible_files), st.sampled_from(DIALECTS))
@settings(max_examples=800, deadline=None)
def test_token_soup_is_read_or_refused(text: str, dialect: Dialect) -> None:
    lines = text.count("\n") + 1
    containerfile = read(text, dialect)
    if isinstance(containerfile, ContainerfileError):
        assert containerfile.message
        assert containerfile.line is None or 1 <= containerfile.line <= lines
        return
    for dependency in containerfile.dependencies:
        assert 1 <= dependency.line <= lines
        assert [dependency.image is not None, dependency.of_stage is not None, dependency.scratch].count(
            True
        ) <= 1
        if dependency.needed and dependency.stage is not None:
            assert containerfile.stages[dependency.stage].needed
    assert containerfile.stages[containerfile.target].needed


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_bytes_are_read_or_refused(data: bytes) -> None:
    read(b"FROM a\n" + data)


@pytest.mark.parametrize(
    ("data", "message", "line"),
    [
        (b"FROM a\n\x7fELF\0\0", "binary file", 2),
        (b"FROM a\n# caf\xe9\n", "not text in UTF-8", 2),
        (b"\xff\xfeF\0R\0", "not text in UTF-8", 1),
        (b"#" * (FILE_BYTES_MAX + 1), "more than", None),
        (
            b"FROM a\n" + b"RUN x\n" * INSTRUCTIONS_MAX,
            f"more than {INSTRUCTIONS_MAX} instructions",
            INSTRUCTIONS_MAX + 1,
        ),
        (b"FROM a\nRUN " + b"x" * 70_000, "line greater than max allowed size", 2),
    ],
)
def test_what_is_no_containerfile_is_refused_clearly(data: bytes, message: str, line: int | None) -> None:
    with pytest.raises(ContainerfileError) as caught:
        read_containerfile(data)
    assert message in caught.value.message
    assert caught.value.line == line


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\n" + "ENV A=$A$A\n" * 9_000,
        "ARG A=aaaaaaaa\n" + "ARG A=$A$A\n" * 100 + "FROM $A",
        "FROM a\nENV A=" + "x" * 60_000 + "\n" + "LABEL a=$A\n" * 9_000,
        "FROM a\nRUN " + "\\\n" * 400_000,
        "FROM a\nLABEL " + "a='" * 20_000,
        "FROM a\nENV " + '"\\' * 30_000,
        "FROM a\nRUN " + "<<E " * 10_000 + "\n" + "E\n" * 10_000,
        "FROM a\nRUN --mount=" + '"' * 60_000 + " x",
        "".join(f"FROM a AS s{n}\n" for n in range(9_000)),
        "FROM a AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(4_000)),
        "FROM a AS s0\n" + "".join(f"FROM b AS s{n + 1}\nCOPY --from=s{n} / /\n" for n in range(4_000)),
        "FROM a AS s0\n"
        + "".join(f"ONBUILD COPY --from=i{n} / /\n" for n in range(4_000))
        + "FROM s0\nFROM s0",
        "# syntax" + " " * 60_000 + "x\nFROM a",
        "FROM a\nHEALTHCHECK --interval=" + "1" * 60_000 + " CMD x",
        "FROM a\nEXPOSE " + "1" * 60_000,
        "FROM a\nRUN " + "[" * 60_000,
    ],
    ids=range(16),
)
def test_hostile_files_take_little_time(text: str) -> None:
    start = time.perf_counter()
    read(text)
    assert time.perf_counter() - start < SECONDS_MAX
