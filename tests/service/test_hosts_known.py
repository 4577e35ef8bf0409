"""Where a container stands: on the present image, behind, or not known; never present by mistake."""

import msgspec
import pytest

from imagechain.chain import Chain, Graph, Policy, Source, VersionRead
from imagechain.hosts.report import HostReport, ReportedContainer
from imagechain.service.hosts_known import SILENT_SECONDS, HeardReport, hosts_known
from imagechain.service.known import Known
from imagechain.service.ports import Scan

NOW = 1_700_000_000.0
IMAGE = "r.io/app:latest"
OTHER = "docker.io/library/redis:7"


def known(version: str | None, digest: str | None) -> Known:
    sources = (Source(id="images/app", kind="project", images=(IMAGE,), file="Containerfile"),)
    chain = Chain(Graph(sources, ()), Policy())
    if version is not None:
        chain.apply(VersionRead(input=IMAGE, version=version, at=NOW - 100))
    scan = Scan(projects=(), sources=sources, dependencies=())
    return Known(chain=chain, scan=scan, digests={} if digest is None else {IMAGE: digest})


def container(**more: object) -> ReportedContainer:
    plain = ReportedContainer(
        user="root", name="app", image=IMAGE, is_running=True, state="current", made_seconds_ago=60.0
    )
    return msgspec.structs.replace(plain, **more)


def standing(what: Known, one: ReportedContainer, *, silent_for: float = 0.0) -> str:
    heard = HeardReport(host="web1", heard_at=NOW - silent_for, report=HostReport(containers=(one,)))
    (image,) = hosts_known(what, [heard], [], NOW).images
    return image.containers[0].standing


@pytest.mark.parametrize(
    ("version", "digest", "content", "digests", "expected"),
    [
        # Any one of the digests is enough, of whichever field podman has it in.
        ("c2", "sha256:2", "", ("sha256:1", "sha256:2"), "present"),
        ("c2", "sha256:2", "", ("sha256:1",), "behind"),
        # The same content under another digest is the same image.
        ("c2", "sha256:2", "c2", ("sha256:1",), "present"),
        # A replica that does not act knows no digests.
        ("c2", None, "c2", (), "present"),
        ("c2", None, "c1", ("sha256:1",), "behind"),
        ("c2", None, "", ("sha256:1",), "unknown"),
        (None, "sha256:2", "c2", (), "unknown"),
        # Of several platforms, one is the host's.
        ("linux/amd64=c2,linux/arm64=c3", None, "c3", (), "present"),
        ("linux/amd64=c2,linux/arm64=c3", None, "c1", (), "behind"),
        ("linux/amd64=c2,linux/arm64=c3", None, "linux/amd64", (), "behind"),
    ],
)
def test_an_image_of_the_chain_is_compared_with_what_it_is_now(
    version: str | None, digest: str | None, content: str, digests: tuple[str, ...], expected: str
) -> None:
    # What the host thinks counts nothing here: it may have looked before the image moved.
    for said in (True, False, None):
        one = container(content=content, digests=digests, is_outdated=said)
        assert standing(known(version, digest), one) == expected


@pytest.mark.parametrize(("said", "expected"), [(False, "present"), (True, "behind"), (None, "unknown")])
def test_of_an_image_of_others_the_host_is_believed(said: bool | None, expected: str) -> None:
    assert standing(known("c2", None), container(image=OTHER, is_outdated=said)) == expected


def test_a_host_that_is_not_heard_of_is_never_up_to_date() -> None:
    what, one = known("c2", None), container(content="c2")
    assert standing(what, one, silent_for=SILENT_SECONDS) == "present"
    assert standing(what, one, silent_for=SILENT_SECONDS + 1) == "unknown"
    assert (
        standing(what, container(image=OTHER, is_outdated=False), silent_for=SILENT_SECONDS + 1) == "unknown"
    )


def test_what_does_not_run_counts_for_nothing() -> None:
    assert standing(known("c2", None), container(is_running=False, content="c1")) == "stopped"


def test_a_host_is_summed_up_and_its_clock_does_not_matter() -> None:
    containers = (
        container(name="a", content="c2"),
        container(name="b", content="c1", state="waiting", waits_for="the next window has not begun"),
        container(name="c", is_running=False, made_seconds_ago=None),
    )
    heard = HeardReport(host="web1", heard_at=NOW - 5, report=HostReport(containers=containers))
    answer = hosts_known(known("c2", "sha256:2"), [heard], [], NOW)
    (host,) = answer.hosts
    assert (host.present, host.behind, host.unknown, host.stopped, host.is_silent) == (1, 1, 0, 1, False)
    (image,) = answer.images
    assert (image.image, image.source, image.digest) == (IMAGE, "images/app", "sha256:2")
    assert [one.since for one in image.containers] == [NOW - 65, NOW - 65, None]
    assert image.containers[1].waits_for == "the next window has not begun"
