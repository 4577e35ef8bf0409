import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.chains import LocalTree, ids
from imagechain.chain import Pin, UnknownSourceError, files_input, find_pins, status
from imagechain.engines.folders import FolderError
from imagechain.engines.local import Began, Noted, Planned, UpResult, Waiting
from images.fake_builder import FakeBuilder

BASE = "FROM scratch\nRUN base\n"


@pytest.fixture
def builder() -> FakeBuilder:
    return FakeBuilder()


@pytest.fixture
def tree(tmp_path: Path, builder: FakeBuilder) -> LocalTree:
    return LocalTree(tmp_path, builder)


def diamond(tree: LocalTree) -> None:
    tree.write(
        {
            "base": BASE,
            "a": "FROM localhost/base\nRUN a\n",
            "b": "FROM localhost/base\nRUN b\n",
            "c": "FROM localhost/a\nCOPY --from=localhost/b /b /b\nRUN c\n",
        }
    )


def test_a_diamond_is_built_in_order_and_each_image_once(tree: LocalTree, builder: FakeBuilder) -> None:
    diamond(tree)
    result = tree.up()
    assert ids(result.built) == ["a", "b", "base", "c"]
    assert builder.started()[0] == "base"
    assert builder.started()[-1] == "c"
    assert sorted(builder.started()) == ["a", "b", "base", "c"]
    assert result.failed == ()
    assert result.blocked == ()


def test_a_second_run_builds_nothing_and_asks_the_builder_once(tree: LocalTree, builder: FakeBuilder) -> None:
    diamond(tree)
    tree.up()
    builder.calls = 0
    result = tree.up()
    assert (result.built, ids(result.fresh)) == ((), ["a", "b", "base", "c"])
    assert builder.calls == 1


