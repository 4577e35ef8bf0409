"""The queue, against a dictionary that is sorted each time."""

from hypothesis import given
from hypothesis import strategies as st

from imagechain.chain.queue import Queue

CHANGES = st.lists(
    st.tuples(st.integers(0, 9), st.one_of(st.none(), st.tuples(st.integers(0, 5)))), max_size=300
)


@given(CHANGES)
def test_a_queue_gives_what_a_sorted_dictionary_gives(changes: list[tuple[int, tuple[int] | None]]) -> None:
    queue: Queue[tuple[float]] = Queue()
    oracle: dict[int, tuple[float]] = {}
    for number, key in changes:
        if key is None:
            queue.drop(number)
            oracle.pop(number, None)
        else:
            queue.put(number, key)
            oracle[number] = key
        expected = sorted((key, number) for number, key in oracle.items())
        assert list(queue.ordered()) == expected
        assert queue.first() == (expected[0] if expected else None)


def test_a_queue_forgets_what_is_outdated() -> None:
    queue: Queue[tuple[float]] = Queue()
    queue.put(0, (0.0,))
    for key in range(10_000):
        queue.put(1, (10_000.0 - key,))
    assert list(queue.ordered()) == [((0.0,), 0), ((1.0,), 1)]
    assert len(queue._heap) < 100
