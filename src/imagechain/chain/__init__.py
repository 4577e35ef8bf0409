"""The heart: the graph of sources, what is stale and why, and what to do about it. Pure.

Discovery gives a `Graph`; an engine feeds a `Chain` with observations, asks `decide` what to do, and reports
back with observations. `status`, `explain` and `plan` only read.
"""

from imagechain.chain.chain import Chain
from imagechain.chain.decide import decide
from imagechain.chain.graph import Cycle, Graph, UnknownSourceError
from imagechain.chain.policy import Policy, check_windows, local_policy, window_opens_at

__all__ = [
    "Chain",
    "Cycle",
    "Graph",
    "Policy",
    "UnknownSourceError",
    "check_windows",
    "decide",
    "local_policy",
    "window_opens_at",
]
