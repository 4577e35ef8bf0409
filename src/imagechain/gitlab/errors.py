"""What can go wrong between us and GitLab: one tree, and each message says what to do.

Callers ask one question: is it worth asking again (`RetryableError`), must a person act (`PermanentError`),
or is it a bug, here or in what we know of GitLab (`ContractError`)?
"""

from typing import Literal


class GitLabError(Exception):
    """GitLab did not do what was asked."""


class RetryableError(GitLabError):
    """It may work later: a time-out, a 5xx, too many requests."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        #: How long GitLab asks us to wait, if it says so.
        self.retry_after_seconds = retry_after_seconds


class OverloadedError(RetryableError):
    """A 5xx or a time-out: asking for less at once may help."""


class NoAnswerError(OverloadedError):
    """No answer came in time."""


class RateLimitedError(RetryableError):
    """Too many requests. Nothing was done, so that even a call that creates something may be repeated."""

    def __init__(self, message: str, *, retry_after_seconds: float, all_calls: bool) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        #: Whether the limit holds for all calls (Rack::Attack), or for calls of this kind only.
        self.all_calls = all_calls


class DownError(RetryableError):
    """GitLab failed many times in a row, and is left alone for a while: nothing was sent."""


class PermanentError(GitLabError):
    """A person must act: asking again gives the same answer."""


class TokenError(PermanentError):
    """The token is wrong, expired or revoked."""


class ForbiddenError(PermanentError):
    """The token lacks a scope, or its user a role."""


class NotFoundError(PermanentError):
    """It does not exist, or the token's user may not see it: GitLab does not tell which."""


class MovedError(PermanentError):
    """The project has another path now, and GitLab does not let calls follow."""


class RefusedError(PermanentError):
    """GitLab understood the call and refuses it: a validation failed."""


Refusal = Literal["will-not-run", "variables", "no-ci", "no-ref", "invalid-ci", "inputs", "role", "other"]


class PipelineRefusedError(RefusedError):
    """GitLab does not start a pipeline, and would not either if asked again."""

    def __init__(self, message: str, *, why: Refusal) -> None:
        super().__init__(message)
        self.why: Refusal = why


class ContractError(GitLabError):
    """The answer is not what GitLab's documentation says, or the call was wrong: a bug, here or there."""
