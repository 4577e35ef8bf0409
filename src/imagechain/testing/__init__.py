"""A simulated GitLab, so that tests and people can try imagechain without a server.

`SimulatedGitLab` is built and scripted in Python (`simulated.py`) and answers over HTTP as GitLab does
(`app.py`, `rest/`, `graphql/`). It knows nothing of imagechain's service; faithfulness comes first, also
where GitLab is unpleasant.
"""

from imagechain.testing.faults import Faults
from imagechain.testing.simulated import JobRun, SimulatedGitLab
from imagechain.testing.state import InstanceSettings
from imagechain.testing.values import Role, SimulationError

__all__ = ["Faults", "InstanceSettings", "JobRun", "Role", "SimulatedGitLab", "SimulationError"]
