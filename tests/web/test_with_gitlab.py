"""Hooks of the simulated GitLab, which was written from the contract by itself, reach the intake."""

import asyncio
from collections import Counter
from typing import Any

import httpx2
import pytest

from imagechain.store import Store
from imagechain.testing import InstanceSettings, Role, SimulatedGitLab
from imagechain.testing.faults import Faults
from imagechain.testing.values import HookEvent
from imagechain.web import make_app
from web.parts import API_TOKEN, HOOK_KEY, NOW, SECRETS, FakeService

CI = "build:\n  script: [make]\n"


class World:
    """A GitLab with one project, whose hook leads to the intake."""

    def __init__(
        self, store: Store, *, has_token: bool = True, has_signature: bool = True, **options: Any
    ) -> None:
        self.now = NOW
        app = make_app(
            store, FakeService(), hook_key=HOOK_KEY, api_token=API_TOKEN, machine_now=lambda: self.now
        )
        self.gitlab = SimulatedGitLab(clock=lambda: NOW, seed=1, **options)
        self.gitlab.hooks.transport = httpx2.ASGITransport(app=app)
        bot = self.gitlab.add_user("bot", bot=True)
        self.gitlab.add_group("images", members={bot: Role.OWNER})
        self.project = self.gitlab.add_project("images/base", files={".gitlab-ci.yml": CI})
        self.gitlab.add_hook(
            self.project,
            "https://imagechain.example.com/hooks/gitlab",
            token=SECRETS.token(self.project.id) if has_token else "",
            signing_token=SECRETS.signing_token(self.project.id) if has_signature else "",
        )

    def build(self) -> list[HookEvent]:
        """Push, let the pipeline run, and deliver all hooks of it."""
        self.gitlab.push("images/base", {"Containerfile": "FROM a"})
        self.gitlab.pipelines.finish(self.gitlab.latest_pipeline("images/base"))
        return asyncio.run(self.gitlab.hooks.deliver())


def _kinds(store: Store) -> Counter[str]:
    return Counter(item.hint.kind for item in asyncio.run(store.hints(100)))


@pytest.mark.parametrize(("has_token", "has_signature"), [(True, True), (True, False), (False, True)])
def test_hooks_with_a_secret_are_stored(store: Store, has_token: bool, has_signature: bool) -> None:
    world = World(store, has_token=has_token, has_signature=has_signature)
    events = world.build()
    assert {event.response_status for event in events} == {"202"}
    found = asyncio.run(store.hints(100))
    assert len(found) == len(events)
    assert _kinds(store)["push"] == 1
    pipeline = world.gitlab.latest_pipeline("images/base").id
    assert {item.hint.pipeline_id for item in found if item.hint.kind == "pipeline"} == {pipeline}
    assert {item.hint.project_id for item in found} == {world.project.id}


def test_an_instance_before_signatures_uses_the_token(store: Store) -> None:
    events = World(store, settings=InstanceSettings(version="18.4.0")).build()
    assert {event.response_status for event in events} == {"202"}
    assert all("webhook-signature" not in event.request_headers for event in events)


def test_hooks_without_a_secret_are_refused(store: Store) -> None:
    events = World(store, has_token=False, has_signature=False).build()
    assert {event.response_status for event in events} == {"401"}
    assert asyncio.run(store.hints(100)) == []


def test_a_clock_that_is_wrong_refuses_signatures(store: Store) -> None:
    world = World(store)
    world.now = NOW + 3_600
    assert {event.response_status for event in world.build()} == {"401"}


def test_doubled_calls_are_stored_once(store: Store) -> None:
    world = World(store)
    world.gitlab.state.faults = Faults(hook_duplicate=1.0)
    events = world.build()
    assert {event.response_status for event in events} == {"202"}
    assert len(asyncio.run(store.hints(100))) == len(events) / 2


def test_a_call_that_a_person_repeats_is_known(store: Store) -> None:
    world = World(store)
    events = world.build()
    before = len(asyncio.run(store.hints(100)))
    (hook,) = world.gitlab.state.hooks.values()
    again = asyncio.run(world.gitlab.hooks.resend(hook, events[0]))
    assert again.response_status == "202"
    assert '"new":false' in again.response_body
    assert len(asyncio.run(store.hints(100))) == before
