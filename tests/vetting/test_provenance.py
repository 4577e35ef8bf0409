"""The time of a build in the provenance beside an image, and what it costs to read it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.registry.manifest import OCI_MANIFEST, Manifest, decode_manifest
from imagechain.vetting.provenance import finished_on, provenance_of
from registry.pictures import OCI_CONFIG, OCI_INDEX, Stored, make_image, make_index, sha256
from registry.servers import Server, metered
from vetting.archives import layer
from vetting.vetted import OS_RELEASE, settings, vet_json

__all__ = ["settings"]

IN_TOTO = "application/vnd.in-toto+json"
BUILT_AT = (datetime.now(UTC) - timedelta(days=9)).replace(microsecond=0)
#: BuildKit writes nanoseconds.
FINISHED = f"{BUILT_AT:%Y-%m-%dT%H:%M:%S}.123456789Z"
EPOCH = "1970-01-01T00:00:00Z"


def statement(digest: str, *, version: str = "v0.2", finished: str = FINISHED) -> bytes:
    """Write what BuildKit writes, with fewer fields."""
    metadata: dict[str, object] = {
        "metadata": {"buildInvocationID": "x", "buildStartedOn": EPOCH, "buildFinishedOn": finished}
    }
    if version == "v1":
        metadata = {"runDetails": {"builder": {"id": ""}, "metadata": {"finishedOn": finished}}}
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": f"https://slsa.dev/provenance/{version}",
            "subject": [{"name": "pkg:docker/app@1", "digest": {"sha256": digest.partition(":")[2]}}],
            "predicate": {"buildType": "https://mobyproject.org/buildkit@v1", **metadata},
        }
    ).encode()


def attestation(provenance: bytes) -> Stored:
    """Make the manifest that BuildKit keeps a list of packages and the provenance in."""
    config, packages = b"{}", b'{"predicateType": "https://spdx.dev/Document"}'
    layers = [(packages, "https://spdx.dev/Document"), (provenance, "https://slsa.dev/provenance/v0.2")]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": sha256(config), "size": len(config)},
        "layers": [
            {
                "mediaType": IN_TOTO,
                "digest": sha256(data),
                "size": len(data),
                "annotations": {"in-toto.io/predicate-type": predicate},
            }
            for data, predicate in layers
        ],
    }
    blobs = (config, *(data for data, _ in layers))
    return Stored(json.dumps(manifest).encode(), OCI_MANIFEST, blobs)


def attested(image: Stored, about: Stored) -> Stored:
    """Put an image and what is attested of it into an index."""
    plain = json.loads(make_index({"linux/amd64": image}).raw)
    plain["manifests"].append(
        {
            "mediaType": OCI_MANIFEST,
            "digest": about.digest,
            "size": len(about.raw),
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": image.digest,
            },
        }
    )
    return Stored(json.dumps(plain).encode(), OCI_INDEX, children=(image, about))


@pytest.mark.parametrize("version", ["v0.2", "v1"])
def test_the_end_of_a_build_is_read_in_both_versions(version: str) -> None:
    assert finished_on(statement("sha256:1", version=version), "sha256:1") == FINISHED


def test_provenance_of_something_else_says_nothing() -> None:
    assert finished_on(statement("sha256:1"), "sha256:2") == ""


def test_the_provenance_is_found_beside_other_statements() -> None:
    provenance = statement("sha256:1")
    about = attestation(provenance)
    manifest = decode_manifest(about.raw, OCI_MANIFEST, about.digest)
    assert isinstance(manifest, Manifest)
    found = provenance_of(manifest)
    assert found is not None
    assert found.digest == sha256(provenance)
    assert provenance_of(msgspec.structs.replace(manifest, layers=manifest.layers[:1])) is None


@given(st.binary(max_size=100) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_nothing_breaks_the_reading(data: bytes | str) -> None:
    assert finished_on(data.encode() if isinstance(data, str) else data, "sha256:1") == ""


def clocks(found: dict[str, object]) -> dict[str, tuple[float, str]]:
    readings = found["verdict"]["age"]["readings"]  # type: ignore[index]
    return {reading["clock"]: (reading["at"], reading["rejected"]) for reading in readings}


def test_an_image_with_a_fixed_time_is_as_old_as_its_provenance_says_and_that_is_read_once(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    image = make_image(layers=[layer(OS_RELEASE)], created=EPOCH)
    about = attestation(statement(image.digest))
    open_registry.push("attested", attested(image, about), "1")
    with metered(open_registry, 100, 100) as (address, remaining):
        with settings.open("a") as file:
            file.write(f'[registry."{address}"]\ninsecure = true\n')
        _, [found] = vet_json(capsys, f"{address}/attested:1")
        # The index, the manifest of the image, and that of what is attested.
        assert remaining == [97]
        at, rejected = clocks(found)["provenance-finished"]
        assert at == pytest.approx(BUILT_AT.timestamp(), abs=1)
        assert rejected == ""
        assert found["verdict"]["age"]["clock"] == "provenance-finished"  # type: ignore[index]
        assert not found["verdict"]["age"]["is_proven"]  # type: ignore[index]

        _, [again] = vet_json(capsys, f"{address}/attested:1")
        assert clocks(again)["provenance-finished"][0] == pytest.approx(at, abs=1)
        assert remaining == [95]


@pytest.mark.parametrize(("created", "pulls"), [(FINISHED, 2), (EPOCH, 3)], ids=["real", "fixed"])
def test_where_a_better_clock_can_be_right_no_provenance_is_read(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str], created: str, pulls: int
) -> None:
    image = make_image(layers=[layer(OS_RELEASE)], annotations={"org.opencontainers.image.created": created})
    open_registry.push("annotated", attested(image, attestation(statement(image.digest))), "1")
    with metered(open_registry, 100, 100) as (address, remaining):
        with settings.open("a") as file:
            file.write(f'[registry."{address}"]\ninsecure = true\n')
        _, [found] = vet_json(capsys, f"{address}/annotated:1")
    assert remaining == [100 - pulls]
    assert ("provenance-finished" in clocks(found)) == (pulls == 3)


@pytest.mark.parametrize(
    "provenance", [b"no JSON", statement("sha256:" + "0" * 64)], ids=["no JSON", "of something else"]
)
def test_provenance_that_says_nothing_of_the_image_spoils_nothing(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str], provenance: bytes
) -> None:
    image = make_image(layers=[layer({**OS_RELEASE, "of": str(provenance)})], created=EPOCH)
    open_registry.push("attested", attested(image, attestation(provenance)), "2")
    _, [found] = vet_json(capsys, f"{open_registry.address}/attested:2")
    assert found["problem"] == ""
    assert "provenance-finished" not in clocks(found)
