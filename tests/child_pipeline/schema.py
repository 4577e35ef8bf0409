"""GitLab's own schema of CI configurations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

_SCHEMA = Path(__file__).parents[3] / "shared" / "gitlab" / "ci" / "ci.json"


@pytest.fixture(scope="session")
def check_schema() -> Callable[[Any], None]:
    """Check a CI configuration with GitLab's own schema."""
    if not _SCHEMA.is_file():
        pytest.skip("GitLab's CI schema is not there: ../shared/gitlab/ci is missing")
    return jsonschema_rs.validator_for(msgspec.json.decode(_SCHEMA.read_bytes())).validate
