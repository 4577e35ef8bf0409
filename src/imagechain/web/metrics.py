"""`/metrics`: numbers for Prometheus, read from the service and the store when they are asked for."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from imagechain.chain import SourceStatus, status
from imagechain.store import CascadeRow, StoreError
from imagechain.web.ports import Measure, Service, Store

#: The latest cascades that are measured.
CASCADES_MAX = 20
_STALE_STATES = frozenset({"stale", "building", "blocked", "failed", "paused", "cycle"})


class MetricsPage:
    """Answers `/metrics`."""

    def __init__(
        self,
        store: Store,
        service: Service,
        counted: CollectorRegistry,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make the page.

        Args:
            store: asked for cascades.
            service: asked for the chain and its own measures.
            counted: what the web app counted by itself.
            now: the clock.
        """
        self._store = store
        self._service = service
        self._counted = counted
        self._now = now

    async def answer(self, _request: Request) -> Response:
        """Answer with all numbers."""
        now = self._now()
        chain = self._service.chain
        families = [
            *_measured(self._service.measures()),
            _gauge("loop_turned_at", _TURNED, self._service.turned_at),
            _gauge("gitlab_down_since", _DOWN, self._service.gitlab_down_since or 0.0),
        ]
        sources = status(chain) if chain is not None else ()
        try:
            await self._store.ping()
            families += [
                _gauge("inbox_hints", _INBOX, await self._store.waiting_hints()),
                _lags(await self._store.cascades(CASCADES_MAX)),
                _gauge("store_up", _STORE_UP, 1.0),
            ]
        except StoreError:
            families.append(_gauge("store_up", _STORE_UP, 0.0))
        # Written beside the loop: that takes a tenth of a second for 20,000 projects.
        page = await asyncio.to_thread(self._page, families, sources, now)
        return Response(page, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def _page(self, families: list[Metric], sources: Iterable[SourceStatus], now: float) -> bytes:
        asked = CollectorRegistry()
        asked.register(_Families([*families, *_of_sources(sources, now)]))
        return generate_latest(self._counted) + generate_latest(asked)


_TURNED = "Unix time in seconds when the loop turned last."
_DOWN = "Unix time in seconds since when GitLab does not answer, and is only probed; 0: it answers."
_INBOX = "Hints that wait to be followed up."
_STORE_UP = "Whether the store takes writes."


class _Families(Collector):
    """Gives what was found already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"imagechain_{name}", help_text, value=value)


def _measured(measures: Iterable[Measure]) -> list[Metric]:
    """Put measures of one name together."""
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for measure in measures:
        names = [name for name, _ in measure.labels]
        if measure.name not in families:
            family = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
            families[measure.name] = family(f"imagechain_{measure.name}", measure.help, labels=names)
        families[measure.name].add_metric([value for _, value in measure.labels], measure.value)
    return list(families.values())


def _of_sources(sources: Iterable[SourceStatus], now: float) -> list[Metric]:
    states = GaugeMetricFamily("imagechain_sources", "Sources, by kind and state.", labels=["kind", "state"])
    staleness = GaugeMetricFamily(
        "imagechain_staleness_seconds",
        "How long a project has not been what it should be; 0 where it is.",
        labels=["source"],
    )
    counts: Counter[tuple[str, str]] = Counter()
    for source in sources:
        counts[source.kind, source.state] += 1
        if source.kind == "project":
            is_stale = source.state in _STALE_STATES and source.since is not None
            # A clock that went back must not give negative ages.
            age = max(0.0, now - source.since) if is_stale and source.since is not None else 0.0
            staleness.add_metric([source.id], age)
    for (kind, state), count in sorted(counts.items()):
        states.add_metric([kind, state], count)
    return [states, staleness]


def _lags(cascades: Iterable[CascadeRow]) -> GaugeMetricFamily:
    """Tell how long the latest finished cascade took from its first start to its last end."""
    finished = [cascade for cascade in cascades if cascade.finished_at is not None]
    family = GaugeMetricFamily(
        "imagechain_cascade_seconds",
        "From the first start to the last end of the latest cascade that is over.",
    )
    if finished:
        latest = max(finished, key=lambda cascade: cascade.finished_at or 0.0)
        family.add_metric([], max(0.0, (latest.finished_at or 0.0) - latest.started_at))
    return family
