"""What an image is built from, and what is attested of it, found in registries in memory."""

import asyncio
import json

import pytest
import stamina

from imagechain.config import VettingPolicySettings, VettingSettings
from imagechain.refs import parse_platform, parse_reference
from imagechain.registry import RegistryClient
from imagechain.vetting.archive import Archive
from imagechain.vetting.examine import Examiner, Vetted
from imagechain.vetting.history import History
from registry.fakes import FakeClock, FakeRegistry, Network
from registry.pictures import OCI_CONFIG, OCI_MANIFEST, Stored, make_image, make_index, sha256
from vetting.test_provenance import attestation, attested

HUB, HOST = "registry-1.docker.io", "registry.example.com"
REF = f"{HOST}/up/app:1"
NOW = 1_793_491_200.0
DEBIAN = "RUN # debian.sh --arch 'amd64' out/ 'bookworm' '@1793000000'"


def with_history(layers: list[bytes], *created_by: str) -> Stored:
    """Make an image whose config tells how its layers were made."""
    plain = make_image(layers=layers)
    config = json.loads(plain.blobs[0])
    config["history"] = [{"created_by": each} for each in created_by]
    written, manifest = json.dumps(config).encode(), json.loads(plain.raw)
    manifest["config"] = {"mediaType": OCI_CONFIG, "digest": sha256(written), "size": len(written)}
    return Stored(json.dumps(manifest).encode(), OCI_MANIFEST, (written, *layers))


class World:
    """Docker Hub with Debian, and a registry with an app."""

    def __init__(self) -> None:
        self.hub, self.registry = FakeRegistry(), FakeRegistry()
        self.hub.push("library/debian", with_history([b"debian"], DEBIAN), "bookworm")
        self.hub.push("library/debian", with_history([b"slim"], DEBIAN), "bookworm-slim")

    def vet(self, image: Stored, **policy: object) -> Vetted:
        self.registry.push("up/app", image, "1")
        rules = VettingPolicySettings(supported=False, **policy)  # type: ignore[arg-type]
        clock = FakeClock()

        async def run() -> Vetted:
            network = Network({HUB: self.hub, HOST: self.registry})
            with stamina.set_testing(True, attempts=3, cap=True):
                async with (
                    RegistryClient(transport=network, clock=clock, sleep=clock.sleep) as client,
                    Archive({}) as archive,
                ):
                    examiner = Examiner(
                        client,
                        archive,
                        History(),
                        settings=VettingSettings(policies={"default": rules}),
                        releases={},
                        clock=lambda: NOW,
                    )
                    return await examiner.vet(parse_reference(REF), parse_platform("linux/amd64"))

        return asyncio.run(run())


@pytest.fixture
def world() -> World:
    return World()


def signed(found: Vetted) -> tuple[str, str]:
    [finding] = [each for each in found.findings if each.rule == "signed"]
    return finding.outcome, finding.message


@pytest.mark.parametrize(("lowest", "tag"), [(b"debian", "bookworm"), (b"slim", "bookworm-slim")])
def test_a_base_that_nobody_names_is_found_by_its_layers(world: World, lowest: bytes, tag: str) -> None:
    found = world.vet(with_history([lowest, b"app"], DEBIAN, "COPY app /app"), bases=("docker.io/library/*",))
    assert found.base == f"docker.io/library/debian:{tag}"
    assert {each.rule: each.outcome for each in found.findings}["bases"] == "pass"


def test_what_only_says_so_in_its_history_is_not_taken_for_built_on_it(world: World) -> None:
    found = world.vet(with_history([b"something else", b"app"], DEBIAN), bases=("docker.io/library/*",))
    assert found.base == ""
    assert {each.rule: each.outcome for each in found.findings}["bases"] == "unknown"


def test_a_base_is_none_of_itself(world: World) -> None:
    assert world.vet(with_history([b"debian"], DEBIAN)).base == ""


def test_the_label_of_a_chain_names_the_base(world: World) -> None:
    inputs = json.dumps({"docker.io/library/debian:bookworm": {"digest": sha256(b"x"), "content": "y"}})
    found = world.vet(make_image(layers=[b"a"], labels={"dev.imagechain.inputs": inputs}))
    assert found.base == "docker.io/library/debian:bookworm"


def test_a_base_from_elsewhere_breaks_the_rule(world: World) -> None:
    image = make_image(
        layers=[b"a"], annotations={"org.opencontainers.image.base.name": "quay.io/evil/base:1"}
    )
    found = world.vet(image, bases=("docker.io/library/*",))
    outcomes = {each.rule: (each.outcome, each.message) for each in found.findings}
    assert outcomes["bases"][0] == "violated"
    assert "quay.io/evil/base:1" in outcomes["bases"][1]


def test_signatures_are_seen_by_the_api_of_referrers(world: World) -> None:
    image = make_image(layers=[b"a"])
    signature = make_image(labels={"of": "it"}, subject=image)
    world.registry.push("up/app", signature)
    outcome, message = signed(world.vet(image, signed=True))
    assert outcome == "pass"
    assert OCI_MANIFEST in message


def test_attestations_are_seen_in_the_index(world: World) -> None:
    image = make_image(layers=[b"a"])
    outcome, message = signed(world.vet(attested(image, attestation(b"{}")), signed=True))
    assert (outcome, message) == ("pass", "there are attestation-manifest")


def test_without_any_the_rule_is_broken(world: World) -> None:
    index = make_index({"linux/amd64": make_image(layers=[b"a"])})
    assert signed(world.vet(index, signed=True))[0] == "violated"
