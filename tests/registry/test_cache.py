"""The bounded cache, against a list that remembers everything."""

from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.registry.cache import Cache
from registry.fakes import FakeClock

KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(0, 12), st.integers(1, 50)),
        st.tuples(st.just("get"), KEYS, st.just(0), st.just(0)),
        st.tuples(st.just("drop"), KEYS, st.just(0), st.just(0)),
        st.tuples(st.just("wait"), KEYS, st.just(0), st.integers(1, 20)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS)
def test_it_holds_the_latest_used_that_have_not_expired_up_to_the_weight(
    steps: list[tuple[str, str, int, int]],
) -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(10, clock)
    #: Key, value, weight, expiry; the latest used last.
    model: list[tuple[str, int, int, float]] = []
    for number, (step, key, weight, seconds) in enumerate(steps):
        found = [entry for entry in model if entry[0] == key]
        if step == "put":
            cache.put(key, number, seconds=seconds, weight=weight)
            model = [entry for entry in model if entry[0] != key]
            model.append((key, number, weight, clock.now + seconds))
            while sum(entry[2] for entry in model) > 10:
                model.pop(0)
        elif step == "get":
            alive = [entry for entry in found if entry[3] > clock.now]
            assert cache.get(key) == (alive[0][1] if alive else None)
            model = [entry for entry in model if entry[0] != key] + alive
        elif step == "drop":
            cache.drop(key)
            model = [entry for entry in model if entry[0] != key]
        else:
            clock.now += seconds
