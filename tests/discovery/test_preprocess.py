"""`.in` files, through the system's C preprocessor."""

import shutil
import time

import pytest

from discovery.trees import Chain, edges, only_message, problems
from imagechain.discovery import preprocess

pytestmark = pytest.mark.skipif(shutil.which("cpp") is None, reason="the C preprocessor cpp is not installed")

BLOCKS = {
    "includes/setup": "FROM quay.io/base:1\nLABEL from=setup\n",
    "builds/cleanup": "RUN rm -rf /tmp/cache\nCOPY --from=quay.io/cleaner:2 /bin/clean /\n",
}


def test_blocks_are_included_and_every_dependency_knows_its_file_and_line(chain: Chain) -> None:
    chain.write(BLOCKS).write(
        {
            "builds/web.in": (
                '#define VERSION 3\n#include "includes/setup"\n/* a remark\n   of two lines */\nRUN curl http://x/VERSION\n'
                'COPY --from=quay.io/own:VERSION a b\n#include "cleanup"\nRUN last\n'
            )
        }
    )
    found = chain.discover()
    assert found.problems == ()
    assert [(one.image, one.file, one.line) for one in found.dependencies] == [
        ("quay.io/base:1", "includes/setup", 1),
        ("quay.io/own:3", "builds/web.in", 6),
        ("quay.io/cleaner:2", "builds/cleanup", 2),
    ]
    project = found.projects["builds:web"]
    assert project.preprocessed
    assert project.context == "."
    assert b"RUN curl http://x/3\n" in project.text
    assert str(chain.top).encode() not in project.text


def test_the_text_does_not_depend_on_where_the_tree_stands(chain: Chain) -> None:
    texts = []
    for place in ("one", "two/deeper"):
        inner = Chain(chain.top / place).write(BLOCKS)
        inner.write({"x/builds/web.in": '#include "../includes/setup"\n'}).write(
            {"x/../includes/setup": BLOCKS["includes/setup"]}
        )
        texts.append(inner.discover().projects["x/builds:web"].text)
    assert texts[0] == texts[1]


def test_lines_of_errors_are_those_of_the_file_that_has_them(chain: Chain) -> None:
    chain.write({"builds/block": "\n\nFROM a b\n", "builds/web.in": '\n#include "block"\n'})
    chain.write({"a/Dockerfile.in": "#define X y\nFROM scratch\nNONSENSE\n"})
    found = chain.discover()
    assert problems(found) == [("a/Dockerfile.in", 3), ("builds/block", 3)]
    assert all(project.refused is not None for project in found.projects.values())


def test_comments_that_are_no_directives_are_only_warnings(chain: Chain) -> None:
    chain.write({"builds/web.in": "FROM quay.io/x\n# a comment\nCOPY --from=quay.io/y a b\n"})
    found = chain.discover()
    assert edges(found) == [
        ("builds:web", "quay.io/x:latest", "from", 1),
        ("builds:web", "quay.io/y:latest", "copy-from", 3),
    ]
    assert found.problems == ()
    (warning,) = found.projects["builds:web"].warnings
    assert (warning.file, warning.line) == ("builds/web.in", 2)
    assert "invalid preprocessing directive" in warning.message


def test_a_block_that_is_missing_is_a_problem_with_its_line(chain: Chain) -> None:
    chain.write(
        {"builds/web.in": 'FROM quay.io/x\n#include "nowhere"\n', "builds/inner.in": '#include "block"\n'}
    )
    chain.write({"builds/block": '\n#include "nowhere"\n'})
    found = chain.discover()
    assert found.dependencies == ()
    assert problems(found) == [("builds/block", 2), ("builds/web.in", 2)]
    assert all("nowhere: No such file" in problem.message for problem in found.problems)


def test_blocks_that_include_each_other_are_stopped(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "SECONDS_MAX", 1.0)
    chain.write(
        {"builds/block": '#include "block"\n#include "block"\n', "builds/web.in": '#include "block"\n'}
    )
    chain.write({"builds/fine.in": "FROM scratch\n"})
    started = time.monotonic()
    found = chain.discover()
    assert time.monotonic() - started < 20
    assert problems(found)[0][0] in {"builds/web.in", "builds/block"}
    assert found.projects["builds:web"].refused is not None
    assert found.projects["builds:fine"].refused is None


def test_output_without_end_is_cut_off(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "OUTPUT_BYTES_MAX", 10_000)
    chain.write({"builds/web.in": "FROM scratch\n" + "RUN x\n" * 5_000})
    assert "more than 10000 bytes" in only_message(chain.discover())


def test_without_the_preprocessor_the_problem_says_what_to_install(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.write({"builds/web.in": "FROM scratch\n", "a/Dockerfile": "FROM scratch\n"})
    monkeypatch.setenv("PATH", str(chain.top))
    found = chain.discover()
    assert "install the package cpp" in only_message(found)
    assert problems(found) == [("builds/web.in", None)]
    assert found.projects["a"].refused is None


def test_an_empty_or_binary_file_is_a_problem(chain: Chain) -> None:
    found = chain.write({"builds/empty.in": "", "builds/binary.in": b"FROM\0"}).discover()
    assert problems(found) == [("builds/binary.in", None), ("builds/empty.in", None)]
