"""`imagechain hosts status` and `hosts update`: keep the containers of this host on the newest image."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from imagechain.cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, UsageError
from imagechain.cli.history import history_file, remember
from imagechain.cli.output import Format, print_error_lines, print_json, print_lines, print_table
from imagechain.cli.registries import registry_client
from imagechain.cli.settings import read_service_settings
from imagechain.config import Settings, state_folder
from imagechain.hosts.clock import SystemClock
from imagechain.hosts.host import Host
from imagechain.hosts.notify import Notifier
from imagechain.hosts.plan import is_local, tracked
from imagechain.hosts.podman import PodmanProgram, find_user
from imagechain.hosts.report import ReportedContainer, reported_containers
from imagechain.hosts.run import Result, survey
from imagechain.hosts.run import update as update_host
from imagechain.hosts.send import send_report
from imagechain.hosts.state import StateFolder, locked
from imagechain.hosts.systemd import SystemdProgram
from imagechain.hosts.update import Outcome
from imagechain.hosts.values import Moved, Unmoved, VerdictState
from imagechain.refs import Reference, parse_reference
from imagechain.registry import RegistryClient, usual_auth_files
from imagechain.vetting.history import look_at_tag

app = App(name="hosts", help="Keep the containers of this host on the newest image.")
app.command(
    "imagechain.cli.hosts_service:token", help="Make the token that a host reports to the service with."
)
app.command("imagechain.cli.hosts_service:forget", help="Tell the service that there is a host no more.")

Config = Annotated[Path | None, Parameter(name="--config")]
Flag = Parameter(negative=())

_DIGEST_CHARACTERS = 19
_AGES = ((86_400, "d"), (3_600, "h"), (60, "m"))


class HostContainer(msgspec.Struct, frozen=True, kw_only=True):
    """One container, as `hosts status --format json` prints it."""

    user: str
    name: str
    id: str
    #: What it follows, or was made from.
    image: str
    #: What it runs.
    digest: str
    #: When its image was made, in ISO 8601; None where the image does not say.
    image_created: str | None
    state: VerdictState
    reason: str
    #: Who makes it anew.
    owner: str
    #: What it would be updated to; empty: nothing.
    available: str


class HostOutcome(Outcome, frozen=True, kw_only=True):
    """One update, as `hosts update --format json` prints it."""

    user: str


@app.command
def status(*, config: Config = None, format: Format = "table") -> int:
    """Show every container: its image, digest and age, and what it waits for. Changes no container.

    Args:
        config: The settings; by default imagechain.toml here, or in /etc/imagechain.
        format: How the answer is printed.
    """
    settings = read_service_settings(config)
    rows = asyncio.run(_survey(settings, frozenset()))
    _print(rows, format)
    return EXIT_UNAVAILABLE if any(row.state == "unknown" for row in rows) else 0


@app.command
def update(
    *containers: str,
    dry_run: Annotated[bool, Flag] = False,
    config: Config = None,
    format: Format = "table",
) -> int:
    """Make containers anew whose image has moved; where the new one fails, the old one comes back.

    Exits 1 if a container came back on its old image or could not be updated, 3 if an image could not be
    checked.

    Args:
        containers: Only these, and at once: also outside of a window, and on a digest that was rolled back.
        dry_run: Only say what would be done, and why.
        config: The settings; by default imagechain.toml here, or in /etc/imagechain.
        format: How the answer is printed.
    """
    settings = read_service_settings(config)
    asked = frozenset(containers)
    if dry_run:
        rows = asyncio.run(_survey(settings, asked))
        _check_asked(asked, rows)
        _print(rows, format)
        return 0
    rows, outcomes = asyncio.run(_update(settings, asked, is_quiet=format == "json"))
    if format == "json":
        print_json({"containers": rows, "outcomes": outcomes})
    elif not outcomes:
        print_lines(["nothing to do"])
    print_error_lines(f"{row.name}: {row.reason}" for row in rows if row.state in {"unknown", "manual"})
    if any(outcome.result in {"rolled-back", "failed"} for outcome in outcomes):
        return EXIT_FAILED
    return EXIT_UNAVAILABLE if any(row.state == "unknown" for row in rows) else 0


async def _survey(settings: Settings, asked: frozenset[str]) -> list[HostContainer]:
    found = [(host, await survey(host, asked)) for host in hosts_of(settings)]
    _remember(settings, (result for _, result in found))
    return [row for host, result in found for row in _rows(host, result)]


async def _update(
    settings: Settings, asked: frozenset[str], *, is_quiet: bool
) -> tuple[list[HostContainer], list[HostOutcome]]:
    outcomes: list[HostOutcome] = []
    rows: list[HostContainer] = []
    notifier = Notifier(settings.hosts.notify, os.environ)
    hosts = hosts_of(settings)
    latest: list[ReportedContainer] = []
    async with _stoppable(), locked(_state_folder(settings), _tell_waiting):
        for host in hosts:

            def tell(outcome: Outcome, user: str = host.user.name) -> None:
                outcomes.append(HostOutcome(**msgspec.structs.asdict(outcome), user=user))
                if not is_quiet:
                    print_lines([_sentence(outcomes[-1])])

            try:
                result = await update_host(host, asked, tell)
            finally:
                told = [outcome for outcome in outcomes if outcome.user == host.user.name]
                print_error_lines(await notifier.tell(host.user.name, told))
            rows += _rows(host, result)
            _remember(settings, [result])
            if settings.hosts.report_to:
                # What was updated is not what was looked at before.
                seen = await survey(host) if result.outcomes else result
                latest += reported_containers(host.user.name, seen, host.clock.now())
    if settings.hosts.report_to:
        problem = await send_report(settings.hosts, tuple(latest), os.environ)
        print_error_lines([problem] if problem else [])
    _check_asked(asked, rows)
    return rows, outcomes


@asynccontextmanager
async def _stoppable() -> AsyncIterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: what was begun is undone first."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


def hosts_of(settings: Settings) -> list[Host]:
    """Prepare the ports of each user's containers."""
    hosts = []
    for name in settings.hosts.users or ("",):
        user = find_user(name, os.environ)

        def make_client(auth_file: Path | None, environ: dict[str, str] = user.environment) -> RegistryClient:
            files = usual_auth_files(environ)
            return registry_client(settings, environ, auth_files=(auth_file, *files) if auth_file else files)

        hosts.append(
            Host(
                user=user,
                podman=PodmanProgram(user),
                systemd=SystemdProgram(user),
                state=StateFolder(_state_folder(settings) / user.name),
                make_client=make_client,
                settings=settings.hosts,
                clock=SystemClock(),
                timezone=datetime.now(UTC).astimezone().tzinfo or UTC,
            )
        )
    return hosts


