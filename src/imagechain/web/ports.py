"""What the web app asks of the service and of the store."""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from imagechain.chain import Chain
from imagechain.service.known import Known
from imagechain.store import BuildRow, CascadeRow, Hint, HostRow, WayRow


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One number for `/metrics` that only the service knows, such as the requests GitLab allows still."""

    #: With its unit, and without `imagechain_`: `gitlab_requests_remaining`.
    name: str
    help: str
    value: float
    kind: Literal["gauge", "counter"] = "gauge"
    labels: tuple[tuple[str, str], ...] = ()


class Service(Protocol):
    """The loop, as far as the web app sees it. All of it is read in the loop's own thread."""

    @property
    def chain(self) -> Chain | None:
        """What is known; None: nothing was read yet, or another replica acts."""
        ...

    async def known(self) -> Known | None:
        """Tell what is known, also while another replica acts; None: nothing yet. May raise `StoreError`."""
        ...

    @property
    def turned_at(self) -> float:
        """When the loop turned last (Unix time in seconds); at least once a minute while GitLab answers."""
        ...

    @property
    def gitlab_down_since(self) -> float | None:
        """Since when GitLab does not answer, and is only probed (Unix time); None: it answers."""
        ...

    @property
    def gitlab_trouble(self) -> str:
        """Why GitLab refuses the token, or refuses or fails what all needs; empty: it does not."""
        ...

    def wake(self) -> None:
        """Say that there is something new in the inbox."""
        ...

    def measures(self) -> Iterable[Measure]:
        """Give what only the service can count."""
        ...


class Store(Protocol):
    """The store, as far as the web app uses it. Every call may raise `StoreError`."""

    async def add_hint(self, hint: Hint, key: str, received_at: float) -> bool:
        """Put a hint into the inbox; False: a hint of this key is or was there."""
        ...

    async def waiting_hints(self) -> int:
        """Count the hints that were not followed up."""
        ...

    async def builds(self, limit: int, source: str | None = None) -> Sequence[BuildRow]:
        """Give the latest builds, the latest first."""
        ...

    async def cascades(self, limit: int) -> Sequence[CascadeRow]:
        """Give the latest cascades, the latest first."""
        ...

    async def put_host(self, row: HostRow) -> bool:
        """Keep what a host said, in the place of what it had said; False: there is no room for one more."""
        ...

    async def forget_host(self, name: str) -> bool:
        """Forget a host; False: there is none of that name."""
        ...

    async def hosts(self) -> Sequence[HostRow]:
        """Give what all hosts said last, by name."""
        ...

    async def put_ways(self, rows: Sequence[WayRow]) -> None:
        """Keep how far moves have come on the hosts, but for those that were done before."""
        ...

    async def ways(self) -> Sequence[WayRow]:
        """Give how far moves have come, the latest first."""
        ...

    async def ping(self) -> None:
        """Find out whether the store would take a write now."""
        ...
