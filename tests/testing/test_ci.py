"""CI configurations of simulated projects: what becomes of them in the lint API and in pipelines."""

from typing import Any

import pytest
import yaml

from imagechain.testing import SimulationError
from imagechain.testing.rules import expression_is_true
from testing.gitlab_world import World

BASE = "projects/images%2Fbase"


def lint(world: World, files: dict[str, str | bytes | None]) -> Any:
    world.gitlab.push("images/base", files)
    return world.ask("GET", f"{BASE}/ci/lint").json()


def merged(world: World, files: dict[str, str | bytes | None]) -> Any:
    answer = lint(world, files)
    assert answer["errors"] == []
    return yaml.safe_load(answer["merged_yaml"])


def test_local_includes_with_wildcards_are_merged_and_the_includer_wins() -> None:
    files = {
        ".gitlab-ci.yml": "include: [{local: 'ci/*.yml'}]\na: {script: own}",
        "ci/1.yml": "a: {script: included, image: x}\ninclude: /deep/b.yml",
        "ci/2.yml": "c: {script: c}",
        "deep/b.yml": "b: {script: b}",
    }
    world = World()
    content = merged(world, dict(files))
    assert content == {"b": {"script": "b"}, "a": {"script": "own", "image": "x"}, "c": {"script": "c"}}
    includes = world.ask("GET", f"{BASE}/ci/lint").json()["includes"]
    assert {(item["type"], item["location"]) for item in includes} == {
        ("local", "ci/1.yml"),
        ("local", "ci/2.yml"),
        ("local", "deep/b.yml"),
    }


@pytest.mark.parametrize(("source", "jobs"), [("push", {"a", "b"}), ("schedule", {"a"})])
def test_an_include_with_rules_counts_only_where_they_are_met(source: str, jobs: set[str]) -> None:
    ci = f"include: [{{local: b.yml, rules: [{{if: $CI_PIPELINE_SOURCE == '{source}'}}]}}]\na: {{script: a}}"
    assert merged(World(), {".gitlab-ci.yml": ci, "b.yml": "b: {script: b}"}).keys() == jobs


def test_extends_and_references_are_resolved_and_hidden_jobs_stay() -> None:
    ci = ".a: {image: x, script: [one]}\nb: {extends: .a, script: [!reference [.a, script], two]}"
    content = merged(World(), {".gitlab-ci.yml": ci})
    assert content["b"] == {"image": "x", "script": [["one"], "two"]}
    assert ".a" in content


def test_components_are_found_by_tag_partial_version_and_latest_with_inputs() -> None:
    world = World()
    component = (
        "spec: {inputs: {stage: {default: test}, image: {}}}\n---\n"
        "'job $[[ inputs.stage ]]': {script: a, image: '$[[ inputs.image ]]'}"
    )
    world.gitlab.add_project("images/lib", files={"templates/build.yml": component})
    world.gitlab.repositories.tag(world.gitlab.project("images/lib"), "1.2.0", "main", user=world.bot)
    for version in ("1.2.0", "1.2", "1", "~latest", "main"):
        ci = (
            f"include: [{{component: $CI_SERVER_FQDN/images/lib/build@{version}, "
            "inputs: {stage: deploy, image: debian}}]"
        )
        assert merged(world, {".gitlab-ci.yml": ci}) == {"job deploy": {"script": "a", "image": "debian"}}
    missing = lint(world, {".gitlab-ci.yml": ci.replace("inputs: {stage: deploy, image: debian}", "")})
    assert "required value has not been provided" in missing["errors"][0]


@pytest.mark.parametrize(
    ("ci", "error"),
    [
        ("include: gone.yml", "does not exist"),
        ("include: {project: images/none, file: a.yml}", "not found or access denied"),
        ("include: {project: images/base, file: a.yml, ref: gone}", "does not exist"),
        ("include: {component: $CI_SERVER_FQDN/images/base/x@main}", "content not found"),
        ("include: {template: Nonsense.yml}", "Template file"),
        ("include: {remote: 'https://example.com/a.yml'}", "lead out of the simulation"),
        ("a: {extends: .b, script: x}", "'.b'"),
        (".a: {script: x}", "at least one visible job"),
        ("a: {image: x}", "should implement the script"),
        ("- a", "mapping"),
    ],
)
def test_a_wrong_configuration_is_invalid_with_a_message(ci: str, error: str) -> None:
    answer = lint(World(), {".gitlab-ci.yml": ci})
    assert answer["valid"] is False
    assert error in answer["errors"][0]


def test_includes_have_a_limit() -> None:
    files: dict[str, str | bytes | None] = {f"ci/{number}.yml": "a: {script: a}" for number in range(151)}
    answer = lint(World(), {**files, ".gitlab-ci.yml": "include: 'ci/*.yml'"})
    assert answer["errors"] == ["Maximum of 150 nested includes are allowed!"]


