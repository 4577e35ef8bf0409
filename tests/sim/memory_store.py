"""The store in memory: the twin of the databases, for thousands of simulations."""

# ruff: noqa: ARG002 - a twin takes what the protocol gives

from collections.abc import Mapping, Sequence

import msgspec

from imagechain.chain import Observation
from imagechain.store import (
    BuildRow,
    CascadeRow,
    Change,
    ErrandRow,
    Hint,
    Intent,
    Lease,
    LeaseLostError,
    Memory,
    StoredHint,
)


class MemoryStore:
    """Survives the crashes of those who use it."""

    def __init__(self) -> None:
        self.inbox: dict[int, StoredHint] = {}
        self.keys: set[str] = set()
        self.last_hint = 0
        self.lease: Lease | None = None
        self.log: list[bytes] = []
        self.snapshot = b""
        self.intents: dict[str, Intent] = {}
        self.rows: dict[tuple[str, str], BuildRow] = {}
        self.watermarks: dict[str, float] = {}
        self.errands: dict[str, ErrandRow] = {}
        self.kept: dict[tuple[str, str], bytes] = {}

    async def add_hint(self, hint: Hint, key: str, received_at: float) -> bool:
        if key in self.keys:
            return False
        self.keys.add(key)
        self.last_hint += 1
        self.inbox[self.last_hint] = StoredHint(self.last_hint, received_at, hint)
        return True

    async def hints(self, limit: int) -> Sequence[StoredHint]:
        return [self.inbox[number] for number in sorted(self.inbox)[:limit]]

    async def take_lease(self, owner: str, seconds: float, now: float) -> Lease | None:
        held = self.lease
        # One that ends too far away was taken by a clock that was wrong.
        if held is not None and held.owner != owner and now < held.expires_at <= now + 10 * seconds:
            return None
        number = held.number if held is not None and held.owner == owner else (held.number if held else 0) + 1
        self.lease = Lease(owner, number, now + seconds)
        return self.lease

    async def release_lease(self, lease: Lease) -> None:
        if self.lease is not None and self.lease.number == lease.number:
            self.lease = msgspec.structs.replace(self.lease, expires_at=0.0)

    async def load(self) -> Memory:
        return Memory(
            snapshot=self.snapshot,
            observations=tuple(_decoder.decode(data) for data in self.log),
            intents=tuple(self.intents.values()),
            watermarks=dict(self.watermarks),
            errands=tuple(self.errands.values()),
        )

    async def write(self, change: Change, lease: Lease) -> None:
        if self.lease is None or self.lease.number != lease.number:
            raise LeaseLostError("another one has the lease")
        if change.snapshot is not None:
            self.snapshot, self.log = change.snapshot, []
        self.log += [msgspec.msgpack.encode(observation) for observation in change.observations]
        for number in change.hints_done:
            self.inbox.pop(number, None)
        for name in change.intents_closed:
            self.intents.pop(name, None)
        for intent in change.intents_opened:
            self.intents[intent.id] = intent
        if change.renamed:
            renamed = change.renamed
            rows = [
                msgspec.structs.replace(row, source=renamed.get(row.source, row.source))
                for row in self.rows.values()
            ]
            self.rows = {(row.source, row.id): row for row in rows}
        for row in change.builds:
            self.rows[row.source, row.id] = row
        self.watermarks.update(change.watermarks)
        self.errands |= {row.id: row for row in change.errands}

    async def cached(self, kind: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return {key: self.kept[kind, key] for key in keys if (kind, key) in self.kept}

    async def cache(self, kind: str, values: Mapping[str, bytes]) -> None:
        self.kept |= {(kind, key): value for key, value in values.items()}

    async def builds(self, limit: int, source: str | None = None) -> Sequence[BuildRow]:
        rows = [row for row in self.rows.values() if source in {None, row.source}]
        return sorted(rows, key=lambda row: row.started_at or 0.0, reverse=True)[:limit]

    async def cascades(self, limit: int) -> Sequence[CascadeRow]:
        return []


_decoder: msgspec.msgpack.Decoder[Observation] = msgspec.msgpack.Decoder(Observation)
