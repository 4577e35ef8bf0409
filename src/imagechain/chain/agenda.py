"""Who may start, who waits until when, who builds, who fails: queues that `decide` reads from the front."""

from math import inf

from imagechain.chain.facts import Facts
from imagechain.chain.queue import Queue


class Agenda:
    """Projects by what may happen to them next.

    Attributes:
        ready: may start, by priority, once it is `due`.
        waiting: may start later, by that time.
        due: when each project in `ready` and `waiting` may start; -inf: at once.
        running: build, by the start of their oldest build.
        failing: have failed with their present inputs and hold up their children, by when that began.
    """

    def __init__(self) -> None:
        self.ready: Queue[tuple[float, float]] = Queue()
        self.waiting: Queue[tuple[float]] = Queue()
        self.due: dict[int, float] = {}
        self.running: Queue[tuple[float]] = Queue()
        self.failing: Queue[tuple[float]] = Queue()
        #: Time of the latest observation: all that is due by then is in `ready`.
        self._latest_at = -inf

    def place(self, facts: Facts, number: int) -> None:
        """Put a project where it belongs, after its facts or its parents' changed."""
        state = facts.states[number]
        due = facts.due_at(number) if facts.is_startable(number) else inf
        self.ready.drop(number)
        self.waiting.drop(number)
        self.due.pop(number, None)
        if due < inf:
            self.due[number] = due
            if due <= self._latest_at:
                self.ready.put(number, facts.priority(number))
            else:
                self.waiting.put(number, (due,))
        self.running.drop(number)
        if state.runs:
            self.running.put(number, (min(run.at for run in state.runs.values()),))
        self.failing.drop(number)
        failure = state.failure
        if failure is not None and failure.holds_up and not state.runs:
            self.failing.put(number, (failure.since,))

    def ripen(self, facts: Facts, at: float) -> None:
        """Move what has become due by the time of an observation among the ready."""
        self._latest_at = max(at, self._latest_at)
        while (first := self.waiting.first()) is not None and first[0][0] <= self._latest_at:
            self.waiting.drop(first[1])
            self.ready.put(first[1], facts.priority(first[1]))
