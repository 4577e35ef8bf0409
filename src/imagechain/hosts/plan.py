"""What is to be done with the containers of one user, and why; pure: the time is an argument.

Only what is known counts: an image that could not be checked is never "current". Containers that need others
(`--requires`, another's network or volumes) are made anew with them, because podman ties them by ids.
"""

from collections.abc import Mapping, Sequence
from datetime import tzinfo

import msgspec

from imagechain.chain.policy import Policy, window_opens_at
from imagechain.config import HostSettings
from imagechain.hosts.command_line import Grammar
from imagechain.hosts.dependents import Needs, closure, groups, needs_of
from imagechain.hosts.replay import NotReplayableError, redacted, replay
from imagechain.hosts.values import (
    AUTOUPDATE_LABEL,
    KEPT_REPOSITORY,
    OLD_SUFFIX,
    SPARE_SUFFIX,
    UNIT_LABEL,
    UPDATE_LABEL,
    Check,
    Container,
    Image,
    Moved,
    Owner,
    Unchecked,
    Unit,
    Verdict,
    VerdictState,
)
from imagechain.refs import Reference, ReferenceError, parse_reference

#: podman's own updater, which Debian enables.
STOCK_TIMER = "podman-auto-update.timer"
_AUTOUPDATE_ON = frozenset({"registry", "image", "local"})
_ID_CHARACTERS = 64


class Moment(msgspec.Struct, frozen=True):
    """When, and for whom."""

    #: Unix time.
    now: float
    #: Of the windows.
    timezone: tzinfo
    #: Containers that a person named: only these, and at once: no window, cool-down or hold counts.
    asked: frozenset[str] = frozenset()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of the containers of one user."""

    containers: tuple[Container, ...]
    #: By id and by each name that they have.
    images: Mapping[str, Image]
    #: By reference.
    checks: Mapping[str, Check] = {}
    #: By the name that a container's label gives; one that is missing could not be asked for.
    units: Mapping[str, Unit] = {}
    #: Whether systemd runs here at all.
    has_systemd: bool = False
    grammar: Grammar
    #: Digests of images that were rolled back.
    held: frozenset[str] = frozenset()
    #: When digests were seen for the first time.
    first_seen: Mapping[str, float] = {}


class Member(msgspec.Struct, frozen=True):
    """One container of an action."""

    container: Container
    #: What it is updated to; None: it only needs another one that is.
    moved: Moved | None
    reference: str


class Action(msgspec.Struct, frozen=True):
    """Containers that are made anew together."""

    #: In the order in which they are started.
    members: tuple[Member, ...]
    #: The unit that makes them anew; empty: their own commands do.
    unit: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its containers."""
        return tuple(member.container.name for member in self.members)


class Plan(msgspec.Struct, frozen=True):
    """What is to be said of each container, and what is to be done now."""

    verdicts: tuple[Verdict, ...]
    actions: tuple[Action, ...]


def references(facts: Facts, settings: HostSettings) -> dict[str, Reference]:
    """List the references that are to be looked for, by the texts that `Facts.checks` has them by."""
    found = {}
    for container in facts.containers:
        reference = tracked(container)
        if _excluded(container, facts, settings) is None and isinstance(reference, Reference):
            found[str(reference)] = reference
    return found


def tracked(container: Container) -> Reference | str:
    """Tell what a container follows, or why it follows nothing."""
    name = container.image_name
    if not name or (len(name) == _ID_CHARACTERS and name.isalnum()):
        return "its image has no name; give it one (podman tag) and make the container from that"
    try:
        reference = parse_reference(name)
    except ReferenceError as error:
        return str(error)
    return f"pinned to {reference.digest}" if reference.digest is not None else reference


def is_local(reference: Reference) -> bool:
    """Whether an image comes from this host's own store, not from a registry."""
    return reference.domain == "localhost"


def make_plan(facts: Facts, settings: HostSettings, moment: Moment) -> Plan:
    """Decide what is to be done now, and say of each container why."""
    needs = needs_of(facts.containers)
    verdicts: dict[str, Verdict] = {}
    for container in facts.containers:
        if not container.is_helper and not is_ours(container):
            verdicts[container.id] = _verdict(container, facts, settings, moment)
    actions = _actions(facts, settings, verdicts, needs)
    ordered = sorted(verdicts.values(), key=lambda verdict: verdict.container.name)
    return Plan(tuple(ordered), tuple(actions))


def is_ours(container: Container) -> bool:
    """Whether it is kept only until an update is over."""
    return container.name.endswith((OLD_SUFFIX, SPARE_SUFFIX))


