"""What a `.gitlab-ci.yml` says about images: what jobs run in, and what their builds are given. Pure."""

from imagechain.ciconfig.header import read_declared_inputs
from imagechain.ciconfig.reader import read_ci_config
from imagechain.ciconfig.values import (
    CiBuildArguments,
    CiConfig,
    CiConfigError,
    CiImage,
    CiInclude,
    CiWarning,
)

__all__ = [
    "CiBuildArguments",
    "CiConfig",
    "CiConfigError",
    "CiImage",
    "CiInclude",
    "CiWarning",
    "read_ci_config",
    "read_declared_inputs",
]
