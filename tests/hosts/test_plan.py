"""The plan: properties that hold for any containers, images and checks."""

from datetime import UTC
from typing import Any

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from hosts.fake import GRAMMAR
from hosts.test_replay import container as make_container
from hosts.test_replay import image as make_image
from imagechain.config import HostSettings
from imagechain.hosts.dependents import closure, groups, needs_of
from imagechain.hosts.plan import Facts, Moment, Plan, make_plan
from imagechain.hosts.values import Check, Container, Moved, Unchecked, Unmoved

_NEW = Moved("sha256:" + "b" * 64, "sha256:" + "c" * 64, "d" * 64)
_CHECKS: list[Check] = [_NEW, Unmoved("sha256:" + "a" * 64), Unchecked("429")]


@st.composite
def containers(draw: st.DrawFn) -> list[Container]:
    """Some containers, each of which may need some that were made before it."""
    made: list[Container] = []
    for number in range(draw(st.integers(0, 6))):
        more: dict[str, Any] = {
            "Id": f"{number:x}" * 64,
            "Name": f"c{number}",
            "Dependencies": [one.id for one in made if draw(st.booleans())],
            "ImageName": f"r.example/i{draw(st.integers(0, 3))}:1",
            "State": {
                "Status": draw(st.sampled_from(["running", "exited", "created", "paused"])),
                "ExitCode": draw(st.integers(0, 1)),
            },
            "HostConfig": {"RestartPolicy": {"Name": draw(st.sampled_from(["", "always"]))}},
        }
        config = {"Labels": draw(st.sampled_from([{}, {"dev.imagechain.update": "false"}]))}
        command = draw(st.sampled_from([("podman", "run", "app"), ("podman", "run", "--odd", "app"), ()]))
        made.append(make_container(*command, config=config, **more))
    return made


checks = st.dictionaries(st.sampled_from([f"r.example/i{n}:1" for n in range(4)]), st.sampled_from(_CHECKS))


def plan_of(found: list[Container], known: dict[str, Check], *, held: bool = False) -> Plan:
    facts = Facts(
        containers=tuple(found),
        images={"2" * 64: make_image()},
        checks=known,
        grammar=GRAMMAR,
        held=frozenset({_NEW.digest} if held else ()),
    )
    return make_plan(facts, HostSettings(), Moment(0.0, UTC))


@settings(max_examples=60)
@given(containers(), checks)
def test_every_container_gets_one_verdict_and_is_made_anew_at_most_once(
    found: list[Container], known: dict[str, Check]
) -> None:
    plan = plan_of(found, known)
    assert sorted(verdict.container.name for verdict in plan.verdicts) == sorted(one.name for one in found)
    touched = [name for action in plan.actions for name in action.names]
    assert len(touched) == len(set(touched))


@settings(max_examples=60)
@given(containers(), checks)
def test_exactly_what_is_outdated_is_updated_and_nobody_who_opted_out_is_touched(
    found: list[Container], known: dict[str, Check]
) -> None:
    plan = plan_of(found, known)
    outdated = {verdict.container.name for verdict in plan.verdicts if verdict.state == "outdated"}
    members = [member for action in plan.actions for member in action.members]
    assert {member.container.name for member in members if member.moved} == outdated
    for member in members:
        assert member.container.labels.get("dev.imagechain.update") != "false"
        assert member.container.config.create_command == ("podman", "run", "app")


@settings(max_examples=60)
@given(containers(), checks)
def test_current_is_said_only_where_a_registry_said_so(
    found: list[Container], known: dict[str, Check]
) -> None:
    for verdict in plan_of(found, known).verdicts:
        check = known.get(verdict.container.image_name)
        if verdict.state == "current":
            assert isinstance(check, Unmoved)
        if not isinstance(check, (Moved, Unmoved)):
            assert verdict.state in {"unknown", "excluded"}


@settings(max_examples=60)
@given(containers(), checks)
def test_an_action_holds_all_that_need_its_members_and_starts_what_is_needed_first(
    found: list[Container], known: dict[str, Check]
) -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(one.id for one in found)
    graph.add_edges_from((needed, one.id) for one in found for needed in one.dependencies or ())
    for action in plan_of(found, known).actions:
        ids = [member.container.id for member in action.members]
        moved = [member.container.id for member in action.members if member.moved]
        assert set(ids) == set(moved).union(*(nx.descendants(graph, id) for id in moved))
        for one in found:
            for needed in one.dependencies or ():
                if one.id in ids and needed in ids:
                    assert ids.index(needed) < ids.index(one.id)


@settings(max_examples=60)
@given(containers(), checks)
def test_a_held_digest_is_never_tried(found: list[Container], known: dict[str, Check]) -> None:
    assert plan_of(found, known, held=True).actions == ()


@settings(max_examples=60)
@given(containers(), st.sets(st.integers(0, 5)))
def test_groups_are_the_connected_parts(found: list[Container], chosen: set[int]) -> None:
    needs = needs_of(found)
    ids = closure({one.id for number, one in enumerate(found) if number in chosen}, needs)
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(ids)
    graph.add_edges_from((id, other) for id in ids for other in needs[id] & ids)
    expected = {frozenset(part) for part in nx.connected_components(graph)}
    assert {frozenset(group) for group in groups(ids, needs)} == expected
