"""Registries that fail, refuse and lie: what could not be vetted is unknown, and unknown is no pass."""

import asyncio
from collections.abc import Callable

import httpx2
import pytest
import stamina

from imagechain.config import VettingPolicySettings, VettingSettings
from imagechain.refs import parse_platform, parse_reference
from imagechain.registry import RegistryClient
from imagechain.vetting.archive import Archive
from imagechain.vetting.examine import Examiner, Vetted
from imagechain.vetting.history import History
from imagechain.vetting.values import DAY_SECONDS, Sighting
from registry.fakes import FakeClock, FakeRegistry, Network, answers, drops
from registry.pictures import make_image

HOST = "registry.example.com"
REF = f"{HOST}/up/app:1"
NOW = 1_793_491_200.0


class World:
    """A tag that is known to move, in a registry with faults."""

    def __init__(self) -> None:
        self.registry = FakeRegistry()
        self.clock = FakeClock()
        self.image = make_image(layers=[b"layer"])
        self.registry.push("up/app", self.image, "1")
        self.mode = "enforce"

    def vet(self) -> Vetted:
        digests = {70: "a", 55: "b", 41: "c", 13: "d", 2: self.image.digest}
        history = History(
            Sighting(ref=REF, platform="linux/amd64", digest=digest, seen_at=NOW - days * DAY_SECONDS)
            for days, digest in digests.items()
        )
        policy = VettingPolicySettings(supported=False, mode=self.mode)  # type: ignore[arg-type]
        settings = VettingSettings(policies={"default": policy})

        async def run() -> Vetted:
            network = Network({HOST: self.registry})
            with stamina.set_testing(True, attempts=3, cap=True):
                async with (
                    RegistryClient(transport=network, clock=self.clock, sleep=self.clock.sleep) as client,
                    Archive({}) as archive,
                ):
                    examiner = Examiner(
                        client, archive, history, settings=settings, releases={}, clock=lambda: NOW
                    )
                    vetted = await examiner.vet(parse_reference(REF), parse_platform("linux/amd64"))
                    assert bool(examiner.sightings) == (vetted.problem == "")
                    return vetted

        return asyncio.run(run())


@pytest.fixture
def world() -> World:
    return World()


def hangs(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadTimeout("nothing came", request=request)


def lies(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(
        200,
        headers={
            "Docker-Content-Digest": "sha256:" + "1" * 64,
            "Content-Type": "application/vnd.oci.image.manifest.v1+json",
        },
        content=b"{}" if request.method == "GET" else b"",
    )


def test_without_a_fault_the_policy_is_met(world: World) -> None:
    found = world.vet()
    assert found.problem == ""
    assert found.met


# Where a HEAD alone is refused, the client asks by GET: some registries answer none.
@pytest.mark.parametrize("method", ["", "GET"])
@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (answers(401), "login"),
        (answers(403), ""),
        (answers(404), ""),
        (answers(429), "too many requests"),
        (answers(500), "answered 500"),
        (drops, ""),
        (hangs, "nothing came"),
    ],
    ids=["401", "403", "404", "429", "500", "dropped", "hangs"],
)
def test_what_a_registry_does_not_tell_is_unknown_and_no_pass(
    world: World, reply: Callable[[httpx2.Request], httpx2.Response], told: str, method: str
) -> None:
    world.registry.fault(reply, method=method)
    found = world.vet()
    assert told in found.problem
    assert found.problem
    assert not found.met
    assert found.verdict is None


def test_a_digest_that_is_not_that_of_the_content_is_not_believed(world: World) -> None:
    world.registry.fault(lies, where="/manifests/")
    found = world.vet()
    assert found.problem
    assert not found.met


def test_a_policy_that_only_warns_is_met_and_the_problem_still_told(world: World) -> None:
    world.registry.fault(answers(500))
    world.mode = "warn"
    found = world.vet()
    assert found.met
    assert "answered 500" in found.problem