async def images_in_use(settings: Settings) -> list[Reference]:
    """List what the containers of this host follow in registries.

    Raises:
        PodmanError: podman does not answer.
    """
    found: dict[str, Reference] = {}
    for host in hosts_of(settings):
        for container in await host.podman.containers(list(await host.podman.pods())):
            reference = tracked(container)
            if isinstance(reference, Reference) and not is_local(reference) and not container.is_helper:
                found[str(reference)] = reference
    return list(found.values())


def _state_folder(settings: Settings) -> Path:
    return state_folder(settings.state_dir, os.environ) / "hosts"


def _remember(settings: Settings, results: Iterable[Result]) -> None:
    """Add what the registries were found to have to the history that vetting reads."""
    now = time.time()
    seen = {
        name: check.digest
        for result in results
        for name, check in result.facts.checks.items()
        if isinstance(check, (Moved, Unmoved)) and not is_local(parse_reference(name))
    }
    looks = [look for name, digest in seen.items() for look in look_at_tag(name, digest, now)]
    remember(history_file(settings, os.environ), looks)


def _tell_waiting() -> None:
    print_error_lines(["another run updates containers of this host; waiting for it"])


def _check_asked(asked: frozenset[str], rows: Sequence[HostContainer]) -> None:
    missing = asked - {row.name for row in rows}
    if missing:
        raise UsageError(
            f"there is no container {', '.join(sorted(missing))}; `imagechain hosts status` lists them"
        )


# --- printing -------------------------------------------------------------------------------------------


def _rows(host: Host, result: Result) -> list[HostContainer]:
    rows = []
    for verdict in result.plan.verdicts:
        container = verdict.container
        image = result.facts.images.get(container.image)
        created = image.created if image is not None else None
        rows.append(
            HostContainer(
                user=host.user.name,
                name=container.name,
                id=container.id,
                image=container.image_name,
                digest=image.digest if image is not None else "",
                image_created=created.isoformat() if created is not None else None,
                state=verdict.state,
                reason=verdict.reason,
                owner=verdict.owner,
                available=verdict.moved.digest if verdict.moved is not None else "",
            )
        )
    return rows


def _print(rows: Sequence[HostContainer], format: Format) -> None:
    if format == "json":
        print_json({"containers": rows})
        return
    several = len({row.user for row in rows}) > 1
    print_table(
        ("CONTAINER", "IMAGE", "DIGEST", "AGE", "STATE", "WHY"),
        [
            (
                f"{row.user}/{row.name}" if several else row.name,
                row.image,
                row.digest[:_DIGEST_CHARACTERS],
                _age(row.image_created),
                row.state,
                row.reason,
            )
            for row in rows
        ],
    )


def _age(created: str | None) -> str:
    if created is None:
        return "?"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    for unit_seconds, unit in _AGES:
        if seconds >= unit_seconds:
            return f"{seconds // unit_seconds:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _sentence(outcome: HostOutcome) -> str:
    parts = [f"{', '.join(outcome.containers)}: {outcome.result}"]
    if outcome.down_seconds is not None:
        parts.append(f" (down for {outcome.down_seconds:.2f} s)")
    if outcome.why:
        parts.append(f": {outcome.why}")
    if outcome.log:
        parts.append("\n" + "\n".join(f"    {line}" for line in outcome.log.splitlines()))
    return "".join(parts)
