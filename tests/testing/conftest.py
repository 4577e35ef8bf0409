"""What the tests of the simulated GitLab share."""

from pathlib import Path

import pytest

SHARED_GITLAB = Path(__file__).parents[3] / "shared" / "gitlab"


@pytest.fixture(scope="session")
def shared_gitlab() -> Path:
    """The folder of GitLab's schemas and examples; tests that need it are skipped where it is missing."""
    if not SHARED_GITLAB.is_dir():
        pytest.skip("GitLab's schemas and examples are not there: ../shared/gitlab is missing")
    return SHARED_GITLAB
