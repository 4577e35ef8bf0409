"""What a person is answered who tells the service something: what it does, and what it does not."""

from chain.world import chain_of, fail, immediate, move, settle, start
from imagechain.chain import Chain, Paused, files_input
from imagechain.service.commands import Foreseen, foresee
from imagechain.store.values import Hint, HintKind


def told(chain: Chain, kind: HintKind, source: str | None = None, *, downstream: bool = False) -> Foreseen:
    return foresee(chain, Hint(kind=kind, source=source, downstream=downstream), 1_000.0)


def paused(*targets: str | None) -> Chain:
    """Give a base with three images one after the other above it, of which some are paused with a subtree."""
    chain = settle(chain_of("base>a a>b b>c", immediate(retry_seconds=())))
    for target in targets:
        chain.apply(Paused(project=target, at=1, subtree=target is not None, by="alice", reason="freeze"))
    return chain


def test_the_end_of_the_pause_of_everything_frees_what_no_other_pause_holds() -> None:
    assert told(paused(None, "b"), "resume") == Foreseen(
        ("a", "base"),
        (
            "alice paused everything (freeze): this ends",
            "b is paused still: `imagechain resume b` ends what alice paused b (freeze)",
        ),
    )


def test_where_everything_was_not_paused_it_is_said_and_the_pauses_that_there_are_are_named() -> None:
    assert told(paused(), "resume") == Foreseen((), ("no pause of everything is known",))
    found = told(paused("b"), "resume")
    assert found.ids == ()
    assert found.notes[0] == "no pause of everything is known"
    assert found.notes[1].startswith("b is paused still: `imagechain resume b` ends")


def test_the_end_of_one_pause_frees_its_subtree_but_not_what_another_pause_holds() -> None:
    assert told(paused("a", "c"), "resume", "a").ids == ("a", "b")
    assert told(paused("a"), "resume", "a").ids == ("a", "b", "c")
    above = told(paused("a"), "resume", "b")
    assert above.ids == ()
    assert above.notes == (
        "no pause of b is known",
        "a is paused still: `imagechain resume a` ends what alice paused a (freeze)",
    )
    of_all = told(paused(None, "a"), "resume", "a")
    assert of_all.ids == ()
    assert of_all.notes[1] == (
        "everything is paused still: `imagechain resume` ends what alice paused everything (freeze)"
    )


def test_of_many_pauses_the_first_are_named_and_the_others_counted() -> None:
    names = [f"p{number:02}" for number in range(13)]
    chain = settle(chain_of(" ".join(names)))
    for name in names:
        chain.apply(Paused(project=name, at=1))
    notes = told(chain, "resume").notes
    assert len(notes) == 1 + 10 + 1
    assert notes[-1] == "3 more pauses remain"


def test_a_build_that_is_asked_for_says_which_pause_it_waits_for() -> None:
    assert told(paused("b"), "rebuild", "a", downstream=True) == Foreseen(
        ("a", "b", "c"), ("alice paused b (freeze): not built before `imagechain resume b` is b, c",)
    )
    assert told(paused(), "rebuild", "a") == Foreseen(("a",))


def test_what_did_not_fail_is_not_retried_and_that_is_said() -> None:
    chain = paused()
    move(chain, files_input("a"), "v1", at=1)
    start(chain, "a", "1", 1)
    assert told(chain, "retry", "a").notes[0].startswith("a is being built, so nothing is done")
    fail(chain, "a", "1", 2)
    assert told(chain, "retry", "a") == told(chain, "retry") == Foreseen(("a",))
    assert told(chain, "retry", "base") == Foreseen(
        (), ("base did not fail, so nothing is done; `imagechain rebuild` builds it in any case",)
    )
