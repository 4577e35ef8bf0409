"""What looks by HEAD alone say of an image whose index was read at some other time."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from imagechain.vetting.history import History, look_at_tag
from imagechain.vetting.values import Sighting
from vetting.appending import NOW

REF = "docker.io/library/app:1"
AMD64 = "linux/amd64"

#: A tag's way through indexes, and what each holds for one platform: two of them hold the same.
HOLDS = {"index 1": "image 1", "index 2": "image 2", "index 3": "image 2", "index 4": "image 3"}


def read(index: str, at: float) -> list[Sighting]:
    return look_at_tag(REF, index, at, {AMD64: HOLDS[index]})


def test_a_head_tells_to_the_minute_when_an_image_moved_that_was_read_later() -> None:
    history = History([*read("index 1", NOW), *look_at_tag(REF, "index 2", NOW + 60)])
    assert [run.digest for run in history.runs(REF, AMD64)] == ["image 1"]
    for sighting in read("index 2", NOW + 6_000):
        history.add(sighting)
    runs = history.runs(REF, AMD64)
    assert [(run.digest, run.first.seen_at) for run in runs] == [("image 1", NOW), ("image 2", NOW + 60)]


def test_an_index_that_moves_alone_moves_no_image() -> None:
    history = History([*read("index 2", NOW), *read("index 3", NOW + 60)])
    assert history.moves(REF, AMD64) == []
    assert history.moves(REF, "") == [NOW + 60]


def test_what_a_look_did_not_ask_for_stays_as_an_earlier_one_said() -> None:
    vetted = Sighting(
        ref=REF, platform=AMD64, digest="a", seen_at=NOW, version="1.2", base="docker.io/library/debian:13"
    )
    history = History([vetted, *look_at_tag(REF, "index", NOW + 9, {AMD64: "a"})])
    [run] = history.runs(REF, AMD64)
    assert (run.last.seen_at, run.last.version, run.last.base) == (NOW + 9, "1.2", vetted.base)
    assert run.last.index_digest == "index"


def test_a_digest_is_known_since_any_look_named_it() -> None:
    history = History([*look_at_tag(REF, "index 1", NOW), *read("index 1", NOW + 60)])
    assert history.known_since(REF, "index 1") == NOW
    assert history.known_since(REF, "image 1") == NOW + 60
    assert history.known_since(REF, "image 2") is None
    assert history.known_since("docker.io/library/other:1", "index 1") is None


@given(
    st.lists(st.tuples(st.sampled_from(sorted(HOLDS)), st.booleans()), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_looks_of_both_kinds_together_tell_what_full_looks_alone_would(
    way: list[tuple[str, bool]], random: Random
) -> None:
    full = History(each for at, (index, _) in enumerate(way) for each in read(index, NOW + at))
    # At the end each index was read once.
    looks = [
        each
        for at, (index, is_read) in enumerate(way)
        for each in (read(index, NOW + at) if is_read else look_at_tag(REF, index, NOW + at))
    ]
    missing = {index for index, _ in way} - {index for index, is_read in way if is_read}
    ends = [(index, max(at for at, (each, _) in enumerate(way) if each == index)) for index in missing]
    looks += [each for index, at in ends for each in read(index, NOW + at)]
    random.shuffle(looks)
    mixed = History(looks)
    seen = [
        [(run.digest, run.first.seen_at, run.last.seen_at) for run in each.runs(REF, AMD64)]
        for each in (full, mixed)
    ]
    assert seen[0] == seen[1]
