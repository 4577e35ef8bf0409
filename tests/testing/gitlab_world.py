"""A small simulated world, and ways to talk to it, for the tests of the simulated GitLab."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx2
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from imagechain.testing import InstanceSettings, Role, SimulatedGitLab
from imagechain.testing.values import Project

URL = "http://gitlab.example.com"
START = 1_763_700_000.0
CI = "build:\n  script: [make]\n"

T = TypeVar("T")


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Receiver:
    """A receiver of webhooks, which answers as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self._called = asyncio.Event()

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body in self.calls]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.calls.append((dict(request.headers), await request.body()))
        self._called.set()
        await Response("answer", self.status)(scope, receive, send)

    async def until(self, wanted: Callable[[Any], bool]) -> None:
        """Wait for a call with such a body."""
        while not any(wanted(body) for body in self.bodies):
            self._called.clear()
            await self._called.wait()


class World:
    """One instance with a bot that owns the group `images`, the project `images/base`, and a receiver."""

    def __init__(self, seed: int = 1, **settings: Any) -> None:
        self.clock = Clock()
        self.gitlab = SimulatedGitLab(clock=self.clock, seed=seed, settings=InstanceSettings(**settings))
        self.bot = self.gitlab.add_user("bot", bot=True)
        self.token = self.gitlab.add_token(self.bot).value
        self.gitlab.add_group("images", members={self.bot: Role.OWNER})
        self.base = self.gitlab.add_project(
            "images/base", files={".gitlab-ci.yml": CI, "Containerfile": "FROM a"}
        )
        self.receiver = Receiver()
        self.gitlab.hooks.transport = httpx2.ASGITransport(app=self.receiver)

    def member(self, role: Role, scopes: tuple[str, ...] = ("api",)) -> str:
        """Add a user with a role in `images/base`, and give out their token."""
        user = self.gitlab.add_user(f"user-{len(self.gitlab.state.users)}")
        self.base.members[user.id] = role
        return self.gitlab.add_token(user, scopes=scopes).value

    def ask(self, method: str, path: str, *, token: str | None = "", **options: Any) -> httpx2.Response:
        """Send one request to the REST API, as the bot unless another token is given."""
        return run(self._ask(method, f"/api/v4/{path}", token, options))

    def query(self, query: str, *, token: str | None = "", **variables: Any) -> Any:
        """Send a query to the GraphQL API, and read the answer."""
        body = {"query": query, "variables": variables}
        return run(self._ask("POST", "/api/graphql", token, {"json": body})).json()

    def query_many(self, requests: list[dict[str, Any]]) -> Any:
        """Send several queries in one request."""
        return run(self._ask("POST", "/api/graphql", "", {"json": requests})).json()

    async def _ask(
        self, method: str, path: str, token: str | None, options: dict[str, Any]
    ) -> httpx2.Response:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["PRIVATE-TOKEN"] = token or self.token
        async with httpx2.AsyncClient(transport=self.gitlab.transport(), base_url=URL) as client:
            return await client.request(method, path, headers=headers, **options)

    def deliver(self) -> int:
        """Let GitLab make all calls of hooks that are due."""
        return len(run(self.gitlab.hooks.deliver()))

    def hook(self, *events: str, project: Project | None = None, **options: Any) -> int:
        """Add a hook to a project, and tell its id."""
        if events:
            options["events"] = events
        return self.gitlab.add_hook(project or self.base, "http://receiver.example.com/", **options).id


def run(awaitable: Awaitable[T]) -> T:
    async def main() -> T:
        return await awaitable

    return asyncio.run(main())
