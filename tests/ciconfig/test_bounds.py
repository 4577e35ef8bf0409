"""No CI configuration, however it is made, crashes the reader or keeps it busy."""

import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.ciconfig import CiConfig, CiConfigError, read_ci_config
from imagechain.ciconfig.document import DEPTH_MAX, FILE_BYTES_MAX
from imagechain.ciconfig.include import INCLUDE_DEPTH_MAX, INCLUDES_MAX
from imagechain.ciconfig.inherit import EXTENDS_LEVELS_MAX

#: Far above what any of these takes, far below what an unbounded reader would take.
SECONDS_MAX = 20.0


def read(text: str, files: dict[str, bytes] | None = None) -> CiConfig:
    return read_ci_config(text.encode(), read_local=(files or {}).get)


def laughs(last: str) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f".a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines).replace("a0:", ".a0:", 1) + last


@pytest.mark.parametrize(
    "text",
    [
        laughs(""),
        "\n".join([".a0: [x, y]", *(f".a{n}: [{f'!reference [.a{n - 1}], ' * 30}]" for n in range(1, 10))])
        + "\njob: {script: !reference [.a9]}",
        "\n".join(
            [
                "variables:",
                *(f'  V{n}: "$V{n + 1}$V{n + 1}"' for n in range(40)),
                "  V40: x",
                "job: {image: $V0}",
            ]
        ),
        ".big: {"
        + ", ".join(f"k{n}: 1" for n in range(30_000))
        + "}\n"
        + "".join(f"j{n}: {{extends: .big}}\n" for n in range(10_000)),
        "[" * 100_000,
        "- " * 100_000,
        "a: {" * 50_000,
        f"a: {'x' * FILE_BYTES_MAX}",
        "job: {parallel: {matrix: [{A: [%s], B: [%s]}]}}" % (("x, " * 50_000,) * 2),
        "".join(f"a{n}: {{extends: a{n + 1}}}\n" for n in range(5_000)) + "a5000: {}",
        "include: [" + "a.yml, " * (INCLUDES_MAX + 1) + "]",
    ],
    ids=[
        "aliases",
        "references",
        "variables",
        "extends of a large job",
        "deep flow",
        "deep block",
        "deep mapping",
        "large file",
        "matrix",
        "long extends",
        "many includes",
    ],
)
def test_what_expands_without_bound_is_refused_soon(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(CiConfigError):
        read(text, {"a.yml": b".x: {}"})
    assert time.monotonic() - started < SECONDS_MAX


def test_variables_that_expand_to_nothing_are_no_danger() -> None:
    lines = [
        "variables:",
        *(f'  V{n}: "$V{n + 1}$V{n + 1}"' for n in range(40)),
        '  V40: ""',
        "job: {image: x$V0}",
    ]
    assert [image.pattern for image in read("\n".join(lines)).images] == ["x"]


@pytest.mark.parametrize("first", [True, False])
def test_extends_may_have_as_many_levels_as_in_gitlab(first: bool) -> None:
    def chain(levels: int) -> str:
        lines = [f"a{n}: {{extends: a{n + 1}}}" for n in range(levels - 1)] + [f"a{levels - 1}: {{image: x}}"]
        return "\n".join(lines if first else reversed(lines))

    assert read(chain(EXTENDS_LEVELS_MAX)).images[0].pattern == "x"
    with pytest.raises(CiConfigError, match="nested deeper"):
        read(chain(EXTENDS_LEVELS_MAX + 1))


def test_includes_go_round_in_no_circle_and_not_too_deep() -> None:
    with pytest.raises(CiConfigError, match=r"circle: .gitlab-ci.yml -> a.yml -> b.yml -> a.yml"):
        read("include: a.yml", {"a.yml": b"include: b.yml", "b.yml": b"include: a.yml"})
    files = {f"{n}.yml": f"include: {n + 1}.yml".encode() for n in range(INCLUDE_DEPTH_MAX + 1)}
    with pytest.raises(CiConfigError, match="nested deeper"):
        read("include: 0.yml", files)


def test_nesting_is_allowed_up_to_its_bound() -> None:
    assert read(".a: " + "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1)) == CiConfig()
    with pytest.raises(CiConfigError, match="nested deeper"):
        read(".a: " + "[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1))


_KEYS = st.sampled_from(
    [
        "image",
        "services",
        "default",
        "include",
        "variables",
        "extends",
        "parallel",
        "matrix",
        "job",
        ".x",
        "script",
        "name",
        "local",
        "project",
        "file",
        "value",
        "inherit",
        "A",
        "<<",
        "spec",
        "trigger",
    ]
)
_SCALARS = st.sampled_from(
    [
        "a",
        "$A",
        "${B}",
        "!reference [.x, image]",
        "!reference [job]",
        "1",
        "~",
        "true",
        "1:2",
        ".x",
        "job",
        "2024-01-01",
        "a.yml",
        "'*.yml'",
        "--build-arg A=$B",
        "&a x",
        "*a",
        "!!int 3",
        "!!float .inf",
        "!x y",
        '"\\x"',
        "0x",
        "1e999",
    ]
)
_YAML = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(_KEYS, inner), max_size=4).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items) + "}"
        ),
    ),
    max_leaves=12,
)


