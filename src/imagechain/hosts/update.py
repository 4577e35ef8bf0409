"""One update: rename the old container, make the new, stop the old, start the new, gate, remove the old.

The old container stays until the new one has passed, so whatever fails, it comes back. Before the first step
a journal is on the disk. What the journal of a killed run says is compared with what podman has, never
believed alone: undoing and finishing may be killed and done again any number of times (`recover`).

A container that podman removes as soon as it stops (`--rm`) gets a spare copy first, which takes its place.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from imagechain.hosts.differences import differences
from imagechain.hosts.gate import UnfitError, pass_gate
from imagechain.hosts.hooks import HookError, run_hook
from imagechain.hosts.host import Host
from imagechain.hosts.kept import drop_images, keep_image
from imagechain.hosts.plan import Action, Facts, Member, is_local
from imagechain.hosts.podman import PodmanError
from imagechain.hosts.replay import NotReplayableError, Replay, replay, without_id_file
from imagechain.hosts.state import Journal, Part, StateError
from imagechain.hosts.systemd import SystemdError
from imagechain.hosts.values import AUTHFILE_LABEL, OLD_SUFFIX, SPARE_SUFFIX, Container, Image
from imagechain.refs import parse_reference

_DIFFERENCES_TOLD_MAX = 5
#: Who takes longer to stop is waited for, and told of.
_STOP_SECONDS_USUAL = 5.0
_START_ATTEMPTS_MAX = 3
_START_AGAIN_SECONDS = 1.0
_UNDO_ATTEMPTS_MAX = 3

_Failure = (PodmanError, SystemdError, StateError)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one update."""

    containers: tuple[str, ...]
    #: `failed`: nothing was changed, or (says `why`) the next run has to go on; `postponed`: a hook said so.
    result: Literal["updated", "rolled-back", "failed", "postponed"]
    why: str = ""
    #: From the stop of the old ones to the start of the new ones.
    down_seconds: float | None = None
    #: Digests that are not to be tried again.
    held: tuple[str, ...] = ()
    #: What the new container said last, where it failed.
    log: str = ""