def _verdict(container: Container, facts: Facts, settings: HostSettings, moment: Moment) -> Verdict:
    owner = owner_of(container, facts)
    excluded = _excluded(container, facts, settings)
    if excluded is not None:
        return Verdict(container=container, state="excluded", reason=excluded, owner=owner)
    reference = tracked(container)
    if isinstance(reference, str):
        state: VerdictState = "pinned" if reference.startswith("pinned") else "manual"
        return Verdict(container=container, state=state, reason=reference, owner=owner)
    check = facts.checks.get(str(reference), Unchecked("its image was not looked for"))
    if isinstance(check, Unchecked):
        return Verdict(
            container=container, state="unknown", reason=f"could not be checked: {check.why}", owner=owner
        )
    if not isinstance(check, Moved) or check.image_id == container.image:
        return Verdict(container=container, state="current", reason="", owner=owner)
    found = Verdict(
        container=container, state="outdated", reason=f"{reference} has moved", owner=owner, moved=check
    )
    return _postponed(found, facts, settings, moment)


def _postponed(found: Verdict, facts: Facts, settings: HostSettings, moment: Moment) -> Verdict:
    """Say what an outdated container waits for, if it does."""
    container, moved = found.container, found.moved
    assert moved is not None  # noqa: S101 - only containers whose image has moved come here
    say = msgspec.structs.replace
    if found.owner == "unit" and UNIT_LABEL in container.labels and _unit(container, facts) is None:
        return say(found, state="unknown", reason=f"systemd does not tell of {container.labels[UNIT_LABEL]}")
    if not container.is_running and not container.is_crashed:
        return say(
            found,
            state="stopped",
            reason=f"{found.reason}; it is {container.state.status}: it stays",
        )
    problem = _problem(container, facts, found.owner)
    if problem:
        return say(found, state="manual", reason=f"{found.reason}, but {problem}")
    if moment.asked:
        is_asked = container.name in moment.asked
        return found if is_asked else say(found, state="waiting", reason="only others were asked for")
    if moved.digest in facts.held:
        return say(found, state="held", reason=f"{moved.digest} was rolled back; it is held until it changes")
    known_seconds = moment.now - facts.first_seen.get(moved.digest, moment.now)
    if known_seconds < settings.cooldown:
        return say(
            found,
            state="waiting",
            reason=f"{found.reason}; its cool-down lasts {settings.cooldown - known_seconds:.0f} s more",
        )
    policy = Policy(windows=settings.windows, timezone=moment.timezone)
    if window_opens_at(policy, moment.now) > moment.now:
        return say(found, state="waiting", reason=f"{found.reason}; the next window has not begun")
    return found


def _excluded(container: Container, facts: Facts, settings: HostSettings) -> str | None:
    """Say why a container is none of our business; None: it is."""
    if container.is_helper or is_ours(container):
        return "it holds a pod together, or waits for the end of an update"
    wish = container.labels.get(UPDATE_LABEL, "").lower()
    autoupdate = container.labels.get(AUTOUPDATE_LABEL, "").lower()
    if wish == "false" or (autoupdate == "disabled" and wish != "true"):
        return f"its label {UPDATE_LABEL if wish == 'false' else AUTOUPDATE_LABEL} opts out"
    if settings.select == "labelled" and wish != "true" and autoupdate not in _AUTOUPDATE_ON:
        return f'it has no label {UPDATE_LABEL}=true, and select = "labelled"'
    timer = facts.units.get(STOCK_TIMER)
    if autoupdate in _AUTOUPDATE_ON and UNIT_LABEL in container.labels and timer and timer.is_active:
        remedy = f"`systemctl mask --now {STOCK_TIMER}` hands it over to imagechain"
        return f"podman's own {STOCK_TIMER} updates it; {remedy}"
    if container.image_name.startswith(KEPT_REPOSITORY):
        return "it was made from an image that is kept for a rollback"
    return None


# --- owners ---------------------------------------------------------------------------------------------


def unit_name(container: Container, containers: Sequence[Container]) -> str:
    """Tell the unit that a container's label names, or its pod's."""
    own = container.labels.get(UNIT_LABEL, "")
    if own or not container.pod:
        return own
    infra = [other for other in containers if other.is_infra and other.pod == container.pod]
    return infra[0].labels.get(UNIT_LABEL, "") if infra else ""


def _unit(container: Container, facts: Facts) -> Unit | None:
    return facts.units.get(unit_name(container, facts.containers))


