"""What replicas can tell: the one that acts, and those that wait; how far pinned references are behind."""

import asyncio
from pathlib import Path

from imagechain.chain import Chain, Graph, Policy, explain, find_pins, status
from imagechain.config import PolicySettings
from imagechain.config.values import Duration
from imagechain.service.knowledge import NO_SCAN
from imagechain.service.known import Known
from imagechain.service.loop import Service
from imagechain.service.ports import ImageAbsent, ImageRead, ImageUnchecked
from imagechain.testing import Role
from service.test_whole import fresh, ready
from service.whole import Whole, store_at, until


def test_a_replica_that_waits_tells_what_the_other_has_written(tmp_path: Path) -> None:
    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        whole.add("base", "debian:bookworm")
        whole.add("app", "base")
        async with whole.serving() as service:
            waiting = Service(service._ports, service._settings)
            await ready(service, whole, 3)
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])
            theirs, ours = await service.known(), await waiting.known()
            assert theirs is not None
            assert ours is not None
            assert (theirs.is_stored, ours.is_stored) == (False, True)
            assert status(ours.chain) == status(theirs.chain)
            assert ours.scan == theirs.scan
            assert "another replica acts" in ours.notices[0]
            assert theirs.notices == ()

    asyncio.run(main())


def test_before_anything_was_written_nothing_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        async with whole.serving() as service:
            waiting = Service(service._ports, service._settings)
            before = await waiting.known()
            assert before is None or before.is_stored

    asyncio.run(main())


def test_how_far_a_pinned_reference_is_behind_is_shown_and_builds_nothing(tmp_path: Path) -> None:
    debian = "docker.io/library/debian:bookworm"

    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        pinned = whole.images[debian].digest
        whole.add("base", "debian:bookworm")
        files = {"Containerfile": f"FROM debian:bookworm@{pinned}\n"}
        whole.gitlab.add_project("images/pinned", files=files)
        async with whole.serving() as service:
            await ready(service, whole, 3)
            known = await service.known()
            assert known is not None
            assert [one.behind for one in find_pins(known.chain.graph, known.digests)] == [False]
            whole.set_image(debian, "debian 2", {})
            assert service._acting is not None
            await service._acting.follower.read_images([debian])
            known = await service.known()
            assert known is not None
            (pin,) = find_pins(known.chain.graph, known.digests)
            present = whole.images[debian].digest
            assert (pin.child, pin.pinned, pin.present, pin.behind) == (
                "images/pinned",
                pinned,
                present,
                True,
            )
            told = explain(known.chain, "images/pinned", 0.0, known.digests).uncounted[0].text
            assert told.endswith(f"is pinned by its digest, and its tag is now {present}.")
            assert {one.id: one.state for one in status(known.chain)}["images/pinned"] == "inactive"

    asyncio.run(main())


def test_a_registry_that_cannot_be_read_is_told_until_it_can(tmp_path: Path) -> None:
    debian = "docker.io/library/debian:bookworm"

    class Away(Whole):
        is_away = False

        async def read(self, reference: str) -> ImageRead | ImageAbsent | ImageUnchecked:
            if self.is_away and reference == debian:
                return ImageUnchecked(f"{reference}: docker.io does not answer")
            return await super().read(reference)

    async def main() -> None:
        whole = Away(store_at(tmp_path))
        whole.add("base", "debian:bookworm")
        async with whole.serving() as service:
            await ready(service, whole, 2)
            assert service._acting is not None
            notice = "1 image of docker.io cannot be read, so that no change is seen there"
            for whole.is_away, notices in (
                (True, (f"{notice}: {debian}: docker.io does not answer",)),
                (False, ()),
            ):
                await service._acting.follower.read_images([debian])
                known = await service.known()
                assert known is not None
                assert known.notices == notices

    asyncio.run(main())


def test_webhooks_that_gitlab_refuses_are_told_until_it_takes_them(tmp_path: Path) -> None:
    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        whole.policy = PolicySettings(reconcile=Duration(0.2), retry=())
        whole.add("base")
        whole.gitlab.add_group("images", members={whole.bot: Role.DEVELOPER})

        async def notices_of(service: Service, count: int) -> tuple[str, ...]:
            for _ in range(400):
                known = await service.known()
                if known is not None and len(known.notices) == count:
                    return known.notices
                await asyncio.sleep(0.05)
            raise AssertionError(f"there are never {count} notices")

        async with whole.serving() as service:
            (notice,) = await notices_of(service, 1)
            told = "GitLab refuses 1 webhook, so that what happens there is found by reconcile only"
            assert notice.startswith(f"{told}; images/base: ")
            assert "403" in notice
            whole.gitlab.add_group("images", members={whole.bot: Role.MAINTAINER})
            assert await notices_of(service, 0) == ()

    asyncio.run(main())


def test_each_registry_is_told_once_and_not_all_of_many() -> None:
    names = [f"r{host}.io/x:{tag}" for host in range(9) for tag in range(3)]
    chain = Chain(Graph((), ()), Policy())
    known = Known(chain=chain, scan=NO_SCAN, unchecked=dict.fromkeys(names, "it is down"))
    assert [notice.partition(" cannot")[0] for notice in known.notices] == [
        f"3 images of r{host}.io" for host in range(4)
    ]
