"""The local engine: reads the images and files of this machine, and builds what is stale."""

from imagechain.engines.local.observe import LocalChain, observe
from imagechain.engines.local.up import run_up, up
from imagechain.engines.local.values import (
    Began,
    Blocked,
    Built,
    Event,
    Failed,
    Noted,
    Options,
    Output,
    Planned,
    Pulling,
    Reporter,
    UpResult,
    Waiting,
)

__all__ = [
    "Began",
    "Blocked",
    "Built",
    "Event",
    "Failed",
    "LocalChain",
    "Noted",
    "Options",
    "Output",
    "Planned",
    "Pulling",
    "Reporter",
    "UpResult",
    "Waiting",
    "observe",
    "run_up",
    "up",
]