def owner_of(container: Container, facts: Facts) -> Owner:
    """Tell who makes a container anew. A unit is believed only if systemd runs and knows it.

    podman-compose writes the label whether or not there is such a unit.
    """
    name = unit_name(container, facts.containers)
    if name and facts.has_systemd:
        unit = facts.units.get(name)
        if unit is None or unit.load_state != "not-found":
            return "unit"
    if not container.command:
        return "person"
    if "com.docker.compose.project" in container.labels or "io.podman.compose.project" in container.labels:
        return "compose"
    return "pod" if container.pod else "command"


def _problem(container: Container, facts: Facts, owner: Owner) -> str:
    """Say why a container cannot be made anew, and what to do; empty: it can."""
    if container.state.status == "paused":
        return "it is paused"
    if owner == "unit":
        name = unit_name(container, facts.containers)
        unit = _unit(container, facts)
        pids = {container.state.conmon_pid, container.state.pid}
        if unit is None:
            return f"systemd does not tell of its unit {name}"
        # A member of a unit's pod has no label of its own, and may run in a control group of its own.
        owned = unit.owned_pids & pids if UNIT_LABEL in container.labels else unit.owned_pids
        if unit.is_active and owned:
            return ""
        return f"its label names the unit {name}, which does not run it: `systemctl restart {name}` by hand"
    image = facts.images.get(container.image)
    if image is None:
        return "its image is gone from the store"
    try:
        replay(container, image, facts.grammar)
    except NotReplayableError as error:
        return f"{error}: {_by_hand(container, facts.grammar)}"
    return ""


def _by_hand(container: Container, grammar: Grammar) -> str:
    pull, command = f"podman pull {container.image_name}", container.command
    if command:
        again = redacted(command, grammar)
        return f"run `{pull}` and `podman rm --force {container.name}`, then, where it was made, `{again}`"
    if container.pod:
        return f"run `{pull}`, then `podman kube play --replace FILE` with the file that made it"
    return f"run `{pull}`, then make it anew with the program that made it"


# --- actions --------------------------------------------------------------------------------------------


def _actions(
    facts: Facts, settings: HostSettings, verdicts: dict[str, Verdict], needs: Needs
) -> list[Action]:
    outdated = {id for id, verdict in verdicts.items() if verdict.state == "outdated"}
    actions: list[Action] = []
    by_unit: dict[str, list[str]] = {}
    by_command = []
    for group in groups(closure(outdated, needs), needs):
        units = {
            unit_name(verdicts[id].container, facts.containers) for id in group if _is_unit(verdicts, id)
        }
        if not units:
            by_command.append(group)
        elif all(_is_unit(verdicts, id) for id in group):
            # systemd keeps their order; only what is outdated is restarted.
            for id in group:
                if id in outdated:
                    by_unit.setdefault(unit_name(verdicts[id].container, facts.containers), []).append(id)
        else:
            _refuse(verdicts, group, outdated, "a systemd unit runs one of the containers that it is tied to")
    for unit, ids in by_unit.items():
        actions.append(Action(tuple(_member(verdicts[id]) for id in ids), unit))
    for group in by_command:
        problem = next((text for id in group if (text := _hinders(id, facts, settings, verdicts))), "")
        if problem:
            _refuse(verdicts, group, outdated, problem)
        else:
            actions.append(Action(tuple(_member(verdicts[id]) for id in group)))
    return sorted(actions, key=lambda action: action.names)


def _is_unit(verdicts: Mapping[str, Verdict], id: str) -> bool:
    return id in verdicts and verdicts[id].owner == "unit"


def _hinders(id: str, facts: Facts, settings: HostSettings, verdicts: Mapping[str, Verdict]) -> str:
    """Say why a container that is tied to an outdated one cannot be made anew with it."""
    verdict = verdicts.get(id)
    if verdict is None:
        return "a container of an unfinished update is tied to it"
    if verdict.state == "outdated":
        return ""
    container = verdict.container
    excluded = _excluded(container, facts, settings)
    problem = excluded or _problem(container, facts, verdict.owner)
    return f"{container.name}, which is tied to it, cannot be made anew: {problem}" if problem else ""


def _refuse(verdicts: dict[str, Verdict], group: Sequence[str], outdated: set[str], problem: str) -> None:
    for id in group:
        if id in outdated:
            reason = f"{verdicts[id].reason}, but {problem}"
            verdicts[id] = msgspec.structs.replace(verdicts[id], state="manual", reason=reason)


def _member(verdict: Verdict) -> Member:
    moved = verdict.moved if verdict.state == "outdated" else None
    reference = tracked(verdict.container)
    return Member(verdict.container, moved, str(reference) if isinstance(reference, Reference) else "")
