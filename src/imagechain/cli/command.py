"""`imagechain rebuild`, `retry`, `pause`, `resume`: what people tell a running service."""

import time
from typing import Annotated

from cyclopts import Parameter

from imagechain.chain import SourceStatus
from imagechain.cli.ask import Status
from imagechain.cli.errors import EXIT_FAILED, UsageError
from imagechain.cli.output import Format, print_json, print_lines
from imagechain.cli.remote import Config, RemoteService, Server, TokenFile, Told, find_service, read_api_token

Flag = Parameter(negative=())
Id = Annotated[str | None, Parameter(name="X")]

_WAIT_SECONDS = 2.0
#: A build that was asked for goes no further by itself in these states.
_HELD_UP = frozenset({"blocked", "paused", "cycle"})


def rebuild(
    source: Id = None,
    /,
    *,
    downstream: Annotated[bool, Flag] = False,
    all_stale: Annotated[bool, Flag] = False,
    wait: Annotated[bool, Flag] = False,
    reason: str = "",
    server: Server = None,
    config: Config = None,
    api_token_file: TokenFile = None,
    format: Format = "table",
) -> int:
    """Build a project, whether it is stale or not.

    Args:
        source: Its id.
        downstream: Build all that is built from it, too.
        all_stale: Instead of one project: all that are stale, also what was stale at first sight.
        wait: Wait until these builds have ended; leave with exit code 1 if one failed.
        reason: Why, for others to read.
        server: Address of the service.
        config: The settings of the service, for its address and token.
        api_token_file: File with the API token.
        format: How the answer is printed.
    """
    if (source is None) != all_stale:
        raise UsageError("name one project, or give --all-stale")
    service = find_service(server, config)
    before = {one.id: _build(one) for one in service.ask("status", Status).sources}
    body = {"id": source, "downstream": downstream, "reason": reason}
    told = service.tell("rebuild", body, read_api_token(api_token_file, config))
    _print_told("rebuild", told, format)
    return _wait(service, told.ids, before) if wait else 0


def retry(
    source: Id = None,
    /,
    *,
    server: Server = None,
    config: Config = None,
    api_token_file: TokenFile = None,
    format: Format = "table",
) -> int:
    """Try a failed project again, now.

    Args:
        source: Its id; none: all that failed.
        server: Address of the service.
        config: The settings of the service, for its address and token.
        api_token_file: File with the API token.
        format: How the answer is printed.
    """
    body = {"id": source}
    told = find_service(server, config).tell("retry", body, read_api_token(api_token_file, config))
    _print_told("retry", told, format)
    return 0


def pause(
    source: Id = None,
    /,
    *,
    subtree: Annotated[bool, Flag] = False,
    reason: str = "",
    server: Server = None,
    config: Config = None,
    api_token_file: TokenFile = None,
    format: Format = "table",
) -> int:
    """Start no builds of a project, until `resume`.

    Args:
        source: Its id; none: start nothing at all.
        subtree: Nor of anything that is built from it.
        reason: Why, for others to read.
        server: Address of the service.
        config: The settings of the service, for its address and token.
        api_token_file: File with the API token.
        format: How the answer is printed.
    """
    if subtree and source is None:
        raise UsageError("--subtree is of one image: name it; or leave --subtree out, to pause everything")
    body = {"id": source, "subtree": subtree, "reason": reason}
    told = find_service(server, config).tell("pause", body, read_api_token(api_token_file, config))
    _print_told("pause", told, format)
    return 0


def resume(
    source: Id = None,
    /,
    *,
    server: Server = None,
    config: Config = None,
    api_token_file: TokenFile = None,
    format: Format = "table",
) -> int:
    """End the pause of a project.

    Args:
        source: Its id; none: the pause of everything. Pauses of single projects remain, and are named.
        server: Address of the service.
        config: The settings of the service, for its address and token.
        api_token_file: File with the API token.
        format: How the answer is printed.
    """
    body = {"id": source}
    told = find_service(server, config).tell("resume", body, read_api_token(api_token_file, config))
    _print_told("resume", told, format)
    return 0


def _print_told(command: str, told: Told, format: Format) -> None:
    if format == "json":
        print_json(told)
    else:
        print_lines(
            [f"{command}: {', '.join(told.ids) or 'nothing to do'}", *(f"Note: {one}." for one in told.notes)]
        )


def _wait(service: RemoteService, ids: tuple[str, ...], before: dict[str, str]) -> int:
    """Wait until each of these was built again, or goes no further by itself."""
    while True:
        time.sleep(_WAIT_SECONDS)
        now = [one for one in service.ask("status", Status).sources if one.id in ids]
        if all(_is_over(one, before.get(one.id)) for one in now):
            failed = [one for one in now if one.state != "fresh"]
            print_lines(f"{one.id}: {one.state}" for one in failed)
            return EXIT_FAILED if failed else 0


def _build(source: SourceStatus) -> str:
    return source.last_build.id if source.last_build is not None else ""


def _is_over(source: SourceStatus, build_before: str | None) -> bool:
    """Tell whether what was asked for has ended or goes no further; what was before is neither."""
    if source.state in {"fresh", "failed"}:
        return _build(source) != build_before
    is_known = any(reason.kind == "asked" for reason in source.reasons)
    return source.state == "inactive" or (source.state in _HELD_UP and is_known)