class Updater:
    """Updates the containers of one user."""

    def __init__(self, host: Host) -> None:
        self._podman = host.podman
        self._systemd = host.systemd
        self._state = host.state
        self._settings = host.settings
        self._clock = host.clock
        self._user = host.user

    async def update(self, action: Action, facts: Facts) -> Outcome:
        """Make the containers of an action anew; where that fails, the old ones come back. Raises nothing."""
        names = action.names
        try:
            changed = await self._changed(action)
            if changed:
                return Outcome(containers=names, result="postponed", why=changed)
            await run_hook(self._settings.hooks.before, self._settings.hooks.timeout, names, self._user)
        except (HookError, PodmanError) as error:
            return Outcome(containers=names, result="postponed", why=str(error))
        try:
            replays = {} if action.unit else _replays(action, facts)
            for member in action.members:
                await self._pull(member)
            journal = self._journal(action, replays)
            self._state.write(journal)
        except (*_Failure, NotReplayableError) as error:
            return Outcome(containers=names, result="failed", why=f"nothing was touched: {error}")
        begun = _Progress()
        try:
            if journal.unit:
                await self._restart(journal, begun)
            else:
                await self._replace(journal, replays, facts, begun)
            journal = msgspec.structs.replace(journal, phase="passed")
            self._state.write(journal)
        except (*_Failure, UnfitError, HookError) as error:
            return await self._roll_back(journal, error, begun)
        except BaseException:
            await self._undo_interrupted(journal)
            raise
        return await self._end(journal, begun)

    async def recover(self, journal: Journal) -> Outcome:
        """Finish or undo what a run before this one began. Raises nothing."""
        names = tuple(part.name for part in journal.parts)
        began = "a run that did not end had begun to update it"
        if journal.phase == "started":
            try:
                await self._gate(journal)
                journal = msgspec.structs.replace(journal, phase="passed")
                self._state.write(journal)
            except (*_Failure, UnfitError, HookError) as error:
                return await self._roll_back(journal, error, _Progress(is_down=True))
        if journal.phase == "passed":
            outcome = await self._end(journal, _Progress())
            return msgspec.structs.replace(outcome, why=outcome.why or f"{began}; it is finished now")
        try:
            await self._undo(journal)
        except _Failure as error:
            return Outcome(containers=names, result="failed", why=f"{began}; undoing that failed: {error}")
        return Outcome(containers=names, result="rolled-back", why=f"{began}; it is undone now")

    async def _changed(self, action: Action) -> str:
        """Say what somebody changed since the plan was made: many containers take their time."""
        now = {one.id: one for one in await self._podman.containers([m.container.id for m in action.members])}
        for member in action.members:
            before, after = member.container, now.get(member.container.id)
            if after is None or (after.name, after.state.status) != (before.name, before.state.status):
                return f"{before.name} was changed meanwhile; the next run looks at it again"
        return ""

    # --- what is changed --------------------------------------------------------------------------------

    async def _pull(self, member: Member) -> None:
        """Fetch an image by its digest: no name of the store moves by that."""
        moved = member.moved
        if moved is None:
            return
        reference = parse_reference(member.reference)
        if is_local(reference) or await self._podman.images([moved.image_id]):
            return
        auth_file = member.container.labels.get(AUTHFILE_LABEL, "")
        # The index first, so that its digest is known here; it may choose for another platform.
        for digest in dict.fromkeys((moved.digest, moved.platform_digest)):
            await self._podman.pull(f"{reference.name}@{digest}", auth_file)
            if await self._podman.images([moved.image_id]):
                return
        raise PodmanError(
            f"podman pull: {reference} came without the image {moved.image_id} that its digest names"
        )

    def _journal(self, action: Action, replays: Mapping[str, Replay]) -> Journal:
        parts = []
        for member in action.members:
            container, made = member.container, replays.get(member.container.id)
            parts.append(
                Part(
                    name=container.name,
                    old_id=container.id,
                    is_started=container.is_running or (member.moved is not None and container.is_crashed),
                    old_image=container.image,
                    new_image=member.moved.image_id if member.moved else container.image,
                    reference=member.reference,
                    command_hash=_hash(made.argv) if made else "",
                    cid_file=made.cid_file if made else "",
                )
            )
            if made and made.cid_file and not self._user.is_self:
                raise NotReplayableError(
                    f"it writes {made.cid_file}: run imagechain as {self._user.name} for it"
                )
            _check_id_file(parts[-1])
        digests = {member.moved.digest for member in action.members if member.moved}
        now = self._clock.now()
        identity = f"{now:017.6f}-{parts[0].old_id[:12]}"
        return Journal(
            id=identity, parts=tuple(parts), unit=action.unit, digests=tuple(sorted(digests)), begun_at=now
        )

    async def _replace(
        self, journal: Journal, replays: Mapping[str, Replay], facts: Facts, begun: "_Progress"
    ) -> None:
        old = {container.id: container for container in facts.containers}
        await self._make_spares(journal, replays, old)
        await self._name_images(journal, lambda part: part.new_image)
        for part in journal.parts:
            await self._podman.rename(part.old_id, part.name + OLD_SUFFIX)
            _remove_id_file(part)
            made = replays[part.old_id]
            await self._podman.create(made.argv, made.environment)
        await self._compare(journal, old, is_started=False)
        begun.is_down, begun.down_at = True, self._clock.seconds()
        for part in reversed(journal.parts):
            if old[part.old_id].is_running:
                begun_at = self._clock.seconds()
                await self._podman.stop(part.old_id)
                if self._clock.seconds() - begun_at > _STOP_SECONDS_USUAL:
                    begun.slow.append(part.name)
        try:
            for part in journal.parts:
                if part.is_started:
                    await self._podman.start(part.name)
        except PodmanError as error:
            raise UnfitError(str(error)) from error
        begun.up_at = self._clock.seconds()
        journal = msgspec.structs.replace(journal, phase="started")
        self._state.write(journal)
        await self._gate(journal)
        await self._compare(journal, old, is_started=True)

    async def _make_spares(
        self, journal: Journal, replays: Mapping[str, Replay], old: Mapping[str, Container]
    ) -> None:
        """Copy containers that are gone as soon as they stop."""
        removed = [part for part in journal.parts if old[part.old_id].host_config.auto_remove]
        if not removed:
            return
        await self._name_images(journal, lambda part: part.old_image)
        for part in removed:
            spare = without_id_file(replays[part.old_id])
            name = f"--name={part.name}{SPARE_SUFFIX}"
            argv = tuple(name if word == f"--name={part.name}" else word for word in spare.argv)
            await self._podman.create(argv, spare.environment)

    async def _name_images(self, journal: Journal, image: Callable[[Part], str]) -> None:
        named = {part.reference: image(part) for part in journal.parts if part.reference}
        for reference, id in named.items():
            await self._podman.tag(id, reference)

    async def _restart(self, journal: Journal, begun: "_Progress") -> None:
        await self._name_images(journal, lambda part: part.new_image)
        begun.is_down, begun.down_at = True, self._clock.seconds()
        try:
            await self._systemd.restart(journal.unit)
        except SystemdError as error:
            raise UnfitError(str(error)) from error
        begun.up_at = self._clock.seconds()
        self._state.write(msgspec.structs.replace(journal, phase="started"))
        await self._gate(journal)

    # --- whether it is good -----------------------------------------------------------------------------

    async def _gate(self, journal: Journal) -> None:
        names = [part.name for part in journal.parts if part.is_started]
        for container in await self._podman.containers(names):
            part = next(part for part in journal.parts if part.name == container.name)
            if container.image != part.new_image:
                hint = "; its unit must make its container anew (podman generate systemd --new)"
                raise UnfitError(f"{part.name} runs the old image{hint if journal.unit else ''}")
        await pass_gate(
            self._podman,
            names,
            settle_seconds=self._settings.settle,
            runs_checks=not self._systemd.is_here,
            clock=self._clock,
        )
        hooks = self._settings.hooks
        await run_hook(hooks.after, hooks.timeout, [part.name for part in journal.parts], self._user)

    async def _compare(self, journal: Journal, old: Mapping[str, Container], *, is_started: bool) -> None:
        """Compare each new container with the one that it replaces."""
        new = {one.name: one for one in await self._podman.containers([part.name for part in journal.parts])}
        wanted = {id for part in journal.parts for id in (part.old_image, part.new_image)}
        images = {image.id: image for image in await self._podman.images(sorted(wanted))}
        names = {part.old_id: part.name for part in journal.parts}
        names |= {container.id: container.name for container in new.values()}
        for part in journal.parts:
            before = old[part.old_id]
            found = differences(
                before,
                _existing(new, part.name),
                _image(images, part.old_image),
                _image(images, part.new_image),
                names=names,
                is_started=is_started and before.is_running,
            )
            if found:
                told = "; ".join(found[:_DIFFERENCES_TOLD_MAX])
                raise UnfitError(f"{part.name} would not come back as it was: {told}")

    # --- ends -------------------------------------------------------------------------------------------

    async def _roll_back(self, journal: Journal, error: Exception, begun: "_Progress") -> Outcome:
        names = tuple(part.name for part in journal.parts)
        is_unfit = isinstance(error, (UnfitError, HookError))
        log = await self._last_words(journal) if is_unfit and begun.is_down else ""
        held = journal.digests if is_unfit else ()
        try:
            await self._undo(journal)
        except _Failure as problem:
            why = f"{error}; bringing the old one back failed: {problem}; the next run tries again"
            return Outcome(containers=names, result="failed", why=why, held=held, log=log)
        result: Literal["rolled-back", "failed"] = "rolled-back" if begun.is_down or is_unfit else "failed"
        return Outcome(containers=names, result=result, why=str(error), held=held, log=log)

    async def _last_words(self, journal: Journal) -> str:
        said = []
        for part in journal.parts:
            try:
                said.append(await self._podman.last_words(part.name))
            except PodmanError:
                continue  # it is gone, or was never made
        return "\n".join(filter(None, said))

    async def _end(self, journal: Journal, begun: "_Progress") -> Outcome:
        names = tuple(part.name for part in journal.parts)
        try:
            await self._finish(journal)
        except _Failure as error:
            why = f"it runs the new image; what is left of the old one is removed by the next run: {error}"
            return Outcome(containers=names, result="failed", why=why)
        slow = ", ".join(begun.slow)
        why = (
            f"{slow} took long to stop: its first process does not heed SIGTERM (--init helps)"
            if slow
            else ""
        )
        return Outcome(containers=names, result="updated", why=why, down_seconds=begun.down_seconds)

    async def _finish(self, journal: Journal) -> None:
        """Remove what waited to come back. Done again by the next run, if this one is killed."""
        for part in journal.parts:
            if part.old_image != part.new_image:
                await keep_image(self._podman, part.old_image, part.name, journal.begun_at)
        for part in reversed(journal.parts):
            found = {one.name: one for one in await self._podman.containers([part.name, part.old_id])}
            successor = found.get(part.name)
            if journal.unit or successor is None or successor.id == part.old_id:
                continue  # nothing waits, or it is all that there is
            await self._podman.remove(part.old_id)
            await self._podman.remove(part.name + SPARE_SUFFIX)
            _write_id_file(part, successor.id)
        for part in journal.parts:
            await drop_images(self._podman, part.name, self._settings.keep_images)
        self._state.close(journal)

    async def _undo(self, journal: Journal) -> None:
        """Bring the old containers back. Looks at what there is, so it may be done again at any time."""
        if journal.unit:
            await self._undo_unit(journal)
            return
        waiting = {}
        for part in journal.parts:
            spare = part.name + SPARE_SUFFIX
            found = await self._podman.containers([part.old_id, spare])
            waiting[part.name] = sorted(found, key=lambda one: one.id != part.old_id)
        for part in reversed(journal.parts):
            for successor in await self._podman.containers([part.name]):
                is_ours = _hash((successor.config.create_command or ())[1:]) == part.command_hash
                if waiting[part.name] and successor.id != part.old_id and is_ours:
                    await self._podman.remove(successor.id)
        await self._name_images(journal, lambda part: part.old_image)
        gone = [part.name for part in journal.parts if not await self._bring_back(part, waiting[part.name])]
        self._state.close(journal)
        if gone:
            raise PodmanError(
                f"{', '.join(gone)}: somebody removed it meanwhile, the old one and the new one"
            )

    async def _undo_interrupted(self, journal: Journal) -> None:
        """Bring the old containers back before this ends; where that fails, the next run does it.

        What podman was stopped in the middle of may stand in the way for a moment.
        """
        for _ in range(_UNDO_ATTEMPTS_MAX):
            try:
                await self._undo(journal)
            except _Failure:
                await self._clock.sleep(_START_AGAIN_SECONDS)
            else:
                return

    async def _bring_back(self, part: Part, waiting: Sequence[Container]) -> bool:
        """Give the old container, or its copy, its name, and start it if it ran; tell if there is one."""
        occupants = await self._podman.containers([part.name])
        if not waiting and not occupants:
            return False
        # Where somebody removed the old one, or made another of its name, that one stays.
        is_other = bool(occupants) and (not waiting or occupants[0].id != waiting[0].id)
        keeper = occupants[0] if is_other else waiting[0]
        if keeper.name != part.name:
            await self._podman.rename(keeper.id, part.name)
        _write_id_file(part, keeper.id)
        if part.is_started and not keeper.is_running:
            await self._start(keeper.id)
        for spare in waiting:
            if spare.id not in {keeper.id, part.old_id}:
                await self._podman.remove(spare.id)
        return True

    async def _start(self, id: str) -> None:
        for attempt in range(1, _START_ATTEMPTS_MAX + 1):
            try:
                await self._podman.start(id)
            except PodmanError:
                if attempt == _START_ATTEMPTS_MAX:
                    raise
                await self._clock.sleep(_START_AGAIN_SECONDS)
            else:
                return

    async def _undo_unit(self, journal: Journal) -> None:
        await self._name_images(journal, lambda part: part.old_image)
        found = {one.name: one for one in await self._podman.containers([p.name for p in journal.parts])}
        is_as_before = all(
            part.name in found and found[part.name].is_running and found[part.name].image == part.old_image
            for part in journal.parts
        )
        if not is_as_before:
            await self._systemd.restart(journal.unit)
        self._state.close(journal)