def test_without_its_cache_a_run_reads_the_same_from_the_images(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    diamond(tree)
    tree.up()
    tree.folders.images_file.write_bytes(b"\x00 not a cache")
    builder.calls = 0
    assert tree.up().built == ()
    assert builder.calls == 5, "one listing and four images"


def test_a_changed_base_rebuilds_exactly_what_is_below_it_once(tree: LocalTree, builder: FakeBuilder) -> None:
    diamond(tree)
    tree.write({"other": "FROM scratch\nRUN other\n"})
    tree.up()
    builder.events.clear()
    tree.write({"base": "FROM scratch\nRUN base, mended\n"})
    result = tree.up()
    assert sorted(builder.started()) == ["a", "b", "base", "c"]
    assert ids(result.fresh) == ["other"]
    reasons = {built.id: [reason.kind for reason in built.reasons] for built in result.built}
    assert reasons == {"base": ["files"], "a": ["moved"], "b": ["moved"], "c": ["moved", "moved"]}


def test_a_change_that_alters_no_content_stops_the_cascade(tree: LocalTree, builder: FakeBuilder) -> None:
    diamond(tree)
    tree.up()
    tree.write({"base": BASE + "RUN nothing\n"})
    result = tree.up()
    assert ids(result.built) == ["base"]
    assert not result.built[0].content_changed
    assert tree.up().built == ()


def test_two_builds_at_once_where_two_are_allowed_and_never_more(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    tree.write({f"p{n}": f"FROM scratch\nRUN sleep 0.02\nRUN p{n}\n" for n in range(6)})
    tree.up(jobs=2)
    assert builder.running_max == 2


def test_the_longest_remaining_path_goes_first(tree: LocalTree, builder: FakeBuilder) -> None:
    tree.write(
        {"a": "FROM scratch\nRUN a\n", "z": "FROM scratch\nRUN z\n", "zz": "FROM localhost/z\nRUN zz\n"}
    )
    tree.up(jobs=1)
    assert builder.started() == ["z", "a", "zz"] or builder.started() == ["z", "zz", "a"]


def test_how_long_builds_lasted_decides_the_order_of_the_next_run(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    tree.write({"a": "FROM scratch\nRUN a\n", "slow": "FROM scratch\nRUN slow\n"})
    tree.folders.state.mkdir(parents=True)
    tree.folders.seconds_file.write_text(json.dumps({"a": 1.0, "slow": 100.0}))
    tree.up(jobs=1)
    assert builder.started() == ["slow", "a"]
    assert json.loads(tree.folders.seconds_file.read_text())["slow"] < 100


def test_a_failure_blocks_what_is_below_it_and_nothing_else(tree: LocalTree, builder: FakeBuilder) -> None:
    diamond(tree)
    tree.write({"a": "FROM localhost/base\nRUN fail\n"})
    result = tree.up()
    assert ids(result.built) == ["b", "base"]
    assert [(found.id, found.by) for found in result.blocked] == [("c", ("a",))]
    failed = result.failed[0]
    assert failed.id == "a"
    assert failed.message == 'building at STEP "RUN fail": exit status 1 (fake ended with exit code 1)'
    assert failed.log_tail[1] == "STEP RUN fail"
    assert failed.log is not None
    assert "STEP RUN fail" in Path(failed.log).read_text()
    builder.events.clear()
    tree.write({"a": "FROM localhost/base\nRUN a\n"})
    assert ids(tree.up().built) == ["a", "c"]


def test_a_build_that_fails_is_not_tried_twice_in_one_run(tree: LocalTree, builder: FakeBuilder) -> None:
    builder.registry["docker.io/library/debian:12"] = "debian"
    tree.write({"a": "FROM debian:12\nRUN fail\n"})
    tree.up()
    assert builder.started() == ["a"]


def test_fail_fast_starts_nothing_after_a_failure(tree: LocalTree, builder: FakeBuilder) -> None:
    tree.write({"a": "FROM scratch\nRUN fail\n", "b": "FROM scratch\nRUN b\n"})
    result = tree.up(jobs=1, fail_fast=True)
    assert builder.started() == ["a"]
    assert [(found.id, found.by) for found in result.blocked] == [("b", ("a",))]


def test_only_builds_what_is_asked_for_and_what_that_is_built_from(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    diamond(tree)
    assert ids(tree.up(only=("localhost/a",)).built) == ["a", "base"]
    assert ids(tree.up(only=("b",)).built) == ["b"]
    with pytest.raises(UnknownSourceError, match="nobody"):
        tree.up(only=("nobody",))


def test_an_image_deleted_behind_its_back_is_rebuilt_and_nothing_below_it(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    diamond(tree)
    tree.up()
    del builder.images[builder.names.pop("localhost/a:latest")]
    result = tree.up()
    assert ids(result.built) == ["a"]
    assert [reason.kind for reason in result.built[0].reasons] in (["missing"], ["never-built"])


def test_an_image_given_to_another_content_behind_its_back_is_rebuilt(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    diamond(tree)
    tree.up()
    builder.add("localhost/a:latest", "a stranger")
    assert ids(tree.up().built) == ["a"]
    assert tree.up().built == ()


def test_an_external_image_is_pulled_once_where_it_is_missing(tree: LocalTree, builder: FakeBuilder) -> None:
    builder.registry["docker.io/library/debian:12"] = "debian"
    tree.write({"a": "FROM debian:12\nRUN a\n", "b": "FROM docker.io/library/debian:12\nRUN b\n"})
    assert ids(tree.up().built) == ["a", "b"]
    assert [name for kind, name in builder.events if kind == "pull"] == ["docker.io/library/debian:12"]
    assert tree.up().built == ()


def test_a_fresh_chain_pulls_nothing_though_its_base_was_removed(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    builder.registry["docker.io/library/debian:12"] = "debian"
    tree.write({"a": "FROM debian:12\nRUN a\n"})
    tree.up()
    del builder.names["docker.io/library/debian:12"]
    builder.events.clear()
    assert tree.up().built == ()
    assert builder.events == []


def test_a_moved_external_image_starts_a_cascade(tree: LocalTree, builder: FakeBuilder) -> None:
    builder.add("docker.io/library/debian:12", "debian")
    tree.write({"a": "FROM debian:12\nRUN a\n", "b": "FROM localhost/a\nRUN b\n"})
    tree.up()
    builder.add("docker.io/library/debian:12", "debian, mended")
    assert ids(tree.up().built) == ["a", "b"]


def test_an_image_that_cannot_be_pulled_fails_only_those_that_need_it(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    tree.write(
        {
            "a": "FROM debian:12\nRUN a\n",
            "below": "FROM localhost/a\nRUN below\n",
            "b": "FROM scratch\nRUN b\n",
            "c": "FROM localhost/nobody\nRUN c\n",
        }
    )
    result = tree.up()
    assert ids(result.built) == ["b"]
    messages = {failed.id: failed.message for failed in result.failed}
    assert "docker.io/library/debian:12 cannot be pulled: the registry does not know it" in messages["a"]
    assert "a/Containerfile:1" in messages["a"]
    assert "there is no image localhost/nobody:latest on this machine" in messages["c"]
    assert all(failed.log is None for failed in result.failed)
    assert ("pull", "localhost/nobody:latest") not in builder.events


def test_a_file_that_vanished_or_cannot_be_read_fails_its_project_with_the_reason(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    tree.write({"a": "FROM scratch\nCOPY x.txt /\n", "a/x.txt": "x", "b": "FROM scratch\nRUN b\n"})
    discovery = tree.discover()
    tree.discover = lambda: discovery  # type: ignore[method-assign]
    (tree.top / "a" / "Containerfile").unlink()
    (tree.top / "a" / "x.txt").unlink()
    (tree.top / "a").rmdir()
    result = tree.up()
    assert ids(result.built) == ["b"]
    assert [(failed.id, "a/Containerfile is gone" in failed.message) for failed in result.failed] == [
        ("a", True)
    ]


def test_a_file_that_cannot_be_read_fails_its_project_with_the_place(tree: LocalTree) -> None:
    tree.write({"a": "FROM scratch\nRUN a\n", "b": "FROM scratch\nCOPY --from=nobody\nCOPYY\n"})
    tree.write({"c": "FROM localhost/b\nRUN c\n"})
    result = tree.up()
    assert ids(result.built) == ["a"]
    assert [(failed.id, failed.message.startswith("b/Containerfile:")) for failed in result.failed] == [
        ("b", True)
    ]
    assert [(found.id, found.by) for found in result.blocked] == [("c", ("b",))]


def test_triggers_of_a_base_make_the_whole_context_count(tree: LocalTree, builder: FakeBuilder) -> None:
    builder.add("localhost/trigger:latest", "trigger", on_build=("COPY . /srv",))
    tree.write({"a": "FROM localhost/trigger\nRUN a\n", "a/x.txt": "1"})
    tree.up()
    tree.write({"a/x.txt": "2"})
    assert ids(tree.up().built) == ["a"]


def test_a_file_that_no_instruction_copies_does_not_count(tree: LocalTree, builder: FakeBuilder) -> None:
    tree.write({"a": "FROM scratch\nCOPY x.txt /\n", "a/x.txt": "1", "a/notes.txt": "1"})
    tree.up()
    tree.write({"a/notes.txt": "2"})
    assert tree.up().built == ()
    tree.write({"a/x.txt": "2"})
    assert ids(tree.up().built) == ["a"]


def test_what_a_build_read_is_recorded_as_it_was_when_the_build_started(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    builder.add("localhost/ext:latest", "one")
    tree.write({"a": "FROM localhost/ext\nRUN a\n"})
    moves = iter(["two"])

    def move(name: str) -> None:
        for content in moves:
            builder.add("localhost/ext:latest", content)

    builder.during = move
    result = tree.up()
    assert builder.started() == ["a", "a"], "it was built on the old one, and so once more"
    assert ids(result.built) == ["a"]
    assert tree.up().built == ()


def test_the_record_names_every_image_that_was_read(tree: LocalTree, builder: FakeBuilder) -> None:
    diamond(tree)
    tree.up()
    facts = builder.images[builder.names["localhost/c:latest"]]
    contents = {
        f"localhost/{name}:latest": builder.images[builder.names[f"localhost/{name}:latest"]].content
        for name in ("a", "b")
    }
    assert facts.inputs is not None
    assert {name: record.content for name, record in facts.inputs.items()} == contents


def pins(tree: LocalTree) -> tuple[Pin, ...]:
    local = tree.observe()
    return find_pins(local.graph, local.digests)


def test_a_pinned_reference_never_makes_its_child_stale_and_is_told_to_be_behind(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    first = builder.add("localhost/ext:latest", "one")
    digest = f"sha256:d{first[1:]}"
    tree.write({"a": f"FROM localhost/ext:latest@{digest}\nRUN a\n"})
    # The fake store keeps the pinned image though its name moves on.
    assert ids(tree.up().built) == ["a"]
    assert [pin.behind for pin in pins(tree)] == [False]
    builder.add("localhost/ext:latest", "two")
    assert tree.up().built == ()
    (pin,) = pins(tree)
    assert (pin.child, pin.pinned, pin.behind) == ("a", digest, True)


def test_replaced_images_are_removed_unless_they_have_a_name(tree: LocalTree, builder: FakeBuilder) -> None:
    diamond(tree)
    tree.up()
    kept, replaced = builder.names["localhost/a:latest"], builder.names["localhost/b:latest"]
    builder.names["localhost/keep:1"] = kept
    tree.write({"a": "FROM localhost/base\nRUN a2\n", "b": "FROM localhost/base\nRUN b2\n"})
    tree.up()
    assert kept in builder.images
    assert replaced not in builder.images


def test_push_sends_what_was_built_and_later_only_what_was_not_sent(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    tree.write({"a": "FROM scratch\nRUN a\n", "b": "FROM registry.example.com/a\nRUN b\n"})
    tree.write({"imagechain.toml": ""})
    tree.settings_prefix = "registry.example.com"
    tree.up()
    assert builder.pushed == []
    result = tree.up(push=True)
    assert sorted(result.pushed) == ["registry.example.com/a:latest", "registry.example.com/b:latest"]
    assert tree.up(push=True).pushed == ()
    tree.write({"b": "FROM registry.example.com/a\nRUN b2\n"})
    assert tree.up(push=True).pushed == ("registry.example.com/b:latest",)


def test_an_image_that_a_registry_refuses_counts_as_failed_and_is_sent_again(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    tree.settings_prefix = "refused.example.com"
    tree.write({"a": "FROM scratch\nRUN a\n", "b": "FROM refused.example.com/a\nRUN b\n"})
    result = tree.up(push=True)
    assert ids(result.failed) == ["a"]
    assert "could not be pushed" in result.failed[0].message or "not pushed" in result.failed[0].message
    assert ids(result.blocked) == ["b"]


def test_the_members_of_a_cycle_are_blocked_and_the_rest_is_built(tree: LocalTree) -> None:
    tree.write({"a": "FROM localhost/b\n", "b": "FROM localhost/a\n", "c": BASE})
    result = tree.up()
    assert ids(result.built) == ["c"]
    assert [(found.id, found.by) for found in result.blocked] == [("a", ("a", "b")), ("b", ("a", "b"))]


def test_observing_changes_nothing_and_tells_what_is_stale(
    tree: LocalTree, builder: FakeBuilder, tmp_path: Path
) -> None:
    diamond(tree)
    local = tree.observe()
    assert {found.id: found.state for found in status(local.chain)} == dict.fromkeys(
        ["a", "b", "base", "c"], "stale"
    )
    assert builder.events == []
    assert not tree.folders.state.exists()
    assert local.chain.facts.versions[local.graph.input_number[files_input("a")]] is not None


def test_interrupting_stops_the_builds_and_the_next_run_goes_on(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    tree.write(
        {
            "a": "FROM scratch\nRUN a\n",
            "b": "FROM localhost/a\nRUN sleep 60\n",
            "c": "FROM localhost/b\nRUN c\n",
        }
    )

    builder.began_name = "localhost/b:latest"

    async def interrupt() -> UpResult:
        task = asyncio.create_task(tree.up_async())
        await builder.began.wait()
        task.cancel()
        return await task

    result = asyncio.run(asyncio.wait_for(interrupt(), 5))
    assert (ids(result.built), result.interrupted, result.is_interrupted) == (["a"], ("b",), True)
    assert [(found.id, found.by) for found in result.blocked] == [("c", ("b",))]
    assert builder.events[-1] == ("sweep", "")
    tree.write({"b": "FROM localhost/a\nRUN b\n"})
    assert ids(tree.up().built) == ["b", "c"]


def test_a_second_run_in_one_folder_waits_for_the_first_and_says_so(
    tree: LocalTree, builder: FakeBuilder
) -> None:
    tree.write({"a": "FROM scratch\nRUN sleep 0.3\nRUN a\n"})

    async def both() -> tuple[UpResult, UpResult]:
        return await asyncio.gather(tree.up_async(), tree.up_async())

    first, second = asyncio.run(both())
    assert sorted([ids(first.built), ids(second.built)]) == [[], ["a"]]
    assert builder.started() == ["a"]
    assert any(isinstance(event, Waiting) and event.pid is not None for event in tree.events)


def test_a_state_folder_that_cannot_be_written_is_named(tree: LocalTree) -> None:
    tree.write({"base": BASE})
    tree.folders.state.parent.mkdir(parents=True)
    tree.folders.state.write_text("a file is in the way")
    with pytest.raises(FolderError, match=r"cannot be written: .*; free some space, or .* XDG_STATE_HOME"):
        tree.up()


def test_the_plan_is_announced_before_the_first_build(tree: LocalTree) -> None:
    diamond(tree)
    tree.up()
    assert tree.events[0] == Planned(projects=("base", "a", "b", "c"))
    assert isinstance(tree.events[1], Noted)


@st.composite
def chains(draw: st.DrawFn) -> dict[str, list[int]]:
    count = draw(st.integers(1, 8))
    return {
        f"p{n}": draw(st.lists(st.integers(0, n - 1), max_size=3, unique=True)) if n else []
        for n in range(count)
    }


@settings(max_examples=25, deadline=None)
@given(chains(), st.data())
def test_any_chain_is_built_in_order_and_a_change_rebuilds_exactly_its_descendants(
    tmp_path_factory: pytest.TempPathFactory, parents: dict[str, list[int]], data: st.DataObject
) -> None:
    builder = FakeBuilder()
    tree = LocalTree(tmp_path_factory.mktemp("chain"), builder)

    def text(name: str, version: int) -> str:
        copies = "".join(f"COPY --from=localhost/p{parent} /x /x{parent}\n" for parent in parents[name])
        return f"FROM scratch\n{copies}RUN {name} {version}\n"

    tree.write({name: text(name, 0) for name in parents})
    tree.up(jobs=data.draw(st.integers(1, 4)))
    order = builder.started()
    assert sorted(order) == sorted(parents)
    for name, numbers in parents.items():
        assert all(order.index(f"p{number}") < order.index(name) for number in numbers)

    changed = data.draw(st.sampled_from(sorted(parents)))
    expected = {changed}
    for name, numbers in parents.items():
        if any(f"p{number}" in expected for number in numbers):
            expected.add(name)
    builder.events.clear()
    tree.write({changed: text(changed, 1)})
    tree.up()
    assert sorted(builder.started()) == sorted(expected)
    assert tree.up().built == ()


def test_where_the_builder_may_read_a_file_otherwise_is_told_before_it_builds(tree: LocalTree) -> None:
    tree.write({"a": "FROM scratch\nRUN <<END\nnothing\nEND\n", "b": "FROM scratch\nRUN b\n"})
    tree.up(jobs=1)
    began = next(
        place for place, event in enumerate(tree.events) if isinstance(event, Began) and event.id == "a"
    )
    told = tree.events[began + 1]
    assert isinstance(told, Noted)
    assert told.text.startswith("a/Containerfile:2: ")
    assert "buildah" in told.text
    assert not any(isinstance(event, Noted) and "b/Containerfile" in event.text for event in tree.events)
