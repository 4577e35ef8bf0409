"""The list of mirrors as a whole: order, circles, schedules, dated tags."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.config import ConfigError, MirrorSettings
from imagechain.mirror.plan import in_order, is_due, previous_tag, tag_before
from imagechain.mirror.prune import digests_in, surplus


def mirror(source: str, target: str, *tags: str) -> MirrorSettings:
    return MirrorSettings(
        source=f"a.example.com/{source}", target=f"a.example.com/{target}", tags=tags or ("latest",)
    )


def test_a_mirror_of_a_mirror_comes_after_it() -> None:
    second, first, other = mirror("b", "c"), mirror("a", "b"), mirror("x", "y")
    assert in_order([second, first, other]) == ((first, other), (second,))


@pytest.mark.parametrize(
    "pairs", [[("a", "a")], [("a", "b"), ("b", "a")], [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]]
)
def test_a_circle_is_refused_with_its_path(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ConfigError, match=r"lead in a circle: a\.example\.com/\w.* -> a\.example"):
        in_order([mirror(*pair) for pair in pairs])


def test_a_circle_is_seen_behind_different_spellings() -> None:
    there = MirrorSettings(source="debian", target="a.example.com/debian", tags=("12",))
    back = MirrorSettings(source="a.example.com/debian", target="docker.io/library/debian", tags=("12",))
    with pytest.raises(ConfigError, match="circle"):
        in_order([there, back])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=7, unique_by=lambda pair: pair[1]))
def test_a_list_is_refused_exactly_if_following_its_sources_never_ends(pairs: list[tuple[int, int]]) -> None:
    source_of = {target: source for source, target in pairs}

    def ends(target: int) -> bool:
        for _ in range(len(pairs) + 1):
            if target not in source_of:
                return True
            target = source_of[target]
        return False

    mirrors = [mirror(f"r{source}", f"r{target}") for source, target in pairs]
    if not all(ends(target) for target in source_of):
        with pytest.raises(ConfigError, match="circle"):
            in_order(mirrors)
        return
    done: set[str] = set()
    for group in in_order(mirrors):
        targets = {one.target for one in mirrors}
        assert all(one.source not in targets or one.source in done for one in group)
        done |= {one.target for one in group}
    assert done == {one.target for one in mirrors}


def test_two_sources_of_one_target_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"two \[\[mirror\]\] tables write a\.example\.com/c"):
        in_order([mirror("a", "c"), mirror("b", "c")])


def test_a_wrong_pattern_is_refused_with_its_target() -> None:
    with pytest.raises(ConfigError, match=r"a\.example\.com/b: '/\(/' is no regular"):
        in_order([mirror("a", "b", "/(/")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "a:1"}, "without tag"),
        ({"source": ""}, "source"),
        ({"target": "A"}, "lower-case"),
        ({"tags": ()}, "tags is empty"),
        ({"newest": -1}, "must not be negative"),
        ({"keep_previous": -1}, "must not be negative"),
        ({"platforms": ("linux/a/b/c",)}, "platforms"),
        ({"schedule": "every day"}, "no cron expression"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    usual: dict[str, object] = {"source": "debian", "target": "a.example.com/debian", "tags": ("12",)}
    with pytest.raises(ValueError, match=message):
        MirrorSettings(**{**usual, **settings})  # type: ignore[arg-type]


# --- schedules ------------------------------------------------------------------------------------------


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("schedule", "synced", "now", "due"),
    [
        ("", "2026-01-01T00:00", "2026-01-01T00:00", True),
        ("0 3 * * *", "2026-01-01T03:00", "2026-01-01T04:00", False),
        ("0 3 * * *", "2026-01-01T03:00", "2026-01-02T02:59", False),
        ("0 3 * * *", "2026-01-01T03:00", "2026-01-02T03:00", True),
        ("0 3 * * *", "2026-01-01T03:00", "2026-01-09T12:00", True),
    ],
)
def test_a_schedule_is_due_once_its_time_has_come(schedule: str, synced: str, now: str, due: bool) -> None:
    assert is_due(schedule, at(synced), at(now)) == due


def test_what_was_never_looked_at_is_due() -> None:
    assert is_due("0 3 * * *", None, at("2026-01-01T12:00"))


# --- dated tags -----------------------------------------------------------------------------------------

tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)


@given(tags, st.integers(0, 4_000_000_000))
def test_a_dated_tag_is_valid_and_tells_its_tag(tag: str, now: int) -> None:
    dated = previous_tag(tag, now)
    assert len(dated) <= 128
    assert tag_before(dated) == tag[:111]


def test_a_dated_tag_is_written_as_the_design_says() -> None:
    assert previous_tag("16", at("2026-01-31T23:59:58")) == "16-20260131T235958Z"


@pytest.mark.parametrize(
    "tag",
    ["16", "16-alpine", "20260131T235958Z", "16-20260131", "16-20261331T000000Z", "16-2026131T0000000Z"],
)
def test_other_tags_are_no_dated_ones(tag: str) -> None:
    assert tag_before(tag) is None


# --- what could be pruned -------------------------------------------------------------------------------


def test_what_is_not_mirrored_any_more_is_surplus_and_so_are_old_dated_tags() -> None:
    about = "sha256-" + "a" * 64
    dated = ["16-20260101T000000Z", "16-20260102T000000Z", "16-20260103T000000Z"]
    has = ["16", "15", *dated, about, f"{about}.sig"]
    assert surplus(has, ["16"], 2) == ("15", dated[0])
    assert surplus(has, ["16"], 0) == ("15", *dated)


def test_where_nothing_is_selected_nothing_is_surplus() -> None:
    assert surplus(["16", "15"], [], 0) == ()


@given(st.sets(tags), st.sets(tags), st.integers(0, 3))
def test_nothing_that_is_mirrored_is_ever_surplus(has: set[str], selected: set[str], keep: int) -> None:
    assert not set(surplus(has, selected, keep)) & selected
    assert set(surplus(has, selected, keep)) <= has


def test_every_digest_of_a_hosts_status_is_found() -> None:
    status = (
        f'{{"image": "x@sha256:{"a" * 64}", "id": "{"b" * 64}", "no": "{"c" * 65}", "short": "{"d" * 63}"}}'
    )
    assert digests_in(status) == {"a" * 64, "b" * 64}
