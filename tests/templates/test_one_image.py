"""A repository with one image: its pipelines run for real, and the registry tells what came of them."""

import contextlib
import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from templates.local_ci import BRANCH, DEFAULT_BRANCH, MERGE_REQUEST, NAME, TAG, LocalCi, blocks, trust

pytestmark = pytest.mark.builds


@contextlib.contextmanager
def recorded_requests() -> Iterator[tuple[str, list[str]]]:
    """Serve a registry that does what it is asked, and remembers it; give its address."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            requests.append(f"DELETE {self.path}")
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_port}", requests
        server.shutdown()


@pytest.fixture
def one_image(ci: LocalCi, request: pytest.FixtureRequest) -> LocalCi:
    ci.copy_example("one-image")
    ci.write({"Containerfile": "FROM scratch\nCOPY content /\n", "content": request.node.name})
    ci.commit()
    return ci


def test_the_table_of_tags_comes_out_exactly(one_image: LocalCi) -> None:
    ci = one_image
    expected: set[str] = set()
    for kind, more in ((BRANCH, ()), (DEFAULT_BRANCH, ("latest",)), (TAG, ("v1.0",)), (MERGE_REQUEST, ())):
        outcome = ci.run(kind)
        assert outcome.succeeded, outcome.output
        expected |= {f"p-{ci.pipeline}", f"g-{ci.pipeline}", *more}
        assert set(ci.tags(NAME)) == expected
    assert len(set(ci.tags(NAME).values())) == 1


def test_an_image_that_fails_its_tests_is_there_for_people_and_gets_no_other_name(one_image: LocalCi) -> None:
    ci = one_image
    text = (ci.top / ".gitlab-ci.yml").read_text()
    ci.write({".gitlab-ci.yml": text.replace("test -e /etc/os-release", "exit 1")})
    ci.commit()
    outcome = ci.run(DEFAULT_BRANCH)
    assert not outcome.succeeded
    assert set(ci.tags(NAME)) == {f"p-{ci.pipeline}"}


def test_the_file_of_the_page_on_promotion_reaches_production_and_merge_requests(ci: LocalCi) -> None:
    text = blocks("promote.md")[0]
    assert "app --self-test" in text
    ci.write(
        {
            ".gitlab-ci.yml": text.replace("app --self-test", "echo tested"),
            "Containerfile": "FROM scratch\nCOPY content /\n",
            "content": "of the page",
        }
    )
    ci.commit()
    for kind, click, tag in (
        (DEFAULT_BRANCH, "deploy production", "production"),
        (MERGE_REQUEST, "deploy merge request", "mr-7"),
    ):
        outcome = ci.run(kind, click=[click])
        assert outcome.succeeded, outcome.output
        tags = ci.tags("app")
        assert tags[tag] == tags[f"g-{ci.pipeline}"]


def test_a_trial_reads_the_other_image_and_moves_no_name_that_others_use(one_image: LocalCi) -> None:
    ci = one_image
    assert ci.run(DEFAULT_BRANCH).succeeded
    before = ci.tags(NAME)
    tried = f"{ci.registry}/{ci.project}/{NAME}"
    ci.write({"Containerfile": f"FROM {tried}:none\nCOPY content /again\n"})
    ci.commit()
    assert not ci.run(DEFAULT_BRANCH).succeeded
    told = json.dumps({f"{tried}:none": f"{tried}@{before['latest']}"})
    outcome = ci.run({**DEFAULT_BRANCH, "IMAGE_TRIAL": told})
    assert outcome.succeeded, outcome.output
    after = ci.tags(NAME)
    assert after["latest"] == before["latest"]
    assert after.keys() - before.keys() == {f"p-{ci.pipeline}", f"g-{ci.pipeline}"}


def test_production_is_reached_by_a_click_from_the_default_branch(one_image: LocalCi) -> None:
    ci = one_image
    outcome = ci.run(DEFAULT_BRANCH, click=["deploy-production"])
    assert outcome.succeeded, outcome.output
    tags = ci.tags(NAME)
    assert tags["production"] == tags[f"g-{ci.pipeline}"]


@pytest.mark.parametrize("deploy", [(DEFAULT_BRANCH, "deploy-production"), (MERGE_REQUEST, "deploy-mr")])
def test_only_what_was_tested_is_deployed_wherever_its_names_were_moved_to(
    one_image: LocalCi, deploy: tuple[dict[str, str], str]
) -> None:
    ci, (kind, job) = one_image, deploy
    assert ci.run(BRANCH).succeeded
    other = ci.pipeline
    ci.write({"content": "tested"})
    ci.commit()
    outcome = ci.run(kind)
    assert outcome.succeeded, outcome.output
    for name in (f"p-{ci.pipeline}", f"g-{ci.pipeline}"):
        ci.move(NAME, f"p-{other}", name)
    outcome = ci.run(kind, jobs=[job])
    assert "something else was pushed in the meantime" in outcome.output
    assert {"mr-7", "production"}.isdisjoint(ci.tags(NAME))


def test_a_merge_request_is_deployed_by_a_click(one_image: LocalCi) -> None:
    ci = one_image
    outcome = ci.run(MERGE_REQUEST, click=["deploy-mr"])
    assert outcome.succeeded, outcome.output
    tags = ci.tags(NAME)
    assert tags["mr-7"] == tags[f"g-{ci.pipeline}"]
    assert {"latest", "production"}.isdisjoint(tags)


def test_the_end_of_a_merge_request_removes_its_tag_and_nothing_else(one_image: LocalCi) -> None:
    # docker-registry deletes no tags, as GitLab's registry does.
    with recorded_requests() as (address, requests):
        ci = LocalCi(one_image.top, address, one_image.environ | trust(address))
        outcome = ci.run(MERGE_REQUEST, jobs=["stop-mr"])
        assert outcome.succeeded, outcome.output
        assert requests == [f"DELETE /v2/{ci.project}/{NAME}/manifests/mr-7"]


def test_a_registry_that_deletes_no_tags_lets_the_environment_end_and_says_what_is_left(
    one_image: LocalCi,
) -> None:
    outcome = one_image.run(MERGE_REQUEST, jobs=["stop-mr"], CI_MERGE_REQUEST_IID="8")
    assert outcome.succeeded, outcome.output


def test_a_merge_request_cannot_reach_production_whatever_its_configuration_says(one_image: LocalCi) -> None:
    ci = one_image
    text = (ci.top / ".gitlab-ci.yml").read_text()
    attack = "\ndeploy-production:\n  rules: [{when: always}]\n"
    ci.write({".gitlab-ci.yml": text + attack})
    ci.commit()
    outcome = ci.run(MERGE_REQUEST)
    assert not outcome.succeeded
    assert "a merge request (number 7) must not reach the environment 'production'" in outcome.output
    assert "production" not in ci.tags(NAME)


def test_the_git_tag_production_is_moved_with_a_token_and_its_lack_is_told(
    ci: LocalCi, tmp_path: Path
) -> None:
    server = tmp_path / "server.git"
    subprocess.run(["git", "init", "--quiet", "--bare", server], check=True)
    ci.write(
        {
            ".gitlab-ci.yml": "include: [{local: /templates/jobs.yml, inputs: {imagechain_image: any}}]\n"
            "stages: [build, manifest, test, tag, deploy]\n"
            "deploy: {extends: .deploy_production_tag}\n"
        }
    )
    commit = ci.commit()
    more = {"CI_PROJECT_URL": server.as_uri().removesuffix(".git"), "CI_COMMIT_SHA": commit}
    outcome = ci.run(DEFAULT_BRANCH, jobs=["deploy"], **more)
    assert "GITLAB_JOB_DEPLOY_PRODUCTION_ACCESS_TOKEN: is missing. Set it in" in outcome.output
    outcome = ci.run(
        DEFAULT_BRANCH, jobs=["deploy"], GITLAB_JOB_DEPLOY_PRODUCTION_ACCESS_TOKEN="s3cret", **more
    )
    assert outcome.succeeded, outcome.output
    assert "s3cret" not in outcome.output
    argv = ["git", "-C", str(server), "for-each-ref", "--format=%(objectname) %(refname)"]
    found = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert found == f"{commit} refs/tags/production\n", outcome.output
