"""The clock of who tells of builds is wrong by a day, one way or the other: nothing is decided by it."""

import pytest

from chain.world import chain_of, image, immediate, move, started
from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    FailBuild,
    GiveUp,
    ImageFound,
    RebuildAsked,
    RetryAsked,
    VersionRead,
    decide,
)

pytestmark = pytest.mark.parametrize("ahead", [-86_400.0, 86_400.0])


def begin(chain: Chain, name: str, build: str, *, at: float, ahead: float, is_own: bool = False) -> None:
    asked_at = at if is_own else None
    chain.apply(BuildStarted(project=name, build=build, at=at + ahead, seen_at=at + 1.0, asked_at=asked_at))


def end(chain: Chain, name: str, build: str, *, at: float, ahead: float, version: str = "") -> None:
    outputs = {image(name): version} if version else {}
    chain.apply(
        BuildFinished(
            project=name,
            build=build,
            at=at + ahead,
            seen_at=at,
            outcome="success" if version else "failed",
            outputs=outputs,
        )
    )


def fresh(ahead: float, **policy: object) -> Chain:
    """Give a chain of `base` and `a` that was built, and is read at the second 0."""
    chain = chain_of("base>a", immediate(**policy))
    for name in chain.graph.input_names:
        chain.apply(VersionRead(input=name, version="v0", at=0))
    for name in ("base", "a"):
        inputs = dict.fromkeys(chain.graph.inputs_of(name), "v0")
        chain.apply(ImageFound(project=name, at=ahead, inputs=inputs))
    return chain


def stale(ahead: float, **policy: object) -> Chain:
    """Give one in which `a` is to be built since the second 10."""
    chain = fresh(ahead, **policy)
    move(chain, image("base"), "v1", at=10)
    return chain


def test_a_failed_build_is_tried_again_when_its_wait_is_over(ahead: float) -> None:
    chain = stale(ahead, retry_seconds=(60.0,))
    begin(chain, "a", "1", at=10, ahead=ahead, is_own=True)
    end(chain, "a", "1", at=20, ahead=ahead)
    assert started(chain, 79) == []
    assert decide(chain, 79).wake_at == 80
    assert started(chain, 80) == ["a"]


def test_a_failed_build_is_tried_again_at_once_when_a_person_asks(ahead: float) -> None:
    chain = stale(ahead, retry_seconds=())
    begin(chain, "a", "1", at=10, ahead=ahead, is_own=True)
    end(chain, "a", "1", at=20, ahead=ahead)
    assert started(chain, 1e9) == []
    chain.apply(RetryAsked(project="a", at=25))
    assert started(chain, 25) == ["a"]


def test_a_build_is_overdue_after_it_was_watched_for_that_long(ahead: float) -> None:
    chain = stale(ahead, build_max_seconds=100.0)
    begin(chain, "a", "1", at=10, ahead=ahead)
    assert decide(chain, 110).actions == ()
    assert decide(chain, 111).actions == (FailBuild(project="a", build="1"),)


def test_children_go_on_without_a_project_that_was_seen_to_fail_for_that_long(ahead: float) -> None:
    chain = stale(ahead, retry_seconds=(), hold_max_seconds=100.0)
    begin(chain, "a", "1", at=10, ahead=ahead, is_own=True)
    end(chain, "a", "1", at=20, ahead=ahead)
    assert decide(chain, 119).actions == ()
    assert decide(chain, 120).actions == (GiveUp(project="a"),)


def test_a_minute_of_pacing_is_a_minute(ahead: float) -> None:
    chain = stale(ahead, starts_per_minute_max=1)
    begin(chain, "base", "1", at=11, ahead=ahead, is_own=True)
    end(chain, "base", "1", at=15, ahead=ahead, version="v2")
    assert started(chain, 70) == []
    assert started(chain, 71) == ["a"]


def test_a_build_answers_who_asked_for_it_before_and_not_who_asked_afterwards(ahead: float) -> None:
    chain = fresh(ahead)
    chain.apply(RebuildAsked(project="a", at=10))
    begin(chain, "a", "1", at=10, ahead=ahead, is_own=True)
    end(chain, "a", "1", at=20, ahead=ahead, version="v1")
    assert started(chain, 1e9) == []
    begin(chain, "a", "2", at=30, ahead=ahead)
    chain.apply(RebuildAsked(project="a", at=40))
    end(chain, "a", "2", at=50, ahead=ahead, version="v2")
    assert started(chain, 50) == ["a"]


def test_an_image_that_is_read_after_a_build_is_what_was_read(ahead: float) -> None:
    chain = fresh(ahead)
    begin(chain, "base", "1", at=10, ahead=ahead, is_own=True)
    end(chain, "base", "1", at=20, ahead=ahead, version="v1")
    begin(chain, "a", "2", at=21, ahead=ahead, is_own=True)
    end(chain, "a", "2", at=25, ahead=ahead, version="v1")
    assert started(chain, 30) == []
    chain.apply(VersionRead(input=image("base"), version="pushed by hand", at=30))
    assert started(chain, 30) == ["a"]
    end(chain, "base", "late", at=35, ahead=ahead, version="v2")
    assert chain.facts.versions[chain.graph.input_number[image("base")]] == "v2"


def test_a_build_that_began_before_an_image_moved_is_not_taken_to_hold_it(ahead: float) -> None:
    chain = fresh(ahead)
    begin(chain, "a", "1", at=10, ahead=ahead)
    move(chain, image("base"), "v1", at=15)
    end(chain, "a", "1", at=20, ahead=ahead, version="v1")
    assert started(chain, 20) == ["a"]
