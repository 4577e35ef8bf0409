"""The service's clock: whoever sets the machine's, a minute lasts a minute."""

import pytest

from imagechain.service.clock import SystemClock


class Machine:
    """A machine whose clock anybody may set."""

    def __init__(self) -> None:
        self.unix = 1_000.0
        self.elapsed = 5.0

    def go_on(self, seconds: float) -> None:
        self.unix += seconds
        self.elapsed += seconds

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.unix, lambda: self.elapsed)


@pytest.mark.parametrize("jump_seconds", [-86_400.0, -1.0, 0.0, 1.0, 86_400.0])
def test_a_clock_that_is_set_changes_no_duration(jump_seconds: float) -> None:
    machine = Machine()
    clock = machine.clock()
    before = clock.now()
    machine.go_on(30)
    machine.unix += jump_seconds
    machine.go_on(30)
    assert before == 1_000
    assert clock.now() == before + 60


def test_the_real_clock_tells_the_time_and_goes_on() -> None:
    clock = SystemClock()
    first = clock.now()
    assert first > 1_700_000_000
    assert clock.now() >= first