def read_or_refuse(data: bytes) -> None:
    try:
        read_ci_config(data, read_local={"a.yml": b".x: {image: x}"}.get, list_local=lambda: ["a.yml"])
    except CiConfigError as error:
        refusal = error
    else:
        return
    assert 1 <= refusal.line <= data.count(b"\n") + 2
    assert str(refusal).startswith(f"{refusal.file}:{refusal.line}: ")


@given(st.lists(st.tuples(_KEYS, _YAML), max_size=5))
def test_whatever_stands_under_the_keywords_is_read_or_refused(entries: list[tuple[str, str]]) -> None:
    read_or_refuse("\n".join(f"{key}: {value}" for key, value in entries).encode())


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read_or_refuse(data)


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@\n \t?,.<$\\", max_size=60))
def test_any_text_of_yaml_marks_is_read_or_refused(text: str) -> None:
    read_or_refuse(textwrap.dedent(text).encode())


@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.lists(st.sampled_from("xyz"), min_size=1, max_size=3)),
        max_size=3,
    ),
    st.text(alphabet="ABC${}-", max_size=12),
)
def test_expansion_agrees_with_a_naive_one(axes: list[tuple[str, list[str]]], name: str) -> None:
    """The oracle replaces one character after the other, for each combination."""
    matrix = dict(axes)
    rows: list[dict[str, str]] = [{}]
    for key, values in matrix.items():
        rows = [{**row, key: value} for row in rows for value in values]
    entry = ", ".join(f"{key}: [{', '.join(values)}]" for key, values in matrix.items())
    config = read(f"job: {{image: 'i{name}', parallel: {{matrix: [{{{entry}}}]}}}}")
    assert [image.pattern for image in config.images] == list(
        dict.fromkeys("i" + naive(name, row) for row in rows)
    )


def naive(text: str, values: dict[str, str]) -> str:
    done = ""
    while text:
        if text.startswith("$$"):
            done, text = done + "$", text[2:]
            continue
        braced = text[2 : text.find("}")] if text.startswith("${") and "}" in text else ""
        plain = ""
        if text.startswith("$"):
            plain = text[1 : 1 + len(text[1:]) - len(text[1:].lstrip("ABC"))]
        if braced and not braced.strip("ABC"):
            done, text = done + values.get(braced, "${" + braced + "}"), text[3 + len(braced) :]
        elif plain:
            done, text = done + values.get(plain, "$" + plain), text[1 + len(plain) :]
        else:
            done, text = done + text[0], text[1:]
    return done
