"""Which exit code an error means."""

import pytest

from imagechain.cli.errors import exit_code_of
from imagechain.config import ConfigError
from imagechain.gitlab.errors import ContractError, NotFoundError, OverloadedError, TokenError
from imagechain.service.ports import NotNowError, RefusedError, RetryableError


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (TokenError("x"), 2),
        (NotFoundError("x"), 2),
        (OverloadedError("x"), 3),
        (ContractError("x"), 3),
        (RefusedError("x"), 2),
        (RetryableError("x"), 3),
        (caused(NotNowError("x"), TokenError("x")), 2),
        (caused(NotNowError("x"), OverloadedError("x")), 3),
        (OSError("x"), 3),
        (ValueError("x"), None),
    ],
)
def test_each_error_has_its_exit_code(error: Exception, code: int | None) -> None:
    assert exit_code_of(error) == code
