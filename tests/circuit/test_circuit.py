"""The circuit breaker, against a list of all that was sent; and that a clock which jumps cannot stop it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.circuit import CLOSED, FAILURES_MAX, PROBE_SECONDS_MAX, PROBE_SECONDS_MIN, Circuit

#: Seconds until the next request is wanted, and whether the server answers then: mostly not.
WANTED = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.125, 1.0, 4.875, 5.0, 12.0, 61.0]), st.integers(0, 9).map(lambda n: n == 0)
    ),
    max_size=120,
)
WAITS = (5.0, 10.0, 20.0, 40.0, 60.0, 60.0)


def wait_before(probe: int) -> float:
    return WAITS[min(probe, len(WAITS) - 1)]


def down(now: float = 0.0) -> Circuit:
    circuit = CLOSED
    for _ in range(FAILURES_MAX):
        circuit = circuit.sent(now).failed(now)
    return circuit


@settings(deadline=None)
@given(wanted=WANTED)
def test_a_server_that_is_down_gets_one_request_after_each_wait(wanted: list[tuple[float, bool]]) -> None:
    circuit, now = CLOSED, 1_000.0
    failures: list[float] = []  # since the last answer, of what was sent
    for seconds, answers in wanted:
        now += seconds
        probes = len(failures) - FAILURES_MAX
        may_send = probes < 0 or now - failures[-1] >= wait_before(probes)
        assert (circuit.wait_seconds(now) == 0.0) == may_send
        if may_send:
            circuit = circuit.sent(now)
            failures = [] if answers else [*failures, now]
            circuit = CLOSED if answers else circuit.failed(now)
        since = failures[FAILURES_MAX - 1] if len(failures) >= FAILURES_MAX else None
        assert circuit.opened_at == since


def test_a_probe_that_hangs_holds_up_nobody_but_until_the_next() -> None:
    circuit = down().sent(5.0)
    assert circuit.wait_seconds(5.0) == 10.0
    assert circuit.wait_seconds(15.0) == 0.0


def test_failures_of_requests_that_were_under_way_do_not_make_it_wait_longer() -> None:
    circuit = down()
    for _ in range(20):
        circuit = circuit.failed(1.0)
    assert circuit == down()


@settings(deadline=None)
@given(jump=st.floats(-1e9, 1e9))
def test_no_jump_of_the_clock_makes_it_wait_longer_than_the_longest_wait(jump: float) -> None:
    circuit = down(1_000_000.0)
    assert circuit.wait_seconds(1_000_000.0 + jump) <= PROBE_SECONDS_MAX
    assert circuit.wait_seconds(1_000_000.0 - 3_600.0) == 0.0
    assert circuit.wait_seconds(1_000_000.0) == PROBE_SECONDS_MIN
