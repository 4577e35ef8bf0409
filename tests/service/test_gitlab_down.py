"""A GitLab that is down is only probed, whatever hints come; and the service goes on when it is back."""

import asyncio
import time
from pathlib import Path

import httpx2

from imagechain.circuit import CLOSED, FAILURES_MAX
from imagechain.gitlab.client import PARALLEL_MAX
from imagechain.store import Hint
from service.test_changes_in_gitlab import reconcile
from service.test_whole import fresh, ready
from service.whole import Whole, store_at, until

HINTS = 300


class Breaking(Whole):
    """A GitLab that can be unplugged."""

    def __init__(self, store_url: str) -> None:
        super().__init__(store_url)
        self.is_unplugged = False
        self.failure: httpx2.TransportError = httpx2.ConnectError("connection refused")
        self.refused: list[str] = []

    def transport(self) -> httpx2.AsyncBaseTransport:
        plugged = super().transport()

        async def answer(request: httpx2.Request) -> httpx2.Response:
            if self.is_unplugged:
                self.refused.append(request.url.path)
                raise self.failure
            return await plugged.handle_async_request(request)

        return httpx2.MockTransport(answer)


def test_a_gitlab_that_is_down_is_only_probed_whatever_hints_come(tmp_path: Path) -> None:
    async def main() -> None:
        whole = Breaking(store_at(tmp_path))
        whole.add("base", "debian:bookworm")
        whole.add("app", "base")
        async with whole.serving() as service:
            await ready(service, whole, 3)
            whole.is_unplugged = True
            whole.gitlab.push("images/base", {"more": "text"})
            base = whole.gitlab.project("images/base").id
            for number in range(HINTS):
                hint = Hint(kind="pipeline", project_id=base, pipeline_id=10_000 + number)
                await service._ports.store.add_hint(hint, f"{number}", time.time())
            service.wake()
            await until(service, lambda _: whole.client.down_since is not None, seconds=60.0)
            await asyncio.sleep(1.0)
            # Those that were under way when it was noticed come on top.
            assert len(whole.refused) <= FAILURES_MAX + PARALLEL_MAX
            assert len(await service._ports.store.hints(1_000)) >= HINTS
            whole.is_unplugged = False
            # As if the time of the next probe had come.
            whole.client._circuit = CLOSED
            await reconcile(service)
            # What failed waits for some seconds.
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 2, seconds=60.0)
            assert whole.built == ["base", "app"]

    asyncio.run(main())


def test_one_answer_that_does_not_come_stops_the_service_from_asking_until_gitlab_is_back(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        whole = Breaking(store_at(tmp_path))
        whole.failure = httpx2.ReadTimeout("it hangs")
        whole.add("base", "debian:bookworm")
        whole.add("app", "base")
        async with whole.serving() as service:
            await ready(service, whole, 3)
            whole.is_unplugged = True
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda _: whole.client.down_since is not None)
            # Calls that were under way, and what asks whether it is down.
            assert len(whole.refused) <= PARALLEL_MAX + 1
            whole.is_unplugged = False
            whole.client._circuit = CLOSED
            await reconcile(service)
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 2, seconds=60.0)
            assert whole.built == ["base", "app"]

    asyncio.run(main())
