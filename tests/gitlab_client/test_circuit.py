"""A GitLab that is down gets a probe now and then, whatever is asked of it; the first answer ends that."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from gitlab_client.fake import TOKEN, URL
from imagechain.circuit import FAILURES_MAX
from imagechain.config import Settings
from imagechain.gitlab import graphql, rest
from imagechain.gitlab.call import Call
from imagechain.gitlab.client import ATTEMPTS_MAX, IMPATIENT, PATIENT, Client, Patience
from imagechain.gitlab.errors import DownError, NotFoundError, OverloadedError, RetryableError
from imagechain.refs import parse_platform
from imagechain.service.forge import GitLabForge, loop_errors
from imagechain.service.ports import NotNowError, TrackedProject
from sim.memory_store import MemoryStore

VERSION_CALL = rest.version()
VERSION = httpx2.Response(200, json={"version": "19.4.0"})


class Server:
    """A GitLab that answers as told, and a clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.asked_at: list[float] = []
        self.reply: Callable[[], httpx2.Response] = lambda: httpx2.Response(503)
        #: Only a part of it fails.
        self.has_version = False

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked_at.append(self.now)
        return VERSION if self.has_version and request.url.path.endswith("/version") else self.reply()

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def client(self, patience: Patience = PATIENT) -> Client:
        return Client(
            URL,
            lambda: TOKEN,
            patience=patience,
            transport=httpx2.MockTransport(self.answer),
            sleep=self.sleep,
            now=lambda: self.now,
            chance=lambda: 0.0,
        )


async def ask(client: Client, times: int, call: Call[Any] = VERSION_CALL) -> list[type[Exception] | None]:
    came: list[type[Exception] | None] = []
    for _ in range(times):
        try:
            await client.send(call)
        except RetryableError as error:
            came.append(type(error))
        else:
            came.append(None)
    return came


def refuses() -> httpx2.Response:
    raise httpx2.ConnectError("connection refused")


def closes() -> httpx2.Response:
    raise httpx2.RemoteProtocolError("closed without an answer")


@pytest.mark.parametrize("failure", [refuses, closes, lambda: httpx2.Response(502)])
def test_a_gitlab_that_is_down_is_not_hammered(failure: Callable[[], httpx2.Response]) -> None:
    server = Server()
    server.reply = failure

    async def main() -> None:
        async with server.client() as client:
            await ask(client, 2)
            # And it was asked whether it is down at all.
            assert len(server.asked_at) == FAILURES_MAX + 1
            opened_at = client.down_since
            assert opened_at == server.asked_at[-1]
            assert set(await ask(client, 1_000)) == {DownError}
            assert len(server.asked_at) == FAILURES_MAX + 1
            for _ in range(600):
                server.now += 1
                await ask(client, 10)
            # Ten minutes: after 5, 10, 20 and 40 s, and then once a minute.
            assert len(server.asked_at) - FAILURES_MAX - 1 <= 4 + 10
            assert client.down_since == opened_at

    asyncio.run(main())


