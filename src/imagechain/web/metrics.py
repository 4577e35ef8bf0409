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
from imagechain.service.hosts_known import HostsAnswer
from imagechain.store import CascadeRow, StoreError
from imagechain.web.hosts import look_at_hosts
from imagechain.web.ports import Measure, Service, Store
from imagechain.web.requests import trouble_with_gitlab

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
            _gauge("gitlab_up", _GITLAB_UP, 0.0 if trouble_with_gitlab(self._service) else 1.0),
        ]
        sources = status(chain) if chain is not None else ()
        try:
            await self._store.ping()
            families += [
                _gauge("inbox_hints", _INBOX, await self._store.waiting_hints()),
                _lags(await self._store.cascades(CASCADES_MAX)),
                _gauge("store_up", _STORE_UP, 1.0),
                *await self._of_hosts(now),
            ]
        except StoreError:
            families.append(_gauge("store_up", _STORE_UP, 0.0))
        # Written beside the loop: that takes a tenth of a second for 20,000 projects.
        page = await asyncio.to_thread(self._page, families, sources, now)
        return Response(page, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _of_hosts(self, now: float) -> list[Metric]:
        # As for the sources: the replica that acts tells it.
        known = await self._service.known() if self._service.chain is not None else None
        answer = (await look_at_hosts(self._store, known, now))[0] if known is not None else None
        return _of_hosts(answer, now)

    def _page(self, families: list[Metric], sources: Iterable[SourceStatus], now: float) -> bytes:
        asked = CollectorRegistry()
        asked.register(_Families([*families, *_of_sources(sources, now)]))
        return generate_latest(self._counted) + generate_latest(asked)


_TURNED = "Unix time in seconds when the loop turned last."
_DOWN = "Unix time in seconds since when GitLab does not answer, and is only probed; 0: it answers."
_GITLAB_UP = "Whether GitLab answers, takes the token, and lets the groups be read."
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


def _of_hosts(answer: HostsAnswer | None, now: float) -> list[Metric]:
    """Tell how far fixes have come on the hosts; None: nothing is known, and no number is given."""
    hosts = GaugeMetricFamily("imagechain_hosts", "Hosts that have reported.")
    silent = GaugeMetricFamily("imagechain_hosts_silent", "Hosts that were not heard of for a day.")
    behind = GaugeMetricFamily("imagechain_hosts_behind", "Hosts that run something older.")
    containers = GaugeMetricFamily(
        "imagechain_host_containers", "Containers of the hosts, by what they run.", labels=["standing"]
    )
    lag = GaugeMetricFamily(
        "imagechain_hosts_lag_seconds",
        "How long ago the oldest change came that has not reached every container; 0: all have.",
    )
    way = GaugeMetricFamily(
        "imagechain_hosts_way_seconds",
        "From the latest change that has reached every container until the last of them ran it.",
    )
    if answer is not None:
        hosts.add_metric([], len(answer.hosts))
        silent.add_metric([], sum(host.is_silent for host in answer.hosts))
        behind.add_metric([], sum(host.behind > 0 for host in answer.hosts))
        for standing in ("present", "behind", "unknown", "stopped"):
            containers.add_metric([standing], sum(getattr(host, standing) for host in answer.hosts))
        open_since = [one.moved_at for one in answer.ways if not one.is_done]
        lag.add_metric([], max(0.0, now - min(open_since, default=now)))
        finished = [(one.moved_at, one.seconds) for one in answer.ways if one.seconds is not None]
        if finished:
            way.add_metric([], max(finished)[1])
    return [hosts, silent, behind, containers, lag, way]
