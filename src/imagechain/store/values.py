"""What the store keeps, as frozen values; times are Unix times in seconds.

None of it is a secret, and none of it is the truth: GitLab and the registries are. A store that was lost is
filled again from them.
"""

import msgspec


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """Something may have changed: what to look at. Never believed, only followed up."""

    #: GitLab's `object_kind`: `pipeline`, `build`, `push`, `tag_push`, `merge_request`, `note`, `deployment`.
    kind: str
    #: Number of the project that the hint speaks of.
    project_id: int
    #: Number of the pipeline (also of a job's), merge request (its `iid`, also of a note's) or deployment;
    #: None where the project itself is meant (a push).
    object_id: int | None
    received_at: float


class StoredHint(msgspec.Struct, frozen=True, kw_only=True):
    """A hint in the inbox."""

    #: Grows with every hint that was stored.
    id: int
    hint: Hint