class Hanging(Server):
    """A GitLab that takes connections and never answers; each request waits as long as it may."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: float | None = None

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.has_version and request.url.path.endswith("/version"):
            return VERSION
        self.asked_at.append(self.now)
        self.now += self.waited or request.extensions["timeout"]["read"]
        raise httpx2.ReadTimeout("timed out")


def test_a_gitlab_that_hangs_counts_as_down_after_one_answer_that_did_not_come() -> None:
    server = Hanging()
    began = server.now

    async def main() -> None:
        async with server.client() as client:
            with pytest.raises(DownError, match=r"is it up, and gitlab\.url right"):
                await client.send(rest.pipeline(17, 4))
            assert client.down_since is not None
            assert client.down_since <= server.now <= began + 90
            assert len(server.asked_at) == 2
            # Its first answer ends that.
            server.has_version = True
            server.now += 5
            assert await ask(client, 1) == [None]
            assert client.down_since is None

    asyncio.run(main())


def test_what_gitlab_alone_does_not_answer_does_not_make_it_count_as_down() -> None:
    server = Hanging()
    server.has_version = True

    async def main() -> None:
        async with server.client() as client:
            # What reads is repeated, and what creates is not.
            calls: tuple[tuple[Call[Any], int], ...] = (
                (rest.hooks(17), ATTEMPTS_MAX),
                (rest.create_pipeline(17, "main"), 1),
            )
            for call, count in calls:
                server.asked_at.clear()
                with pytest.raises(OverloadedError, match=r"17.* did not answer within 65 s"):
                    await client.send(call)
                assert len(server.asked_at) == count
                assert client.down_since is None

    asyncio.run(main())


def test_a_person_is_told_within_a_quarter_of_a_minute_that_gitlab_hangs() -> None:
    server = Hanging()
    began = server.now

    async def main() -> None:
        async with server.client(IMPATIENT) as client:
            with capture_logs() as told, pytest.raises(OverloadedError, match="did not answer within 12 s"):
                await client.send(rest.hooks(17))
            assert server.now <= began + 15
            # What comes after it is told without waiting, and nothing is written among the results.
            assert set(await ask(client, 9)) == {DownError}
            assert server.now <= began + 15
            assert told == []
            # What GitLab alone does not answer is not asked again either.
            server.has_version = True
            server.now += 5
            began_again = server.now
            with pytest.raises(OverloadedError):
                await client.send(rest.hooks(17))
            assert server.now <= began_again + 15

    asyncio.run(main())


def test_that_answers_do_not_come_is_told_at_once_and_once_a_minute() -> None:
    server = Hanging()
    server.has_version = True

    async def main() -> None:
        async with server.client() as client:
            with capture_logs() as told:
                await ask(client, 1, rest.create_pipeline(17, "main"))
                assert [(one["log_level"], one["event"]) for one in told] == [
                    ("warning", "GitLab does not answer")
                ]
                assert "did not answer within 65 s" in told[0]["why"]
                server.waited = 5.0
                await ask(client, 11, rest.create_pipeline(17, "main"))
                assert len(told) == 1
                await ask(client, 2, rest.create_pipeline(17, "main"))
                assert len(told) == 2

    asyncio.run(main())


def test_the_first_answer_ends_it_even_if_it_is_a_no() -> None:
    server = Server()

    async def main() -> None:
        async with server.client() as client:
            await ask(client, 2)
            server.now += 5
            server.reply = lambda: httpx2.Response(404, json={"message": "404 Not Found"})
            with pytest.raises(NotFoundError):
                await client.send(rest.project(1))
            assert client.down_since is None
            server.reply = lambda: VERSION
            assert await ask(client, 3) == [None] * 3

    asyncio.run(main())


@pytest.mark.parametrize("call", [graphql.names("images", None, 10), rest.hooks(17), rest.pipeline(17, 4)])
def test_what_gitlab_fails_on_alone_does_not_make_it_count_as_down(call: Call[object]) -> None:
    server = Server()
    server.has_version = True

    async def main() -> None:
        async with server.client() as client:
            for _ in range(FAILURES_MAX * 2):
                with pytest.raises(OverloadedError):
                    await client.send(call)
                assert client.down_since is None
            assert await ask(client, 1) == [None]

    asyncio.run(main())


def test_what_gitlab_fails_on_does_not_keep_it_down_when_it_is_back() -> None:
    server = Server()

    async def main() -> None:
        async with server.client() as client:
            await ask(client, 2)
            assert client.down_since is not None
            server.has_version = True
            server.now += 5
            with pytest.raises(OverloadedError):
                await client.send(rest.hooks(17))
            assert client.down_since is None

    asyncio.run(main())


def test_while_it_is_down_nothing_was_started_for_certain() -> None:
    """So that the intent of a build is free at once, and not after the time that a lost answer may take."""
    server = Server()

    async def main() -> None:
        async with server.client() as client:
            await ask(client, 2)
            with pytest.raises(
                NotNowError, match="GitLab does not answer, and nothing is sent to it for 5 s"
            ) as told:
                async with loop_errors():
                    await client.send(rest.create_pipeline(1, "main"))
            assert told.value.retry_after_seconds == 5.0
            assert len(server.asked_at) == FAILURES_MAX + 1

    asyncio.run(main())


def test_while_gitlab_wants_no_requests_nothing_was_started_for_certain() -> None:
    """A request that waits here for longer than one may last would look like one that got no answer."""
    server = Server()
    server.reply = lambda: httpx2.Response(429, text="Retry later", headers={"Retry-After": "60"})

    async def main() -> None:
        async with server.client() as client:
            forge = GitLabForge(client, Settings(), MemoryStore(), parse_platform("linux/amd64"))
            project = TrackedProject(source="a", project_id=1, ref="main")
            for _ in range(2):
                with pytest.raises(NotNowError) as told:
                    await forge.create_pipeline(project, {})
                assert told.value.retry_after_seconds == 60.0
            assert len(server.asked_at) == 1

    asyncio.run(main())
