"""Facts, inbox, intents and history in a database: SQLite by default, PostgreSQL when asked."""

from imagechain.store.backup import back_up
from imagechain.store.database import sqlite_caution, sqlite_path
from imagechain.store.errors import (
    LeaseLostError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreLostError,
    StoreSetupError,
)
from imagechain.store.examine import StoreState, examine_store
from imagechain.store.store import Store, open_store
from imagechain.store.values import (
    BURST_SECONDS,
    BuildRow,
    CascadeRow,
    Change,
    ErrandRow,
    Hint,
    HintKind,
    HostRow,
    Intent,
    Lease,
    Memory,
    StoredHint,
    WayRow,
)

__all__ = [
    "BURST_SECONDS",
    "BuildRow",
    "CascadeRow",
    "Change",
    "ErrandRow",
    "Hint",
    "HintKind",
    "HostRow",
    "Intent",
    "Lease",
    "LeaseLostError",
    "Memory",
    "Store",
    "StoreBusyError",
    "StoreError",
    "StoreFullError",
    "StoreLostError",
    "StoreSetupError",
    "StoreState",
    "StoredHint",
    "WayRow",
    "back_up",
    "examine_store",
    "open_store",
    "sqlite_caution",
    "sqlite_path",
]
