"""What the HTTP side may use of a simulated instance."""

import msgspec

from imagechain.testing.collaboration import Collaboration
from imagechain.testing.hooks import Hooks
from imagechain.testing.pipelines import Pipelines
from imagechain.testing.repositories import Repositories
from imagechain.testing.schedules import Schedules
from imagechain.testing.state import State


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of one instance."""

    state: State
    hooks: Hooks
    pipelines: Pipelines
    repositories: Repositories
    schedules: Schedules
    collaboration: Collaboration
