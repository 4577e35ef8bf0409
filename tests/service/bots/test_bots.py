"""The bots beside the simulated GitLab: comments and deployments come by HTTP, pipelines run."""

import asyncio
import json
from pathlib import Path
from typing import Literal

import pytest

from imagechain.config import BotSettings, DeploymentSettings
from imagechain.testing import Role, payloads
from imagechain.testing.simulated import JobRun
from imagechain.testing.values import MergeRequest, Note
from service.whole import REGISTRY, View, Whole, store_at, until

CI = "variables:\n  IMAGE_TRIAL: ''\nbuild:\n  script: [make]\n  rules:\n    - if: $CI_PIPELINE_SOURCE\n"


class World(Whole):
    """Projects whose jobs keep what others use unless they are told so."""

    def __init__(self, store_url: str, **options: object) -> None:
        super().__init__(store_url, **options)
        self.person = self.gitlab.add_user("person")
        self.stranger = self.gitlab.add_user("stranger")
        self.gitlab.add_group("images", members={self.person: Role.DEVELOPER, self.stranger: Role.REPORTER})
        self.trials: list[tuple[str, dict[str, str]]] = []
        self.add("base", "debian:bookworm", ci=CI)
        self.add("left", "base", ci=CI)
        self.add("right", "base", ci=CI)
        self.add("app", "left", "right", ci=CI)

    def _run(self, run: JobRun) -> Literal["success", "failed"]:
        variables = {variable.key: variable.value for variable in run.pipeline.variables}
        name = run.project.path
        if name == "deploy":
            return "failed" if name in self.failing else "success"
        self.set_image(f"{REGISTRY}/images/{name}:p-{run.pipeline.id}", f"{name} {run.pipeline.id}", {})
        if "IMAGE_TRIAL" in variables:
            self.trials.append((name, json.loads(variables["IMAGE_TRIAL"])))
            return "failed" if name in self.failing else "success"
        if run.pipeline.ref != "main":
            return "success"
        return super()._run(run)

    def open(self) -> MergeRequest:
        project = self.gitlab.project("images/base")
        self.gitlab.push("images/base", {"new": "file"}, branch="topic")
        return self.gitlab.collaboration.open_merge_request(project, author=self.person, source="topic")

    def say(self, merge_request: MergeRequest, body: str, *, stranger: bool = False) -> Note:
        project = self.gitlab.project("images/base")
        author = self.stranger if stranger else self.person
        return self.gitlab.collaboration.add_note(project, merge_request, author=author, body=body)

    def answers(self, merge_request: MergeRequest) -> list[str]:
        return [note.body for note in merge_request.notes.values() if note.author == self.bot.id]


async def settled(service: View, world: World) -> None:
    await until(
        service,
        lambda shown: len(shown) >= 5 and all(s.state in {"fresh", "inactive"} for s in shown.values()),
    )
    for _ in range(500):
        if any(hook.group for hook in world.gitlab.state.hooks.values()):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("no webhooks")


async def answered(world: World, merge_request: MergeRequest, text: str) -> str:
    for _ in range(500):
        for body in world.answers(merge_request):
            if text in body:
                return body
        await asyncio.sleep(0.02)
    raise AssertionError(f"not said: {text!r}; only {world.answers(merge_request)}")


def test_a_request_builds_what_is_above_on_the_new_image_in_order_and_moves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(store_at(tmp_path))
        async with world.serving() as service:
            await settled(service, world)
            merge_request = world.open()
            await asyncio.sleep(0.3)
            before = {name: image for name, image in world.images.items() if name.endswith(":latest")}
            built = list(world.built)
            world.say(merge_request, "@bot test")
            body = await answered(world, merge_request, "Tested")
            assert "3 passed" in body
            assert [name for name, _ in world.trials][2] == "app"
            assert sorted(name for name, _ in world.trials) == ["app", "left", "right"]
            images = dict(world.trials)
            new = images["left"][f"{REGISTRY}/images/base:latest"]
            assert new.startswith(f"{REGISTRY}/images/base@sha256:")
            # Of two stages, the last one counts.
            assert images["app"].keys() == {f"{REGISTRY}/images/{name}:latest" for name in ("base", "right")}
            assert images["app"][f"{REGISTRY}/images/base:latest"] == new
            assert {name: world.images[name] for name in before} == before
            await asyncio.sleep(0.3)
            assert world.built == built
            assert len(world.answers(merge_request)) == 1

    asyncio.run(main())


