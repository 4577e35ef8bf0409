"""Digests that may not be mirrored yet: too new, or against their policy."""

import asyncio
from pathlib import Path

import pytest
import stamina

from imagechain.config import (
    Duration,
    MirrorSettings,
    VettingMatchSettings,
    VettingPolicySettings,
    VettingSettings,
)
from imagechain.mirror.gate import VETTED_AGAIN_SECONDS, Gate
from imagechain.mirror.state import Held, read_held, write_held
from imagechain.mirror.sync import MirrorResult, Syncer
from imagechain.registry import RegistryClient
from imagechain.vetting.archive import Archive
from imagechain.vetting.examine import Examiner
from imagechain.vetting.history import History
from imagechain.vetting.values import DAY_SECONDS, Sighting
from registry.fakes import FakeClock, FakeRegistry, Network, answers
from registry.pictures import Stored, make_image, make_index

SOURCE, TARGET = "source.example.com", "target.example.com"
TAG = f"{SOURCE}/up/postgres:17"
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
POLICY = VettingPolicySettings(supported=False)


def an_index(name: str) -> Stored:
    return make_index(
        {f"linux/{arch}": make_image(architecture=arch, labels={"of": name}) for arch in ("amd64", "arm64")}
    )


class World:
    """A source with one tag, an empty target, and what is known from run to run."""

    def __init__(self) -> None:
        self.source, self.target = FakeRegistry(), FakeRegistry()
        self.clock = FakeClock()
        self.now = NOW
        self.history = History()
        self.held: dict[str, Held] = {}
        self.policy = POLICY
        self.move("first")

    def move(self, name: str) -> str:
        self.source.push("up/postgres", an_index(name), "17")
        return self.source.tags["up/postgres"]["17"]

    def watch(self, moves_days_ago: tuple[float, ...]) -> None:
        """Let the tag be known to have named other images, lately the present one."""
        image = an_index("first")
        for number, days in enumerate(moves_days_ago):
            is_last = number == len(moves_days_ago) - 1
            self.history.add(
                Sighting(
                    ref=TAG,
                    platform="linux/amd64",
                    digest=image.children[0].digest if is_last else f"old {number}",
                    index_digest=image.digest if is_last else f"old index {number}",
                    seen_at=self.now - days * DAY_SECONDS,
                )
            )

    def sync(self, *, dry_run: bool = False, **more: object) -> MirrorResult:
        names = {"source": f"{SOURCE}/up/postgres", "target": f"{TARGET}/mirror/postgres", "tags": ("17",)}
        mirror = MirrorSettings(**{**names, **more})  # type: ignore[arg-type]
        settings = VettingSettings(
            policies={"mirrored": self.policy}, match=(VettingMatchSettings("**", "mirrored"),)
        )

        async def run() -> MirrorResult:
            network = Network({SOURCE: self.source, TARGET: self.target})
            with stamina.set_testing(True, attempts=3, cap=True):
                async with (
                    RegistryClient(transport=network, clock=self.clock, sleep=self.clock.sleep) as client,
                    Archive({}) as archive,
                ):
                    examiner = Examiner(
                        client, archive, self.history, settings=settings, releases={}, clock=lambda: self.now
                    )
                    gate = Gate(self.history, examiner, self.held, now=lambda: self.now)
                    syncer = Syncer(client, now=lambda: self.now, dry_run=dry_run, gate=gate)
                    [result] = (await syncer.sync([mirror]))[mirror.target]
                    self.held = gate.held
                    for sighting in syncer.sightings:
                        self.history.add(sighting)
                    return result

        self.source.requests.clear()
        return asyncio.run(run())

    @property
    def mirrored(self) -> str:
        return self.target.tags.get("mirror/postgres", {}).get("17", "")


@pytest.fixture
def world() -> World:
    return World()


def pulls(registry: FakeRegistry) -> int:
    return len(registry.asked("GET", "/manifests/"))


def test_a_digest_is_mirrored_once_it_has_been_known_for_the_cool_down(world: World) -> None:
    cooldown = Duration(DAY_SECONDS)
    first = world.sync(cooldown=cooldown)
    assert first.outcome == "held"
    assert "known for 0.0 of the 24 hours" in first.message
    world.now += DAY_SECONDS - 1
    assert world.sync(cooldown=cooldown).outcome == "held"
    assert pulls(world.source) == 0
    world.now += 1
    assert world.sync(cooldown=cooldown).outcome == "copied"
    assert world.sync(cooldown=cooldown).outcome == "same"


