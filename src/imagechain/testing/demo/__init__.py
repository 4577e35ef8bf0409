"""What stands beside the simulated GitLab in `imagechain demo`: a real registry, and a runner that builds."""

from imagechain.testing.demo.programs import end_of, free_port, registry, running
from imagechain.testing.demo.runner import Run, Runner

__all__ = ["Run", "Runner", "end_of", "free_port", "registry", "running"]
