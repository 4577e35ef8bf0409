"""`up`: build every stale image of a local chain. Here: one run at a time in a folder, and interrupts.

All state is in the images. Whatever moment this process dies at, the next run reads the same images, removes
what was left behind, and goes on.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from imagechain.discovery import Discovery
from imagechain.engines.folders import Folders, begin_run, locked, remove_runs
from imagechain.engines.interrupts import stoppable
from imagechain.engines.local.observe import observe
from imagechain.engines.local.run import Run
from imagechain.engines.local.values import Noted, Options, Reporter, UpResult, Waiting
from imagechain.images import Builder, kill_orphans


def run_up(
    discover: Callable[[], Discovery], builder: Builder, folders: Folders, options: Options, report: Reporter
) -> UpResult:
    """Do what `up` does, and stop cleanly at an interrupt or TERM: `UpResult.interrupted` tells.

    Args:
        discover: Reads the folder; called when no other imagechain works on it.
        builder: Who builds.
        folders: The engine's own folders.
        options: What is asked.
        report: Where progress goes.

    Raises:
        BuilderError: the local store cannot be read.
        FolderError: the engine's own folder cannot be written.
        UnknownSourceError: `options.only` names nothing of the chain.
    """
    return asyncio.run(
        stoppable(up(discover, builder, folders, options, report), UpResult(is_interrupted=True))
    )


async def up(
    discover: Callable[[], Discovery], builder: Builder, folders: Folders, options: Options, report: Reporter
) -> UpResult:
    """Build all that is stale. Cancel it to interrupt it: it stops its builds and returns what it did."""
    async with locked(folders, lambda pid: report(Waiting(pid=pid))):
        discovery = discover()
        run_folder, has_leftovers = begin_run(folders)
        if has_leftovers:
            for run in folders.runs.iterdir():
                if run != run_folder:
                    kill_orphans(f"{run}/")
            removed = await builder.sweep(lambda work: _is_leftover(Path(work), folders, run_folder))
            remove_runs(folders, keep=run_folder)
            report(Noted(text=f"an earlier run was cut short: removed {removed} containers and images of it"))
        local = await observe(
            discovery, builder, folders, jobs=options.jobs, only=options.only, kinds=options.kinds
        )
        result = await Run(local, builder, folders, options, report, folder=run_folder).run()
        # Not reached if this is cut short: then the folder tells the next run that something is left.
        remove_runs(folders, keep=None)
        return result


def _is_leftover(work: Path, folders: Folders, run_folder: Path) -> bool:
    return work.is_relative_to(folders.runs) and not work.is_relative_to(run_folder)