VARIABLES = {"A": "x", "EMPTY": "", "REF": "release-1"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("$A", True),
        ("$EMPTY", False),
        ("$GONE", False),
        ("$GONE == null", True),
        ("$A == 'x' && $B", False),
        ('$A != "x" || $A == "x"', True),
        ("$A == 'x' || $A == 'y' && $GONE", True),
        ("($A == 'x' || $A == 'y') && $GONE", False),
        ("$REF =~ /^release-\\d+$/", True),
        ("$REF =~ /^RELEASE/i", True),
        ("$REF !~ /^release/", False),
        ("$GONE =~ /x/", False),
    ],
)
def test_expressions_of_rules_are_computed(expression: str, value: bool) -> None:
    assert expression_is_true(expression, VARIABLES) is value


@pytest.mark.parametrize("expression", ["", "$A ==", "&& $A", "$A $B", "($A", "a == b", "~"])
def test_a_wrong_expression_is_refused(expression: str) -> None:
    with pytest.raises(SimulationError, match="invalid expression syntax"):
        expression_is_true(expression, VARIABLES)


@pytest.mark.parametrize(
    ("job", "sources"),
    [
        ("only: [main]", {"push", "api"}),
        ("only: [schedules, api]", {"api"}),
        ("except: [api]", {"push"}),
        ("rules: [{if: $CI_PIPELINE_SOURCE == 'api'}]", {"api"}),
        ("rules: [{if: $CI_COMMIT_TAG, when: never}, {when: on_success}]", {"push", "api"}),
        ("rules: []", set()),
    ],
)
def test_rules_decide_which_jobs_a_pipeline_has(job: str, sources: set[str]) -> None:
    world = World()
    world.gitlab.push("images/base", {".gitlab-ci.yml": f"a:\n  script: a\n  {job}\n"})
    world.ask("POST", f"{BASE}/pipeline", json={"ref": "main"})
    assert {pipeline.source for pipeline in world.base.pipelines.values()} == sources


def test_workflow_rules_refuse_a_whole_pipeline() -> None:
    world = World()
    ci = "workflow: {rules: [{if: $CI_PIPELINE_SOURCE == 'schedule'}]}\na: {script: a}"
    world.gitlab.push("images/base", {".gitlab-ci.yml": ci})
    assert world.base.pipelines == {}


@pytest.mark.parametrize("message", ["Change [skip ci]", "[ci skip] more"])
def test_a_push_that_skips_ci_leaves_a_skipped_pipeline_and_the_api_runs_all_the_same(message: str) -> None:
    world = World()
    world.hook("pipeline_events")
    world.gitlab.push("images/base", {"a": "1"}, message=message)
    pipeline = world.gitlab.latest_pipeline("images/base")
    assert (pipeline.status, pipeline.jobs) == ("skipped", [])
    world.deliver()
    assert [body["object_attributes"]["status"] for body in world.receiver.bodies] == ["skipped"]
    assert world.ask("POST", f"{BASE}/pipeline", json={"ref": "main"}).status_code == 201


def test_a_failed_job_that_may_fail_passes_with_a_warning() -> None:
    world = World()
    ci = "a: {script: a, allow_failure: true}\nb: {stage: deploy, script: b}"
    world.gitlab.push("images/base", {".gitlab-ci.yml": ci})
    pipeline = world.gitlab.latest_pipeline("images/base")
    world.gitlab.pipelines.start(pipeline)
    world.gitlab.pipelines.finish_job(pipeline.jobs[0], "failed")
    world.gitlab.pipelines.finish(pipeline)
    shown = world.ask("GET", f"{BASE}/pipelines/{pipeline.id}").json()
    assert (shown["status"], shown["detailed_status"]["label"]) == ("success", "passed with warnings")


def test_a_push_with_a_wrong_configuration_leaves_a_failed_pipeline_and_the_api_refuses() -> None:
    world = World()
    world.gitlab.push("images/base", {".gitlab-ci.yml": "a: {image: x}"})
    shown = world.ask("GET", f"{BASE}/pipelines/latest").json()
    assert (shown["status"], shown["source"]) == ("failed", "push")
    assert "should implement the script" in shown["yaml_errors"]
    assert world.ask("POST", f"{BASE}/pipeline", json={"ref": "main"}).status_code == 400
    assert len(world.base.pipelines) == 1


def test_a_configuration_may_stand_in_another_project_where_lint_does_not_see_it() -> None:
    world = World()
    world.gitlab.add_project("images/ci", files={"shared.yml": "shared: {script: a}"})
    world.base.ci_config_path = "shared.yml@images/ci"
    made = world.ask("POST", f"{BASE}/pipeline", json={"ref": "main"})
    assert made.status_code == 201
    assert [job.plan.name for job in world.base.pipelines[made.json()["id"]].jobs] == ["shared"]
    assert world.ask("GET", f"{BASE}/ci/lint").json()["valid"] is False
