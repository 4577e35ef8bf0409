"""systemd, as far as containers are its services: who runs what, and restarting it. Decides nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from imagechain.hosts.podman import User
from imagechain.hosts.values import Unit
from imagechain.images.process import Completed, ProgramError, ending, run

#: Exists exactly where systemd is what started this machine (sd_booted(3)).
_BOOTED = Path("/run/systemd/system")
#: A unit may take long to start: it waits until its container says that it is ready.
_RESTART_SECONDS_MAX = 1_800.0
_SHOW_SECONDS_MAX = 30.0
_PROPERTIES = "--property=Id,LoadState,ActiveState,MainPID,ControlGroup"


class SystemdError(Exception):
    """systemd could not do it; the message says what it said."""


class Systemd(Protocol):
    """What is asked of systemd."""

    @property
    def is_here(self) -> bool:
        """Whether systemd runs this machine."""
        ...

    async def units(self, names: Sequence[str], pids: Sequence[int]) -> Mapping[str, Unit]:
        """Tell of units, and which of these processes run within them; nothing if systemd does not answer."""
        ...

    async def restart(self, name: str) -> None:
        """Restart a unit and wait until that is done. Raises `SystemdError`."""
        ...


class SystemdProgram:
    """The real one: the system's manager for root, a user's own for anybody else."""

    def __init__(self, user: User, *, booted: Path = _BOOTED, processes: Path = Path("/proc")) -> None:
        self._user = user
        self._manager = [] if user.name == "root" else ["--user"]
        self._booted = booted
        self._processes = processes

    @property
    def is_here(self) -> bool:
        """Whether systemd runs this machine."""
        return self._booted.is_dir()

    async def units(self, names: Sequence[str], pids: Sequence[int]) -> Mapping[str, Unit]:
        """Tell of units, and which of these processes run within them; nothing if systemd does not answer."""
        if not names or not self.is_here:
            return {}
        try:
            done = (await self._run(_SHOW_SECONDS_MAX, "show", _PROPERTIES, "--", *names)).output
        except SystemdError:
            return {}
        blocks = [
            dict(line.partition("=")[::2] for line in block.splitlines())
            for block in done.decode(errors="replace").split("\n\n")
            if block.strip()
        ]
        if len(blocks) != len(names):
            return {}
        return {name: self._unit(block, pids) for name, block in zip(names, blocks, strict=True)}

    async def restart(self, name: str) -> None:
        """Restart a unit and wait until that is done."""
        await self._run(_RESTART_SECONDS_MAX, "restart", "--", name)

    def _unit(self, block: Mapping[str, str], pids: Sequence[int]) -> Unit:
        main = int(block.get("MainPID") or 0)
        group = block.get("ControlGroup", "")
        owned = {pid for pid in pids if pid and (pid == main or self._is_within(pid, group))}
        return Unit(block.get("LoadState", ""), block.get("ActiveState") == "active", frozenset(owned))

    def _is_within(self, pid: int, group: str) -> bool:
        """Whether the kernel counts a process to a unit's control group."""
        try:
            told = (self._processes / str(pid) / "cgroup").read_text()
        except OSError:
            return False
        paths = [line.split(":", 2)[2] for line in told.splitlines() if line.count(":") >= 2]
        return bool(group) and any(f"{path}/".startswith(f"{group}/") for path in paths)

    async def _run(self, seconds_max: float, *arguments: str) -> Completed:
        argv = (*self._user.prefix, "systemctl", *self._manager, *arguments)
        try:
            done = await run(argv, timeout_seconds=seconds_max, environment=self._user.environment)
        except ProgramError as error:
            raise SystemdError(str(error)) from error
        if done.exit_code != 0:
            raise SystemdError(f"systemctl {arguments[0]}: {done.error.strip() or ending(done.exit_code)}")
        return done
