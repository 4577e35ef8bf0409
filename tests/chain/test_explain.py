"""What people are told: texts, blockers with their paths, waits, plans."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chain.world import (
    DIGEST,
    chain_of,
    edge,
    external,
    fail,
    finish,
    image,
    immediate,
    move,
    project,
    settle,
    start,
)
from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    Explanation,
    GivenUp,
    Graph,
    ImageFound,
    Paused,
    RebuildAsked,
    RetryAsked,
    Source,
    VersionRead,
    WentInactive,
    explain,
    files_input,
    plan,
    status,
)


def told(chain: Chain, name: str, now: float = 1_000.0) -> Explanation:
    return explain(chain, name, now)


def waits(chain: Chain, name: str, now: float) -> tuple[float | None, str]:
    return told(chain, name, now).waits_until, told(chain, name, now).waits_for


def test_every_state_has_its_sentence() -> None:
    edges = [edge("app", "lib"), edge("ring1", "ring2"), edge("ring2", "ring1"), edge("below", "app")]
    names = ["lib", "app", "below", "ring1", "ring2", "plain", "built", "held", "unseen", "failing"]
    graph = Graph([external("debian"), external("gone"), *map(project, names)], edges)
    chain = settle(Chain(graph, immediate(retry_seconds=())))
    chain.apply(VersionRead(input=image("gone"), version=None, at=1))
    move(chain, image("lib"), "v1", at=1)
    chain.apply(WentInactive(project="plain", at=1))
    start(chain, "built", "1", 1)
    chain.apply(Paused(project="held", at=1, by="alice", reason="release day"))
    move(chain, files_input("failing"), "v1", at=1)
    move(chain, files_input("ring1"), "v1", at=1)
    start(chain, "failing", "2", 1)
    fail(chain, "failing", "2", 2)
    texts = {name: told(chain, name).text for name in graph.ids}
    assert texts == {
        image("debian"): f"{image('debian')} is up to date.",
        image("gone"): f"Nothing is known of {image('gone')} yet.",
        "lib": "lib is up to date.",
        "app": "app is stale (lib moved (v0 -> v1)), and is not held up.",
        "below": "below is built on the present versions, and waits for app, which may change that.",
        "plain": "plain has no builds of its own: its images count as they are.",
        "built": "built is being built.",
        "held": "held is paused: alice paused held (release day).",
        "failing": "failing failed (exit status 1): its own files changed.",
        "ring1": "ring1 is in a cycle, whose members never trigger each other: its own files changed.",
        "ring2": "ring2 is in a cycle, whose members never trigger each other.",
        "unseen": "unseen is up to date.",
    }
    assert told(chain, "ring2").cycle == ("ring1", "ring2")
    assert told(Chain(graph, immediate()), "unseen").text == "Nothing is known of unseen yet."


def test_blockers_are_named_with_what_is_wrong_and_the_path() -> None:
    chain = settle(chain_of("base>a a>b b>c x>c p>c u>c r>c r>s s>r", immediate(retry_seconds=())))
    for name in ("base", "p", "x"):
        move(chain, files_input(name), "v1", at=1)
    start(chain, "base", "1", 1)
    fail(chain, "base", "1", 2, "no space left")
    chain.apply(Paused(project="p", at=3, by="alice", reason="release day"))
    chain.apply(VersionRead(input=image("s"), version=None, at=3))
    move(chain, files_input("r"), "v1", at=3)
    start(chain, "u", "2", 3)
    blockers = {blocker.id: blocker for blocker in told(chain, "c").blockers}
    assert blockers["base"].path == ("base", "a", "b", "c")
    assert {name: (blocker.state, blocker.text) for name, blocker in blockers.items()} == {
        "base": ("failed", "base failed: no space left."),
        "p": ("paused", "p is paused: alice paused p (release day)."),
        "r": ("cycle", "r is in a cycle that nothing can begin: an image from within it does not exist."),
        "u": ("building", "u is being built."),
        "x": ("stale", "x is stale and is built first."),
    }
    assert told(chain, "c").text == ("c waits for base, p, r, u, x.")


def test_a_failed_ancestor_is_named_even_while_it_waits_itself() -> None:
    chain = settle(chain_of("base>a a>b", immediate(retry_seconds=())))
    move(chain, files_input("a"), "v1", at=1)
    start(chain, "a", "1", 1)
    fail(chain, "a", "1", 2)
    start(chain, "base", "2", 3)
    shown = {found.id: (found.state, found.blocked_by) for found in status(chain)}
    assert shown["a"] == ("failed", ("base",))
    assert shown["b"] == ("blocked", ("a", "base"))


def test_a_pause_of_everything_is_named_as_such() -> None:
    chain = settle(chain_of("base>a"))
    move(chain, files_input("base"), "v1", at=1)
    chain.apply(Paused(project=None, at=2))
    (blocker,) = told(chain, "a").blockers
    assert blocker.text == "base is paused: a person paused everything."
    assert told(chain, "base").text == (
        "base is paused: a person paused everything; it is stale: its own files changed."
    )
    assert status(chain)[0].since == 2


def test_what_a_person_asked_for_is_told_with_its_reason() -> None:
    chain = settle(chain_of("base>a"))
    chain.apply(RebuildAsked(project="base", at=1, by="alice", reason="new keys"))
    chain.apply(RebuildAsked(project="a", at=1))
    assert [reason.text for reason in told(chain, "base").status.reasons] == ["alice asked for it (new keys)"]
    assert [reason.text for reason in told(chain, "a").status.reasons] == ["a person asked for it"]


def test_what_was_never_observed_is_a_blocker_that_says_so() -> None:
    chain = chain_of("base>a")
    chain.apply(ImageFound(project="a", at=1, inputs={}))
    (blocker,) = told(chain, "a").blockers
    assert (blocker.state, blocker.text) == ("unknown", "nothing is known of base yet.")


def test_a_wait_says_until_when_and_for_what() -> None:
    policy = immediate(quiet_seconds=300.0, retry_seconds=(60.0,), builds_max=1, windows=("0 22 * * *",))
    graph = Graph([external("debian"), project("a"), project("b")], [edge("a", image("debian"))])
    chain = settle(Chain(graph, policy))
    move(chain, image("debian"), "v1", at=1_000)
    assert waits(chain, "a", 1_000) == (1_300, "It waits until what moved has been still for a while.")
    assert waits(chain, "a", 1_300) == (79_200, "It waits for the next window.")
    assert waits(chain, "a", 79_200) == (None, "")
    assert waits(chain, "b", 79_200) == (None, "")
    start(chain, "b", "1", 79_200)
    assert waits(chain, "a", 79_200) == (None, "It waits for one of 1 builds to end.")
    assert waits(chain, "b", 79_200) == (None, "")
    start(chain, "a", "2", 79_200)
    fail(chain, "a", "2", 79_210)
    assert waits(chain, "a", 79_210) == (79_270, "It waits for its next retry.")
    start(chain, "a", "3", 79_270)
    fail(chain, "a", "3", 79_271)
    assert waits(chain, "a", 99_999) == (
        None,
        "It is held until one of its inputs moves or a person retries it.",
    )
    chain.apply(Paused(project="a", at=79_272))
    assert waits(chain, "a", 99_999) == (None, "It waits until a person resumes it.")


def test_a_cycle_that_nothing_can_begin_says_what_is_missing() -> None:
    chain = chain_of("a>b b>a")
    for name in ("a", "b"):
        chain.apply(VersionRead(input=image(name), version=None, at=0))
    assert told(chain, "a").waits_for == (
        "It is blocked by its own cycle: registry.test/b:latest does not exist; build it once by hand."
    )


def test_what_does_not_count_is_listed_with_the_reason_and_the_version_of_the_tag() -> None:
    edges = [
        edge("app", "base", image=f"{image('base')}@{DIGEST}"),
        edge("app", "unused", needed=False),
        edge("app", "runner", "ci-image"),
        edge("app", "lib", "declared", needed=False),
        replace(edge("app", image("frontend"), "syntax"), parent=None),
        edge("app", "ring"),
        edge("ring", "app"),
        edge("app", "counted"),
    ]
    names = ["app", "base", "unused", "runner", "lib", "ring", "counted"]
    chain = settle(Chain(Graph(map(project, names), edges), immediate()))
    move(chain, image("base"), "v7", at=1)
    assert [(found.version, found.text) for found in told(chain, "app").uncounted] == [
        ("v7", f"{image('base')}@{DIGEST} is pinned by its digest."),
        ("v0", f"{image('unused')} is not needed: the target of the build does not reach it."),
        ("v0", f"{image('runner')} is of kind ci-image, which the settings do not count."),
        (None, "lib is not needed: the target of the build does not reach it."),
        ("v0", f"{image('frontend')} is pulled for the build, and is no part of the image."),
        ("v0", f"{image('ring')} is in the same cycle."),
    ]


def test_reasons_have_their_texts() -> None:
    chain = settle(chain_of("base>a base>b base>c new"))
    chain.apply(RebuildAsked(project="base", at=1))
    chain.apply(ImageFound(project="a", at=2, inputs={files_input("a"): "v0"}))
    chain.apply(VersionRead(input=image("b"), version=None, at=1))
    other = chain_of("base>a")
    chain_of_none = chain_of("base")
    chain_of_none.apply(ImageFound(project="base", at=1, inputs=None, adopt=False))
    other.apply(VersionRead(input=image("base"), version=None, at=1))
    texts = [reason.text for shown in status(chain) for reason in shown.reasons]
    texts += [
        reason.text for made in (other, chain_of_none) for shown in status(made) for reason in shown.reasons
    ]
    assert texts == [
        "it was not built from base",
        "its image registry.test/b does not exist",
        "a person asked for it",
        "it was never built",
        "nothing tells what its image was built from",
    ]


def test_a_version_of_several_platforms_is_told_in_short() -> None:
    chain = chain_of("base>a")
    for at, arm64 in enumerate("bc", 1):
        version = f"linux/amd64=sha256:{'a' * 64},linux/arm64=sha256:{arm64 * 64}"
        chain.apply(VersionRead(input=image("base"), version=version, at=at))
        chain.apply(ImageFound(project="a", at=1, inputs=None))
    (reason,) = next(shown.reasons for shown in status(chain) if shown.id == "a")
    assert reason.text == (
        "base moved (linux/amd64=sha256:aaaaaaaaaaaa…, linux/arm64=sha256:bbbbbbbbbbbb… -> "
        "linux/amd64=sha256:aaaaaaaaaaaa…, linux/arm64=sha256:cccccccccccc…)"
    )


def test_an_input_is_named_as_people_call_it() -> None:
    debian = Source(
        id="docker.io/library/debian:12", kind="external", images=("docker.io/library/debian:12",)
    )
    base = project("base", "registry.test/base:1", "registry.test/base:2")
    edges = [edge("a", "docker.io/library/debian:12"), edge("a", "base", image="registry.test/base:2")]
    chain = settle(Chain(Graph([debian, base, project("a")], edges), immediate()))
    for name in ("docker.io/library/debian:12", "registry.test/base:2"):
        move(chain, name, f"sha256:{'5' * 64}", at=1)
    assert [reason.text for reason in status(chain)[0].reasons] == [
        "debian:12 moved (v0 -> sha256:555555555555…)",
        "registry.test/base:2 moved (v0 -> sha256:555555555555…)",
    ]
    found = chain_of("a")
    found.apply(ImageFound(project="a", at=1, inputs=None, proven_stale=(files_input("a"),)))
    assert status(found)[0].reasons[0].text == "at first sight its layers were older than its own files"


def test_since_tells_when_the_state_began() -> None:
    chain = settle(chain_of("base>a base>b c d"), at=5)
    move(chain, image("base"), "v1", at=7)
    start(chain, "b", "1", 8)
    fail(chain, "b", "1", 9)
    start(chain, "c", "2", 10)
    chain.apply(RebuildAsked(project="d", at=11))
    assert [(shown.id, shown.since) for shown in status(chain)] == [
        ("a", 7),
        ("b", 9),
        ("base", 5),
        ("c", 10),
        ("d", 11),
    ]
    gone = Chain(Graph([external("debian"), project("a")], []), immediate())
    assert [shown.since for shown in status(gone)] == [None, None]
    move(gone, image("debian"), "v1", at=3)
    assert [shown.since for shown in status(gone)] == [None, 3]


def test_the_last_build_is_told_with_its_cause_url_and_times() -> None:
    chain = settle(chain_of("a"))
    chain.apply(BuildStarted(project="a", build="7", at=1, cause="push", url="https://gitlab.test/7"))
    last = status(chain)[0].last_build
    assert last is not None
    assert (last.id, last.status, last.cause, last.url) == ("7", "running", "push", "https://gitlab.test/7")
    assert (last.started_at, last.finished_at) == (1, None)
    finish(chain, "a", "6", 2, "v1")
    assert (status(chain)[0].last_build or last).id == "7"
    finish(chain, "a", "7", 3, "v1")
    last = status(chain)[0].last_build
    assert last is not None
    assert (last.status, last.cause, last.finished_at) == ("success", "push", 3)


def test_what_nothing_would_be_built_from_now_says_why_if_there_are_children() -> None:
    chain = settle(chain_of("base>paused base>plain plain>below other>ring ring>ring2 ring2>ring lone"))
    assert told(chain, "base").would_build == ("plain", "paused", "below")
    chain.apply(Paused(project="paused", at=1))
    chain.apply(WentInactive(project="plain", at=1))
    assert {name: told(chain, name).would_build_none for name in ("base", "plain", "lone", "ring")} == {
        "base": (
            "If its content changed, nothing would be built now: paused is paused, "
            "plain has no builds of its own."
        ),
        "plain": "If its content changed, nothing would be built now: it has no builds of its own.",
        "lone": "",
        "ring": "If its content changed, nothing would be built now: it is in a cycle.",
    }
    assert told(chain_of("base>a"), "base").would_build_none == (
        "If its content changed, nothing would be built now: it is not known yet."
    )


def test_a_child_that_waits_for_others_is_told_with_them() -> None:
    chain = settle(chain_of("base>a held>a", immediate(retry_seconds=())))
    chain.apply(RebuildAsked(project="held", at=1))
    chain.apply(Paused(project="held", at=2))
    assert told(chain, "base").would_build_none == (
        "If its content changed, nothing would be built now: a waits for held."
    )


def test_what_was_stale_at_first_sight_is_not_said_to_be_about_to_start() -> None:
    chain = chain_of("base>a a>b")
    for name, version in (("base", "v1"), ("a", "v1"), ("b", "v1")):
        chain.apply(VersionRead(input=image(name), version=version, at=1))
        older = (image("base"),) if name == "a" else ()
        chain.apply(ImageFound(project=name, at=1, inputs=None, proven_stale=older))
    found = told(chain, "a")
    assert found.text == (
        "a is stale (at first sight its layers were older than base), and is not started by itself."
    )
    assert found.waits_for == (
        "What was so at first sight is built when something it is built from moves, or a person asks: "
        "`imagechain rebuild a`, or `rebuild --all-stale` for all such."
    )
    move(chain, image("base"), "v2", at=2)
    assert told(chain, "a").text == "a is stale (base moved (v1 -> v2)), and is not held up."
    assert told(chain, "a").waits_for == ""


# --- plans ----------------------------------------------------------------------------------------------


def waves(chain: Chain, if_changed: str | None = None) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(build.id, build.wave, build.because_of) for build in plan(chain, if_changed)]


def test_a_plan_lists_what_is_stale_and_what_follows_in_waves() -> None:
    chain = settle(chain_of("base>a base>b a>c b>c other"))
    move(chain, files_input("a"), "v1", at=1)
    assert waves(chain) == [("a", 1, ()), ("c", 2, ("a",))]
    assert [reason.kind for reason in plan(chain)[0].reasons] == ["files"]


def test_a_plan_for_a_change_starts_with_the_project_or_below_the_external_image() -> None:
    graph = Graph(
        [external("debian"), project("a"), project("b")], [edge("a", image("debian")), edge("b", "a")]
    )
    chain = settle(Chain(graph, immediate()))
    move(chain, files_input("b"), "v1", at=1)
    assert waves(chain, image("debian")) == [("a", 1, (image("debian"),)), ("b", 2, ("a",))]
    assert waves(chain, "a") == [("a", 1, ("a",)), ("b", 2, ("a",))]


def test_a_plan_leaves_out_what_cannot_start_by_itself_and_what_is_below() -> None:
    chain = settle(
        chain_of("held>a paused>b ring>c ring>ring2 ring2>ring plain>d ok>e", immediate(retry_seconds=()))
    )
    fresh = chain_of("unseen>f")
    for name in ("held", "paused", "ring", "plain", "ok"):
        move(chain, files_input(name), "v1", at=1)
    start(chain, "held", "1", 1)
    chain.apply(BuildFinished(project="held", build="1", at=2, outcome="cancelled"))
    chain.apply(Paused(project="paused", at=2))
    chain.apply(VersionRead(input=image("ring2"), version=None, at=2))
    chain.apply(WentInactive(project="plain", at=2))
    # The missing member of the ring may be built; the other waits for it, and so does its child.
    assert waves(chain) == [("ok", 1, ()), ("ring2", 1, ()), ("e", 2, ("ok",))]
    assert waves(chain, "held") == [("held", 1, ("held",)), ("a", 2, ("held",))]
    fresh.apply(ImageFound(project="f", at=1, inputs={}))
    assert waves(fresh, "unseen") == []


def test_a_plan_passes_over_what_was_given_up() -> None:
    chain = settle(chain_of("base>a", immediate(retry_seconds=())))
    for name in ("base", "a"):
        move(chain, files_input(name), "v1", at=1)
    start(chain, "base", "1", 1)
    fail(chain, "base", "1", 2)
    assert waves(chain) == []
    chain.apply(GivenUp(project="base", at=3))
    assert waves(chain) == [("a", 1, ())]
    assert status(chain)[1].state == "failed"
    chain.apply(RetryAsked(project="base", at=4))
    assert waves(chain) == [("base", 1, ()), ("a", 2, ("base",))]


@given(st.permutations(["a", "b", "c", "d"]))
def test_a_plan_is_in_the_order_of_who_goes_first(names: list[str]) -> None:
    seconds = {name: float(place) for place, name in enumerate(names)}
    chain = settle(chain_of("a b c d", None, **seconds))
    for name in names:
        move(chain, files_input(name), "v1", at=1)
    assert [build.id for build in plan(chain)] == names[::-1]
