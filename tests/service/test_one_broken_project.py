"""A project on which GitLab always fails, as after it lost secrets or data, holds up no other."""

import asyncio
import time
from pathlib import Path
from typing import Literal

import httpx2
import pytest

from imagechain.chain import SourceStatus
from imagechain.service.loop import HINTS_MAX
from imagechain.store import Hint
from service.test_bad_input import eventually
from service.test_changes_in_gitlab import reconcile
from service.test_whole import fresh, ready
from service.whole import Whole, store_at, until

BROKEN = "images/a-broken"


@pytest.fixture(autouse=True)
def _look_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagechain.service.loop._LOOK_SECONDS_MIN", 0.5)


class PartlyBroken(Whole):
    """A GitLab that answers 500 to all that is about hooks, or pipelines, of one project."""

    def __init__(self, store_url: str) -> None:
        super().__init__(store_url, enterprise=False)
        self.add("a-broken", "debian:bookworm")
        self.add("base", "debian:bookworm")
        self.add("app", "base")
        self.breaks: Literal["hooks", "pipelines", ""] = ""
        self.failures = 0

    def transport(self) -> httpx2.AsyncBaseTransport:
        sound = super().transport()

        async def answer(request: httpx2.Request) -> httpx2.Response:
            if self.is_broken(request):
                self.failures += 1
                return httpx2.Response(500, json={"message": "500 Internal Server Error"})
            return await sound.handle_async_request(request)

        return httpx2.MockTransport(answer)

    async def sleep_before_repeating(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)

    def is_broken(self, request: httpx2.Request) -> bool:
        number = self.gitlab.project(BROKEN).id
        if request.url.path.endswith("/graphql"):
            query = request.content.decode()
            return self.breaks == "pipelines" and " pipelines(" in query and f'/{number}"' in query
        return bool(self.breaks) and request.url.path.startswith(f"/api/v4/projects/{number}/{self.breaks}")


def test_its_hooks_do_not_keep_others_from_theirs(tmp_path: Path) -> None:
    async def main() -> None:
        whole = PartlyBroken(store_at(tmp_path))
        whole.breaks = "hooks"
        async with whole.serving() as service:
            await until(service, lambda shown: len(shown) == 4 and fresh(shown))
            hooks = whole.gitlab.state.hooks
            broken = whole.gitlab.project(BROKEN).id
            await until(service, lambda _: len(hooks) == 2, seconds=60.0)
            assert broken not in {hook.project for hook in hooks.values()}
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])
            assert whole.client.down_since is None

    asyncio.run(main())


def test_its_pipelines_do_not_keep_the_service_from_its_start(tmp_path: Path) -> None:
    async def main() -> None:
        whole = PartlyBroken(store_at(tmp_path))
        whole.breaks = "pipelines"
        async with whole.serving() as service:
            await eventually(
                lambda: service._acting is not None and service._acting.is_deciding, seconds=60.0
            )
            shown = await until(service, lambda shown: len(shown) == 4)
            assert shown[BROKEN].state == "unknown"
            known = await service.known()
            assert known is not None
            (notice,) = known.notices
            assert notice.startswith(f"{BROKEN}: GitLab fails on it, and is asked again")
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda _: whole.built == ["base", "app"], seconds=60.0)
            whole.breaks = ""
            await reconcile(service)
            await until(service, fresh)

    asyncio.run(main())


@pytest.mark.parametrize("restarts", [False, True])
def test_what_happens_in_it_meanwhile_is_found_when_it_is_mended(tmp_path: Path, *, restarts: bool) -> None:
    async def break_and_go_on(whole: PartlyBroken) -> None:
        async with whole.serving() as service:
            await ready(service, whole, 4)
            await eventually(lambda: service._acting is not None and service._acting.is_deciding)
            whole.breaks = "pipelines"
            whole.gitlab.push(BROKEN, {"more": "text"})
            await eventually(lambda: whole.built == ["a-broken"])
            # What comes later, and is seen, must not hide it.
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda _: whole.built == ["a-broken", "base", "app"], seconds=60.0)
            await reconcile(service)
            assert whole.failures
            if not restarts:
                whole.breaks = ""
                await until(service, lambda shown: is_news_seen(shown, whole), seconds=60.0)
        if restarts:
            whole.breaks = ""
            async with whole.serving() as service:
                await until(service, lambda shown: is_news_seen(shown, whole), seconds=60.0)

    def is_news_seen(shown: dict[str, SourceStatus], whole: PartlyBroken) -> bool:
        last = shown[BROKEN].last_build
        return last is not None and last.id == str(whole.gitlab.latest_pipeline(BROKEN).id)

    asyncio.run(break_and_go_on(PartlyBroken(store_at(tmp_path))))


def test_its_hints_do_not_hide_those_of_others(tmp_path: Path) -> None:
    async def main() -> None:
        whole = PartlyBroken(store_at(tmp_path))
        async with whole.serving() as service:
            await ready(service, whole, 4)
            await eventually(lambda: service._acting is not None and service._acting.is_deciding)
            whole.breaks = "pipelines"
            broken = whole.gitlab.project(BROKEN).id
            for number in range(HINTS_MAX + 1):
                hint = Hint(kind="pipeline", project_id=broken, pipeline_id=10_000 + number)
                await service._ports.store.add_hint(hint, f"{number}", time.time())
            service.wake()
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda _: whole.built == ["base", "app"], seconds=120.0)

    asyncio.run(main())


def test_while_an_answer_about_it_is_waited_for_the_hints_of_others_are_followed_up(tmp_path: Path) -> None:
    class Slow(PartlyBroken):
        """A GitLab that gives no answer about the pipelines of one project, and does not refuse either."""

        def transport(self) -> httpx2.AsyncBaseTransport:
            quick = Whole.transport(self)

            async def answer(request: httpx2.Request) -> httpx2.Response:
                if self.is_broken(request):
                    self.failures += 1
                    await asyncio.Event().wait()
                return await quick.handle_async_request(request)

            return httpx2.MockTransport(answer)

    async def main() -> None:
        whole = Slow(store_at(tmp_path))
        async with whole.serving() as service:
            await ready(service, whole, 4)
            await eventually(lambda: service._acting is not None and service._acting.is_deciding)
            whole.breaks = "pipelines"
            hint = Hint(kind="pipeline", project_id=whole.gitlab.project(BROKEN).id, pipeline_id=10_000)
            await service._ports.store.add_hint(hint, "slow", time.time())
            service.wake()
            await eventually(lambda: whole.failures == 1)
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda _: whole.built == ["base", "app"])

    asyncio.run(main())
