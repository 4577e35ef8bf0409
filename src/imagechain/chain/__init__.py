"""The heart: the graph of sources, what is stale and why, and what to do about it. Pure.

Discovery gives a `Graph`; an engine feeds a `Chain` with observations, asks `decide` what to do, and reports
back with observations. `status`, `explain` and `plan` only read.
"""

from imagechain.chain.chain import Chain
from imagechain.chain.decide import decide
from imagechain.chain.explain import Blocker, Explanation, Uncounted, explain
from imagechain.chain.graph import EXPECTED_SECONDS_DEFAULT, Cycle, Graph, UnknownSourceError
from imagechain.chain.pins import Pin, find_pins
from imagechain.chain.plan import PlannedBuild, plan
from imagechain.chain.policy import Policy, local_policy
from imagechain.chain.snapshot import Snapshot, latest_at, put_back
from imagechain.chain.state import LastBuild, Record
from imagechain.chain.status import SourceStatus, State, describe_pause, status
from imagechain.chain.values import (
    BUILD_KINDS,
    Action,
    BuildFinished,
    BuildStarted,
    Decision,
    Dependency,
    DependencyKind,
    FailBuild,
    GivenUp,
    GiveUp,
    ImageFound,
    Observation,
    Paused,
    Problem,
    Reason,
    ReasonKind,
    RebuildAsked,
    Resumed,
    RetryAsked,
    Source,
    SourceKind,
    StartBuild,
    VersionRead,
    WentInactive,
    files_input,
)

__all__ = [
    "BUILD_KINDS",
    "EXPECTED_SECONDS_DEFAULT",
    "Action",
    "Blocker",
    "BuildFinished",
    "BuildStarted",
    "Chain",
    "Cycle",
    "Decision",
    "Dependency",
    "DependencyKind",
    "Explanation",
    "FailBuild",
    "GiveUp",
    "GivenUp",
    "Graph",
    "ImageFound",
    "LastBuild",
    "Observation",
    "Paused",
    "Pin",
    "PlannedBuild",
    "Policy",
    "Problem",
    "Reason",
    "ReasonKind",
    "RebuildAsked",
    "Record",
    "Resumed",
    "RetryAsked",
    "Snapshot",
    "Source",
    "SourceKind",
    "SourceStatus",
    "StartBuild",
    "State",
    "Uncounted",
    "UnknownSourceError",
    "VersionRead",
    "WentInactive",
    "decide",
    "describe_pause",
    "explain",
    "files_input",
    "find_pins",
    "latest_at",
    "local_policy",
    "plan",
    "put_back",
    "status",
]