class _Progress(msgspec.Struct):
    """How far an update has come."""

    is_down: bool = False
    down_at: float = 0.0
    up_at: float | None = None
    #: Containers that did not stop when they were asked to.
    slow: list[str] = []

    @property
    def down_seconds(self) -> float | None:
        return None if self.up_at is None else self.up_at - self.down_at


def _replays(action: Action, facts: Facts) -> dict[str, Replay]:
    """Edit the commands of all containers of an action, by the ids of the old ones."""
    names = {container.id: container.name for container in facts.containers}
    return {
        member.container.id: replay(
            member.container,
            _image(facts.images, member.container.image),
            facts.grammar,
            names=names,
            reference=member.reference,
        )
        for member in action.members
    }


def _image(images: Mapping[str, Image], id: str) -> Image:
    if id not in images:
        raise PodmanError(f"podman image inspect: {id[:12]} is gone from the store")
    return images[id]


def _existing(containers: Mapping[str, Container], name: str) -> Container:
    if name not in containers:
        raise UnfitError(f"{name} was made, and is gone")
    return containers[name]


def _hash(argv: Sequence[str]) -> str:
    return hashlib.sha256(msgspec.json.encode(tuple(argv))).hexdigest()


def _check_id_file(part: Part) -> None:
    """Make sure that the file with the container's id, if there is one, is this container's."""
    if not part.cid_file:
        return
    file = Path(part.cid_file)
    try:
        if file.read_text().strip() != part.old_id:
            raise PodmanError(
                f"{file} holds the id of another container; look which one, and remove the file"
            )
    except FileNotFoundError:
        return
    except OSError as error:
        raise PodmanError(f"{file} cannot be read: {error.strerror}") from error


def _remove_id_file(part: Part) -> None:
    """Make room for the file that podman writes."""
    if part.cid_file:
        try:
            Path(part.cid_file).unlink(missing_ok=True)
        except OSError as error:
            raise PodmanError(f"{part.cid_file} cannot be removed: {error.strerror}") from error


def _write_id_file(part: Part, id: str) -> None:
    """Write the id of a container where others look for it: podman removes the file with the old one."""
    if part.cid_file:
        try:
            Path(part.cid_file).write_text(id)
        except OSError as error:
            raise PodmanError(f"{part.cid_file} cannot be written: {error.strerror}") from error
