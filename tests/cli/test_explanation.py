"""What `explain` prints."""

from chain.world import chain_of, settle
from imagechain.chain import Paused, explain
from imagechain.cli.ask import explanation_lines


def test_an_image_that_others_are_built_from_is_not_called_one_that_nothing_is_built_from() -> None:
    chain = settle(chain_of("base>a"))

    def last_line(name: str) -> str:
        return explanation_lines(explain(chain, name, 1_000.0))[-1]

    assert last_line("base") == "If its content changed, these would be built: a."
    assert last_line("a") == "Nothing is built from it."
    chain.apply(Paused(project="a", at=1))
    assert last_line("base") == "If its content changed, nothing would be built now: a is paused."
