"""An independent client, python-gitlab, works against the simulated GitLab over a real socket."""

from collections.abc import Iterator
from typing import Any

import gitlab
import pytest

from imagechain.testing.server import serving
from testing.gitlab_world import CI, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(world: World) -> Iterator[gitlab.Gitlab]:
    with serving(world.gitlab) as url, gitlab.Gitlab(url, private_token=world.token) as client:
        yield client


@pytest.fixture
def project(client: gitlab.Gitlab) -> Any:
    return client.projects.get("images/base")


def test_it_logs_in_and_asks_for_the_version(client: gitlab.Gitlab) -> None:
    client.auth()
    assert client.user is not None
    assert (client.user.username, client.version()[0]) == ("bot", "19.0.0")
    assert client.personal_access_tokens.get("self").scopes == ["api"]


def test_it_lists_all_projects_of_a_group_over_many_pages(world: World, client: gitlab.Gitlab) -> None:
    for number in range(120):
        world.gitlab.add_project(f"images/sub/p{number}")
    group = client.groups.get("images")
    found = group.projects.list(get_all=True, include_subgroups=True, order_by="id", sort="asc")
    assert [project.id for project in found] == list(range(1, 122))
    keyset = client.projects.list(iterator=True, pagination="keyset", order_by="id", sort="asc")
    assert len(list(keyset)) == 121


def test_it_reads_and_writes_files(project: Any) -> None:
    assert project.files.get("Containerfile", ref="main").decode() == b"FROM a"
    assert project.files.raw("Containerfile", ref="main") == b"FROM a"
    data = {"branch": "main", "content": "x", "commit_message": "m", "file_path": "d/new file.txt"}
    project.files.create(data)
    file = project.files.get("d/new file.txt", ref="main")
    file.content = "y"
    file.save(branch="main", commit_message="n")
    assert project.files.raw("d/new file.txt", ref="HEAD") == b"y"
    tree = project.repository_tree(recursive=True, get_all=True)
    assert [entry["path"] for entry in tree] == [".gitlab-ci.yml", "Containerfile", "d", "d/new file.txt"]
    assert project.branches.get("main").commit["id"] == project.commits.list(get_all=True)[0].id
    assert project.files.head("d/new file.txt", ref="main")["X-Gitlab-Size"] == "1"


def test_it_starts_follows_retries_and_cancels_pipelines(world: World, project: Any) -> None:
    made = project.pipelines.create({"ref": "main", "variables": [{"key": "A", "value": "1"}]})
    [job] = made.jobs.list(get_all=True)
    assert (job.name, job.status) == ("build", "pending")
    world.gitlab.pipelines.finish(world.base.pipelines[made.id], "failed")
    made.refresh()
    assert (made.status, made.detailed_status["label"]) == ("failed", "failed")
    made.retry()
    made.refresh()
    assert made.status == "pending"
    made.cancel()
    assert project.pipelines.get(made.id).status == "canceled"
    assert project.pipelines.latest(ref="main").id == made.id
    assert [variable.key for variable in made.variables.list(get_all=True)] == ["A"]
    made.delete()
    assert project.pipelines.list(get_all=True) == []


def test_a_refused_pipeline_is_an_error_with_gitlabs_message(project: Any) -> None:
    with pytest.raises(gitlab.GitlabCreateError, match="Reference not found") as caught:
        project.pipelines.create({"ref": "gone"})
    assert caught.value.response_code == 400


def test_it_starts_pipelines_by_trigger_tokens_and_schedules(project: Any) -> None:
    trigger = project.triggers.create({"description": "chain"})
    assert project.trigger_pipeline("main", trigger.token, variables={"A": "1"}).source == "trigger"
    schedule = project.pipelineschedules.create({"description": "d", "ref": "main", "cron": "0 4 * * *"})
    project.pipelineschedules.get(schedule.id).play()
    assert [item.source for item in schedule.pipelines.list(get_all=True)] == ["schedule"]
    schedule.delete()
    assert project.pipelineschedules.list(get_all=True) == []


def test_it_manages_hooks(project: Any) -> None:
    hook = project.hooks.create({"url": "http://r.example.com/", "pipeline_events": True, "token": "t"})
    assert (hook.push_events, hook.pipeline_events, hook.token_present) == (True, True, True)
    hook.push_events = False
    hook.save()
    [found] = project.hooks.list(get_all=True)
    assert (found.push_events, found.url) == (False, "http://r.example.com/")
    hook.delete()
    assert project.hooks.list(get_all=True) == []


def test_it_lints(project: Any) -> None:
    assert project.ci_lint.get().valid
    result = project.ci_lint.create({"content": "a: {extends: .b}\n.b: {script: c}"})
    assert "script: c" in result.merged_yaml
    with pytest.raises(gitlab.GitlabCiLintError):
        project.ci_lint.validate({"content": ".b: {script: c}"})


def test_it_comments_on_merge_requests_and_deploys(world: World, project: Any) -> None:
    project.branches.create({"branch": "topic", "ref": "main"})
    data = {"source_branch": "topic", "target_branch": "main", "title": "t"}
    merge_request = project.mergerequests.create(data)
    note = merge_request.notes.create({"body": "hello"})
    note.body = "changed"
    note.save()
    assert [found.body for found in merge_request.notes.list(get_all=True)] == ["changed"]
    note.delete()
    head = world.base.branches["main"]
    made = {"environment": "prod", "sha": head, "ref": "main", "tag": False, "status": "running"}
    deployment = project.deployments.create(made)
    deployment.status = "success"
    deployment.save()
    [found] = project.deployments.list(get_all=True)
    assert (found.status, found.environment["name"]) == ("success", "prod")


def test_it_reads_the_registry(world: World, project: Any) -> None:
    world.gitlab.set_image("images/base", "latest", "sha256:" + "a" * 64)
    [repository] = project.repositories.list(get_all=True)
    assert repository.tags.get("latest").digest == "sha256:" + "a" * 64


def test_what_is_not_there_is_a_404_and_a_wrong_token_a_401(world: World, client: gitlab.Gitlab) -> None:
    with pytest.raises(gitlab.GitlabGetError) as caught:
        client.projects.get("images/none")
    assert caught.value.response_code == 404
    with (
        gitlab.Gitlab(client.url, private_token="wrong") as stranger,
        pytest.raises(gitlab.GitlabAuthenticationError),
    ):
        stranger.auth()


def test_a_moved_project_is_followed_when_read(world: World, client: gitlab.Gitlab) -> None:
    world.gitlab.move_project("images/base", "images/moved")
    assert client.projects.get("images/base").path_with_namespace == "images/moved"


def test_includes_of_other_projects_are_merged(world: World, project: Any) -> None:
    world.gitlab.add_project("images/ci", files={"build.yml": CI})
    world.gitlab.push("images/base", {".gitlab-ci.yml": "include: {project: images/ci, file: build.yml}"})
    result = project.ci_lint.get()
    assert result.includes[0]["extra"] == {"project": "images/ci", "ref": "HEAD"}
    assert "build:" in result.merged_yaml
