"""`imagechain mirror`: keep tags of other registries mirrored; take over the lists of other tools."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from imagechain.cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, UsageError
from imagechain.cli.history import history_file, remember
from imagechain.cli.output import Format, print_error_lines, print_json, print_lines, print_table
from imagechain.cli.registries import registry_client
from imagechain.cli.settings import read_service_settings
from imagechain.config import MirrorSettings, Settings, state_folder
from imagechain.mirror.gate import Gate
from imagechain.mirror.plan import is_due, name_of
from imagechain.mirror.prune import Removal, carry_out, digests_in, name_of_plan, plan_removals
from imagechain.mirror.state import Held, locked, read_held, read_synced, write_held, write_synced
from imagechain.mirror.sync import MirrorResult, Syncer
from imagechain.registry import RegistryClient, RegistryError

#: Largest file with the status of a host.
STATUS_BYTES_MAX = 64 * 1024 * 1024
#: Largest list of another tool.
LIST_BYTES_MAX = 1024 * 1024
Flag = Parameter(negative=())

app = App(name="mirror", help="Keep tags of other registries mirrored.", help_format="plaintext")


@app.command
def sync(
    *targets: Annotated[str, Parameter(name="TARGET")],
    config: Path | None = None,
    dry_run: Annotated[bool, Flag] = False,
    prune: str | None = None,
    hosts: Annotated[tuple[Path, ...], Parameter(negative=(), consume_multiple=True)] = (),
    format: Format = "table",
) -> int:
    """Copy the tags that moved, from the [[mirror]] tables of the settings.

    Leaves with 1 if a tag is gone or cannot be copied, with 3 if one could not be looked at.

    Args:
        targets: Only these targets, whether their schedule says so or not; default: all that are due.
        config: The settings; default: imagechain.toml here, or in /etc/imagechain.
        dry_run: Look, and write nothing; also shows what --prune would remove, and the name of that plan.
        prune: Remove what the dry run with this name has shown, instead of copying.
        hosts: Files with what `imagechain hosts status --format json` says, one of each host: what a host
            runs is not removed. Needed by --prune.
        format: How the result is printed.
    """
    settings = read_service_settings(config)
    folder = state_folder(settings.state_dir, os.environ) / "mirror"
    with locked(folder):
        synced = read_synced(folder)
        # What is only looked at, or removed, has no schedule.
        since = {} if dry_run or prune is not None else synced
        mirrors = _chosen(settings.mirror, targets, since)
        in_use = _read_hosts(hosts)
        if prune is not None:
            if not hosts:
                raise UsageError("--prune needs --hosts FILE of every host: what one runs is not removed")
            removals = asyncio.run(_prune(settings, mirrors, in_use, prune))
            _print_removals(removals, format)
            return EXIT_FAILED if any(each.outcome == "failed" for each in removals) else 0
        began = time.time()
        results, removals, held = asyncio.run(
            _sync(settings, mirrors, in_use, _held(folder, targets), dry_run=dry_run)
        )
        found = [each for one in results.values() for each in one]
        # Told first: where nothing can be kept on disk, something was mirrored all the same.
        _print(found, removals, format)
        if held is not None:
            write_held(folder, held)
        if not dry_run:
            complete = {
                target: began
                for target, found_there in results.items()
                if all(each.outcome in {"same", "copied"} for each in found_there)
            }
            write_synced(folder, {**synced, **complete})
    return _exit_code(found)


@app.command(name="import")
def import_list(file: Path, *, to: str = "") -> None:
    """Translate a list of skopeo sync or of regsync to [[mirror]] tables, on standard output.

    What has no counterpart is named on standard error, with what to do instead.

    Args:
        file: The list, in YAML.
        to: The beginning of the targets' names (registry.example.com/mirror), which skopeo's lists have not.
    """
    # Imported here, because reading YAML is slow to import, and no other command here does.
    from imagechain.mirror.translate import TranslationError, as_toml, translate  # noqa: PLC0415

    with file.open("rb") as stream:
        data = stream.read(LIST_BYTES_MAX + 1)
    if len(data) > LIST_BYTES_MAX:
        raise UsageError(f"{file} is larger than {LIST_BYTES_MAX} bytes: is it a list of mirrors?")
    try:
        translation = translate(data.decode(), to)
    except (TranslationError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from error
    sys.stdout.write(as_toml(translation))
    print_error_lines(translation.notes)


def _chosen(
    mirrors: Sequence[MirrorSettings], targets: Sequence[str], synced: dict[str, float]
) -> list[MirrorSettings]:
    if not mirrors:
        raise UsageError("the settings have no [[mirror]] table; docs/mirror.md has one to copy")
    if not targets:
        return [one for one in mirrors if is_due(one.schedule, synced.get(one.target), time.time())]
    known = {name_of(mirror.target): mirror for mirror in mirrors} | {one.target: one for one in mirrors}
    if missing := [target for target in targets if target not in known]:
        raise UsageError(f"no [[mirror]] table has the target {missing[0]}; known are {', '.join(known)}")
    return [known[target] for target in dict.fromkeys(targets)]


def _held(folder: Path, targets: Sequence[str]) -> dict[str, Held]:
    """Give what was held; of targets that a person names nothing, so that they are vetted at once."""
    names = tuple(f"{name_of(target)}:" for target in targets)
    return {tag: held for tag, held in read_held(folder).items() if not tag.startswith(names)}


def _read_hosts(files: Sequence[Path]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for file in files:
        with file.open("rb") as stream:
            digests = digests_in(stream.read(STATUS_BYTES_MAX).decode(errors="replace"))
        if not digests:
            raise UsageError(f"--hosts: {file} has no digest; leave out a host that runs nothing")
        found |= digests
    return found


async def _sync(
    settings: Settings,
    mirrors: Sequence[MirrorSettings],
    in_use: frozenset[str],
    held: dict[str, Held],
    *,
    dry_run: bool,
) -> tuple[dict[str, list[MirrorResult]], list[Removal], dict[str, Held] | None]:
    async with (
        registry_client(settings, os.environ, leaves_reserve=True) as client,
        _gate(settings, mirrors, client, held) as gate,
    ):
        syncer = Syncer(client, now=time.time, dry_run=dry_run, gate=gate, told=_tell)
        results = await syncer.sync(mirrors)
        remember(history_file(settings, os.environ), syncer.sightings)
        removals = []
        if dry_run:
            try:
                removals = await plan_removals(client, syncer, mirrors, in_use)
            except RegistryError as error:
                print_error_lines([f"imagechain: what could be pruned is not known: {error}"])
        return results, removals, gate.held if gate is not None else None


@asynccontextmanager
async def _gate(
    settings: Settings, mirrors: Sequence[MirrorSettings], client: RegistryClient, held: dict[str, Held]
) -> AsyncIterator[Gate | None]:
    """Make what holds digests back; None where no mirror asks for it."""
    if not any(mirror.vet or mirror.cooldown for mirror in mirrors):
        yield None
        return
    file = history_file(settings, os.environ)
    history, problems = file.read()
    print_error_lines(problems)
    async with AsyncExitStack() as stack:
        examiner = None
        if any(mirror.vet for mirror in mirrors):
            # Imported here, because reading layers and archives is slow to import, and rarely asked for.
            from imagechain.cli.examiner import open_examiner  # noqa: PLC0415

            examiner = await stack.enter_async_context(open_examiner(settings, client, history))
        yield Gate(history, examiner, held, now=time.time)
        if examiner is not None:
            remember(file, examiner.sightings)


async def _prune(
    settings: Settings, mirrors: Sequence[MirrorSettings], in_use: frozenset[str], plan: str
) -> list[Removal]:
    async with registry_client(settings, os.environ, leaves_reserve=True) as client:
        removals = await plan_removals(client, Syncer(client, now=time.time), mirrors, in_use)
        if name_of_plan(removals) != plan:
            raise UsageError(
                f"{plan} is not the plan of what would be removed now ({name_of_plan(removals)}); "
                "look at --dry-run with the same --hosts again"
            )
        return await carry_out(client, removals)


def _tell(result: MirrorResult) -> None:
    """Show on standard error what is copied while the others are still looked at."""
    if result.outcome == "copied":
        print_error_lines([f"copied {result.source} to {result.target}"])


def _print(results: Sequence[MirrorResult], removals: Sequence[Removal], format: Format) -> None:
    plan = name_of_plan(removals) if any(each.outcome == "to remove" for each in removals) else ""
    if format == "json":
        print_json({"tags": results, "removals": removals, "plan": plan})
        return
    # What people look for is what is not as it was.
    rows = [(one.source, one.target, one.outcome, one.previous) for one in results if one.outcome != "same"]
    if rows:
        print_table(("source", "target", "outcome", "previous"), rows)
    print_lines([f"{len(results) - len(rows)} of {len(results)} tags are up to date"])
    print_error_lines(each.message for each in results if each.message)
    if removals:
        _print_removals(removals, format)
    if plan:
        print_error_lines([f"to remove these: imagechain mirror sync --prune {plan} --hosts FILE..."])


def _print_removals(removals: Sequence[Removal], format: Format) -> None:
    if format == "json":
        print_json({"removals": removals})
        return
    rows = [(f"{each.target}:{each.tag}", each.digest, each.outcome) for each in removals]
    if rows:
        print_table(("tag", "digest", "outcome"), rows)
    else:
        print_lines(["nothing to remove"])
    print_error_lines(each.message for each in removals if each.message)


def _exit_code(results: Sequence[MirrorResult]) -> int:
    outcomes = {each.outcome for each in results}
    if outcomes & {"failed", "absent"}:
        return EXIT_FAILED
    return EXIT_UNAVAILABLE if "unknown" in outcomes else 0