def test_a_project_whose_pipelines_are_of_branches_only_is_tested_on_that_of_the_branch(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        world = World(store_at(tmp_path))
        without_rules = CI.partition("  rules:")[0]
        world.gitlab.push("images/base", {".gitlab-ci.yml": without_rules})
        await world.gitlab.run_jobs()
        async with world.serving() as service:
            await settled(service, world)
            merge_request = world.open()
            await asyncio.sleep(0.3)
            [pipeline] = [
                one for one in world.gitlab.project("images/base").pipelines.values() if one.ref == "topic"
            ]
            world.say(merge_request, "@bot test images/left")
            body = await answered(world, merge_request, "Tested")
            assert f"`p-{pipeline.id}`" in body

    asyncio.run(main())


def test_a_failure_stops_what_is_above_it_and_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(store_at(tmp_path))
        world.failing.add("right")
        async with world.serving() as service:
            await settled(service, world)
            merge_request = world.open()
            await asyncio.sleep(0.3)
            world.say(merge_request, "@bot please test")
            body = await answered(world, merge_request, "Tested")
            assert "1 passed, 1 failed, 1 skipped" in body
            assert "| images/app | skipped: images/right failed |" in body

    asyncio.run(main())


def test_strangers_edits_and_the_bots_own_words_start_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(store_at(tmp_path))
        async with world.serving() as service:
            await settled(service, world)
            merge_request = world.open()
            await asyncio.sleep(0.3)
            world.say(merge_request, "@bot test", stranger=True)
            project = world.gitlab.project("images/base")
            world.gitlab.collaboration.add_note(
                project, merge_request, author=world.bot, body="@bot test images/app"
            )
            note = world.say(merge_request, "@bot test images/left")
            await answered(world, merge_request, "Tested")
            assert [name for name, _ in world.trials] == ["left"]
            world.gitlab.collaboration.edit_note(project, merge_request, note, "@bot test images/right")
            await asyncio.sleep(0.5)
            assert [name for name, _ in world.trials] == ["left"]

    asyncio.run(main())


def test_a_payload_that_lies_about_who_wrote_a_comment_and_what_it_says_is_not_believed(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        world = World(store_at(tmp_path))
        async with world.serving() as service:
            await settled(service, world)
            merge_request = world.open()
            project, state = world.gitlab.project("images/base"), world.gitlab.state
            hook = next(hook for hook in state.hooks.values() if hook.group)
            strange = world.say(merge_request, "@bot test", stranger=True)
            harmless = world.say(merge_request, "looks good")
            for note in (strange, harmless):
                payload = payloads.note(state, project, merge_request, note, "create")
                payload["user"] = payloads.user_part(world.person)
                payload["object_attributes"] |= {"author_id": world.person.id, "note": "@bot test images/app"}
                event = await world.gitlab.hooks.test(hook, "note_hooks", payload)
                assert event.response_status == "202"
            world.say(merge_request, "@bot test images/left")
            await answered(world, merge_request, "Tested")
            assert [name for name, _ in world.trials] == ["left"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("@bot test images/none", "not built from images/base. These are: images/app, images/left"),
        ("@bot test image_tag=g-99", "There is no image with the tag `g-99` yet"),
        ("@bot test what=ever", "I do not understand `what=ever`"),
    ],
)
def test_what_cannot_be_tested_is_answered(tmp_path: Path, body: str, told: str) -> None:
    async def main() -> None:
        world = World(store_at(tmp_path))
        async with world.serving() as service:
            await settled(service, world)
            merge_request = world.open()
            await asyncio.sleep(0.3)
            world.say(merge_request, body)
            await answered(world, merge_request, told)
            assert world.trials == []

    asyncio.run(main())


def test_a_project_that_does_not_know_trials_is_not_started(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(store_at(tmp_path))
        world.gitlab.push("images/right", {".gitlab-ci.yml": CI.replace("IMAGE_TRIAL", "OTHER")})
        await world.gitlab.run_jobs()
        async with world.serving() as service:
            await settled(service, world)
            merge_request = world.open()
            await asyncio.sleep(0.3)
            world.say(merge_request, "@bot test")
            body = await answered(world, merge_request, "Tested")
            assert "images/right | skipped: its CI configuration does not know `IMAGE_TRIAL`" in body
            assert [name for name, _ in world.trials] == ["left"]

    asyncio.run(main())


def deploying(tmp_path: Path) -> World:
    world = World(store_at(tmp_path))
    world.gitlab.add_project("images/deploy", files={".gitlab-ci.yml": "go:\n  script: [make]\n"})
    rule = DeploymentSettings(
        environment="production", start="images/deploy", variables={"IMAGE": "{image}@{digest}"}
    )
    world.bots = BotSettings(deployments=(rule,))
    world.set_image(f"{REGISTRY}/images/app:production", "app in production", {})
    return world


def deploy(world: World, environment: str = "production", status: str = "success") -> None:
    project = world.gitlab.project("images/app")
    world.gitlab.collaboration.deploy(
        project,
        environment=environment,
        ref="main",
        sha=project.branches["main"],
        status=status,
        user=world.person,
    )


def test_a_deployment_starts_the_pipeline_of_its_rule_once_with_the_image(tmp_path: Path) -> None:
    async def main() -> None:
        world = deploying(tmp_path)
        async with world.serving() as service:
            await settled(service, world)
            deploy(world, environment="staging")
            deploy(world, status="failed")
            deploy(world)
            await world.gitlab.hooks.deliver()
            for _ in range(500):
                if world.gitlab.project("images/deploy").pipelines:
                    break
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            project = world.gitlab.project("images/deploy")
            started = [one for one in project.pipelines.values() if one.source == "api"]
            assert len(started) == 1
            variables = {variable.key: variable.value for variable in started[0].variables}
            digest = world.images[f"{REGISTRY}/images/app:production"].digest
            assert variables["IMAGE"] == f"{REGISTRY}/images/app:production@{digest}"

    asyncio.run(main())


def test_a_failure_after_a_deployment_is_told_once_where_people_look(tmp_path: Path) -> None:
    async def main() -> None:
        world = deploying(tmp_path)
        world.failing.add("deploy")
        async with world.serving() as service:
            await settled(service, world)
            deploy(world)
            project = world.gitlab.project("images/app")
            for _ in range(500):
                if project.commit_comments:
                    break
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            [comments] = project.commit_comments.values()
            assert len(comments) == 1
            assert "the pipeline of `images/deploy` that had to follow failed" in comments[0]

    asyncio.run(main())