def test_until_then_the_digest_before_stays(world: World) -> None:
    old = world.source.tags["up/postgres"]["17"]
    world.sync()
    new = world.move("second")
    assert world.sync(cooldown=Duration(3_600)).outcome == "held"
    assert world.mirrored == old
    world.now += 3_600
    assert world.sync(cooldown=Duration(3_600), keep_previous=0).outcome == "copied"
    assert world.mirrored == new


def test_a_digest_that_moves_on_in_time_is_never_mirrored(world: World) -> None:
    cooldown = Duration(3_600)
    for name in ("bad", "worse", "mended"):
        world.move(name)
        assert world.sync(cooldown=cooldown).outcome == "held"
        world.now += 1_800
    assert world.mirrored == ""
    world.now += 1_800
    assert world.sync(cooldown=cooldown).outcome == "copied"
    assert world.mirrored == world.source.tags["up/postgres"]["17"]


def test_an_image_that_meets_its_policy_is_mirrored(world: World) -> None:
    world.watch((70, 61, 40, 22, 3))
    assert world.sync(vet=True).outcome == "copied"
    assert world.held == {}


def test_vetting_and_mirroring_read_each_manifest_once(world: World) -> None:
    world.watch((70, 61, 40, 22, 3))
    assert world.sync(vet=True).outcome == "copied"
    # The index, and the manifests of its two platforms: as many as without vetting.
    asked = [request.url.path for request in world.source.asked("GET", "/manifests/")]
    assert len(asked) == len(set(asked)) == 3
    world.move("second")
    world.policy = VettingPolicySettings(supported=False, mode="warn")
    assert world.sync(vet=True, platforms=("linux/amd64", "linux/arm64")).outcome == "copied"
    asked = [request.url.path for request in world.source.asked("GET", "/manifests/")]
    assert len(asked) == len(set(asked)) == 3


def test_what_was_read_to_be_vetted_does_not_count_as_being_at_a_target_without_head(world: World) -> None:
    world.watch((70, 61, 40, 22, 3))
    world.target.fault(answers(405), method="HEAD", where="/manifests/")
    assert world.sync(vet=True).outcome == "copied"
    assert world.mirrored == world.source.tags["up/postgres"]["17"]


def test_an_image_that_does_not_is_held_with_the_rule_and_not_vetted_at_each_run(world: World) -> None:
    found = world.sync(vet=True)
    assert found.outcome == "held"
    assert "the policy mirrored is not met: verdict: unknown" in found.message
    # The index, and the manifest of the one platform that is vetted.
    assert pulls(world.source) == 2
    again = world.sync(vet=True)
    assert (again.outcome, again.message, pulls(world.source)) == ("held", found.message, 0)
    world.now += VETTED_AGAIN_SECONDS
    assert world.sync(vet=True).outcome == "held"
    assert pulls(world.source) == 2


def test_what_was_held_is_vetted_at_once_when_the_tag_moves(world: World) -> None:
    world.sync(vet=True)
    world.move("second")
    world.policy = VettingPolicySettings(supported=False, mode="warn")
    assert world.sync(vet=True).outcome == "copied"
    assert world.held == {}


def test_each_platform_that_is_mirrored_must_pass(world: World) -> None:
    world.watch((70, 61, 40, 22, 3))
    found = world.sync(vet=True, platforms=("linux/amd64", "linux/arm64"))
    assert found.outcome == "held"


def test_what_cannot_be_vetted_is_held(world: World) -> None:
    world.watch((70, 61, 40, 22, 3))
    world.source.fault(answers(500), where="/blobs/")
    found = world.sync(vet=True)
    assert found.outcome == "held"
    assert "could not be vetted" in found.message
    assert "answered 500" in found.message
    world.source.faults.clear()
    world.clock.now += 10_000
    assert world.sync(vet=True).outcome == "copied"


def test_a_dry_run_shows_what_is_held(world: World) -> None:
    assert world.sync(dry_run=True, cooldown=Duration(60)).outcome == "held"
    assert world.sync(dry_run=True).outcome == "to copy"


def test_what_is_held_is_kept_between_runs(tmp_path: Path) -> None:
    assert read_held(tmp_path) == {}
    held = {"target.example.com/a:1": Held("sha256:1", "because", NOW)}
    write_held(tmp_path, held)
    assert read_held(tmp_path) == held
