"""Facts, inbox, intents and history in a database: SQLite by default, PostgreSQL when asked."""

from imagechain.store.errors import (
    LeaseLostError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreLostError,
    StoreSetupError,
)
from imagechain.store.values import (
    BuildRow,
    CascadeRow,
    Change,
    Hint,
    HintKind,
    Intent,
    Lease,
    Memory,
    StoredHint,
)

__all__ = [
    "BuildRow",
    "CascadeRow",
    "Change",
    "Hint",
    "HintKind",
    "Intent",
    "Lease",
    "LeaseLostError",
    "Memory",
    "StoreBusyError",
    "StoreError",
    "StoreFullError",
    "StoreLostError",
    "StoreSetupError",
    "StoredHint",
]
