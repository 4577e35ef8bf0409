"""Exit codes, and which error means which."""

#: Something was found or failed: a build, a problem under `--strict`.
EXIT_FAILED = 1
#: Wrong usage or configuration.
EXIT_USAGE = 2
#: A system that is needed did not answer.
EXIT_UNAVAILABLE = 3
#: Ctrl-C or SIGTERM.
EXIT_INTERRUPTED = 130


class UsageError(Exception):
    """The arguments fit the command, but not this chain; the message says what does."""


class UnavailableError(Exception):
    """A service that is needed does not answer; the message says what to look at."""


def exit_code_of(error: Exception) -> int | None:
    """Tell the exit code of an error that a person can mend; None: it is a bug."""
    # Imported here, because a command that ends well should not pay for parts that it does not use.
    from imagechain.config import ConfigError  # noqa: PLC0415
    from imagechain.discovery import DiscoveryError  # noqa: PLC0415
    from imagechain.engines.folders import FolderError  # noqa: PLC0415
    from imagechain.gitlab.errors import GitLabError, PermanentError  # noqa: PLC0415
    from imagechain.hosts.podman import NoUserError, PodmanError  # noqa: PLC0415
    from imagechain.hosts.state import StateError  # noqa: PLC0415
    from imagechain.images import BuilderError  # noqa: PLC0415
    from imagechain.mirror.state import MirrorStateError  # noqa: PLC0415
    from imagechain.registry import ConfigurationError, DeniedError, RegistryError  # noqa: PLC0415
    from imagechain.service.ports import RefusedError, RetryableError  # noqa: PLC0415
    from imagechain.store.errors import StoreError, StoreSetupError  # noqa: PLC0415
    from imagechain.vetting.record import HistoryError  # noqa: PLC0415

    if isinstance(error, (RefusedError, RetryableError)) and isinstance(error.__cause__, Exception):
        # The service's words for an error of a client, which tells more.
        return exit_code_of(error.__cause__)
    usage = (ConfigError, ConfigurationError, DeniedError, DiscoveryError, NoUserError, PermanentError)
    if isinstance(error, (*usage, RefusedError, StoreSetupError, UsageError)):
        return EXIT_USAGE
    unavailable = (BuilderError, FolderError, GitLabError, HistoryError, MirrorStateError, PodmanError)
    also_unavailable = (RegistryError, RetryableError, StateError, StoreError, UnavailableError, OSError)
    if isinstance(error, (*unavailable, *also_unavailable)):
        return EXIT_UNAVAILABLE
    return None
