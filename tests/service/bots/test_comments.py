import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.service.bots.comments import Request, marker, read_request, render
from imagechain.service.bots.trial import Step, Trial


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        ("@bot test", Request()),
        ("@Bot: please test", Request()),
        ("Hello\n  @bot test images/app images/web/\nbye", Request(("images/app", "images/web"))),
        ("@bot test image_tag=g-123 images/app images/app", Request(("images/app",), "g-123")),
        ("@bot test image_tag=", Request(problem="x")),
        ("@bot test ref=main", Request(problem="x")),
        ("@bot tests", None),
        ("@bot", None),
        ("@bots test", None),
        ("> @bot test", None),
        ("```\n@bot test\n```", None),
        ("I say @bot test", None),
        ("@bot test\n" + "x" * 20_000, None),
    ],
)
def test_requests_are_read(body: str, request_: Request | None) -> None:
    found = read_request(body, "bot")
    if request_ is not None and request_.problem:
        assert found is not None
        assert "write `@bot test" in found.problem
    else:
        assert found == request_


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_breaks_the_reader_and_nothing_of_it_calls_anybody(before: str, after: str) -> None:
    found = read_request(f"{before}\n@bot test {after}", "bot")
    if found is not None and found.problem:
        quoted = found.problem.partition("`")[2].partition("`")[0]
        assert "@" not in quoted
        assert "<" not in quoted


def trial(*steps: Step) -> Trial:
    return Trial(
        id="1-2-3",
        project_id=1,
        merge_request=2,
        source="images/base",
        at=0.0,
        tag="p-7",
        images={"r/base:latest": "r/base@sha256:1"},
        steps=steps,
    )


def test_the_comment_shows_each_project_and_is_found_again() -> None:
    steps = (
        Step(source="images/app", project_id=2, ref="main", state="passed", pipeline=5, url="http://x/5"),
        Step(source="images/web", project_id=3, ref="main", state="failed", why="a | b\nc"),
    )
    text = render(trial(*steps))
    assert text.startswith(marker(trial()))
    assert "Tested `p-7` (`r/base@sha256:1`): 1 passed, 1 failed." in text
    assert "| images/app | passed | [5](http://x/5) |" in text
    assert "| images/web | failed: a / b c |  |" in text
