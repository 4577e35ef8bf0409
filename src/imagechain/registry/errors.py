"""What can go wrong when a registry is asked, as one tree.

    RegistryError
    ├── AbsentError               the registry was asked, and has no such image
    │   └── PlatformAbsentError   the tag is there, but not for the platform
    ├── RefusedError              permanent   the registry does not take what was sent to it
    │   └── PartsMissingError     permanent   it lacks layers that a manifest names
    └── UncheckedError            nothing is known: neither absent nor unchanged nor moved
        ├── UnreachableError      retryable   no connection, a time-out, a connection that broke
        ├── ServerFailedError     retryable   the registry says that it failed
        ├── DownError             retryable   it failed many times in a row; says when it is tried again
        ├── RateLimitedError      retryable   too many requests; says when to come back
        ├── DeniedError           permanent   the credentials are missing, wrong or not enough
        ├── BlockedError          permanent   registries.conf forbids this registry
        ├── NotAnImageError       permanent   something else is stored there: a chart, a signature
        ├── UntrustedReplyError   permanent   too large, malformed, or not what its digest says
        ├── ConfigurationError    permanent   an auth file, credential helper or registries.conf is wrong
        └── UnexpectedReplyError  bug         a status that no well-formed request should get

A caller asks `kind`: a retryable error may go away by itself, a permanent one needs a person, a bug needs us.
Only `AbsentError` may be read as "there is no such image". No message holds a secret.
"""

from typing import ClassVar, Literal

ErrorKind = Literal["retryable", "permanent", "bug"]


class RegistryError(Exception):
    """A registry could not give what was asked for."""

    kind: ClassVar[ErrorKind] = "permanent"

    def __init__(self, subject: str, problem: str, remedy: str) -> None:
        super().__init__(f"{subject}: {problem}; {remedy}")
        #: What was asked for: a reference, with the registry asked where that is not the reference's own.
        self.subject = subject


class AbsentError(RegistryError):
    """The registry was asked, and has no such image."""


class PlatformAbsentError(AbsentError):
    """The tag is there, but holds no image for the platform."""


class RefusedError(RegistryError):
    """The registry does not take what was sent to it: it is read-only, the tag immutable, its quota used."""


class PartsMissingError(RefusedError):
    """The repository lacks layers or manifests that a manifest names."""


class UncheckedError(RegistryError):
    """It could not be checked: whoever asked knows no more than before."""


class UnreachableError(UncheckedError):
    """The registry did not answer, or not to the end."""

    kind = "retryable"


class ServerFailedError(UncheckedError):
    """The registry answered that it failed."""

    kind = "retryable"


class DownError(UncheckedError):
    """The registry failed many times in a row, and is left alone for a while: nothing was sent."""

    kind = "retryable"

    def __init__(self, subject: str, problem: str, retry_after_seconds: float) -> None:
        super().__init__(
            subject, problem, f"it is tried again in {retry_after_seconds:.0f} s; look whether it is up"
        )
        #: When it is tried again.
        self.retry_after_seconds = retry_after_seconds


class RateLimitedError(UncheckedError):
    """The registry wants fewer requests, or is near that."""

    kind = "retryable"

    def __init__(self, subject: str, problem: str, retry_after_seconds: float) -> None:
        super().__init__(
            subject, problem, f"ask again in {retry_after_seconds:.0f} s, or log in for a larger quota"
        )
        #: When to come back.
        self.retry_after_seconds = retry_after_seconds


class DeniedError(UncheckedError):
    """The credentials are missing, wrong or not enough."""


class BlockedError(UncheckedError):
    """registries.conf forbids this registry."""


class NotAnImageError(UncheckedError):
    """What is stored under the reference is no container image."""


class UntrustedReplyError(UncheckedError):
    """The reply is too large, malformed, or not what its digest says."""


class ConfigurationError(UncheckedError):
    """A file or program on this machine that says how to reach registries is wrong."""


class UnexpectedReplyError(UncheckedError):
    """A status that no well-formed request should get."""

    kind = "bug"
