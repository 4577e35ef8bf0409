"""A repository with several images: its child pipeline runs for real."""

import pytest

from templates.local_ci import BRANCH, DEFAULT_BRANCH, MERGE_REQUEST, SCHEDULE, LocalCi

pytestmark = pytest.mark.builds


@pytest.fixture
def many_images(ci: LocalCi) -> LocalCi:
    """The example with base <- app, of which nothing has to run."""
    ci.copy_example("many-images")
    ci.write(
        {
            "imagechain.toml": "",
            # A test that any image passes.
            "image-tests.yml": '.test:\n  script: [test -n "$IMAGE"]\n',
            "base/Containerfile": "FROM scratch\nCOPY file /base\n",
            "base/file": "base",
            "app/Containerfile": f"FROM {ci.registry}/{ci.project}/base:latest\nCOPY file /app\n",
            "app/file": "app",
        }
    )
    ci.commit()
    return ci


def test_every_image_is_built_on_the_others_of_its_own_pipeline_for_each_architecture(
    many_images: LocalCi,
) -> None:
    ci = many_images
    ci.copy_example("many-images")
    images = f"{ci.registry}/{ci.project}"
    labelled = "ARG PYTHON_VERSION\nLABEL python=$PYTHON_VERSION\n"
    ci.write(
        {
            "image-tests.yml": '.test:\n  script: [test -n "$IMAGE"]\n',
            "python/Containerfile": f"FROM {images}/base:latest\n{labelled}",
            "app/Containerfile": f"FROM {images}/python-3.13:latest\nCOPY file /app\n",
        }
    )
    ci.commit()
    outcome = ci.run_child(BRANCH)
    assert outcome.succeeded, outcome.output
    # No image has a tag of others yet, so each was built on what this pipeline made.
    for name in ("base", "python-3.12", "python-3.13", "app"):
        tags = ci.tags(name)
        parts = {f"p-{ci.pipeline}-amd64", f"p-{ci.pipeline}-arm64"}
        assert set(tags) == {f"p-{ci.pipeline}", f"g-{ci.pipeline}", *parts}
        index = ci.manifest(name, f"g-{ci.pipeline}")
        assert [one["platform"]["architecture"] for one in index["manifests"]] == ["amd64", "arm64"]
    for arch in ("amd64", "arm64"):
        config = ci.config("app", f"p-{ci.pipeline}-{arch}")
        base = ci.config("base", f"p-{ci.pipeline}-{arch}")
        assert config["architecture"] == arch
        assert config["config"]["Labels"]["python"] == "3.13"
        assert config["rootfs"]["diff_ids"][0] == base["rootfs"]["diff_ids"][0]


def test_the_template_starts_the_child_pipeline_and_hands_on_what_is_tried(many_images: LocalCi) -> None:
    ci = many_images
    outcome = ci.run(DEFAULT_BRANCH)
    assert outcome.succeeded, outcome.output
    assert "[images] -> tag app" in outcome.output
    before = {name: ci.tags(name) for name in ("base", "app")}
    assert all(set(tags) == {f"p-{ci.pipeline}", f"g-{ci.pipeline}", "latest"} for tags in before.values())
    ci.write({"base/file": "tried"})
    ci.commit()
    outcome = ci.run({**SCHEDULE, "IMAGE_TRIAL": "{}"})
    assert outcome.succeeded, outcome.output
    for name, tags in before.items():
        after = ci.tags(name)
        assert after["latest"] == tags["latest"] != after[f"g-{ci.pipeline}"]


def test_only_what_changed_is_built_and_the_rest_keeps_its_names(many_images: LocalCi) -> None:
    ci = many_images
    outcome = ci.run_child(DEFAULT_BRANCH)
    assert outcome.succeeded, outcome.output
    first, before = ci.pipeline, ci.commit()
    ci.write({"app/file": "changed"})
    changed = ci.commit()
    outcome = ci.run_child(DEFAULT_BRANCH, CI_COMMIT_BEFORE_SHA=before)
    assert outcome.succeeded, outcome.output
    assert set(ci.tags("base")) == {f"p-{first}", f"g-{first}", "latest"}
    tags = ci.tags("app")
    assert tags["latest"] == tags[f"g-{ci.pipeline}"] != tags[f"g-{first}"]
    # A merge request that touches no image still has a pipeline that succeeds.
    ci.write({"README.md": "new"})
    ci.commit()
    outcome = ci.run_child(MERGE_REQUEST, CI_MERGE_REQUEST_DIFF_BASE_SHA=changed)
    assert outcome.succeeded, outcome.output
    assert "No image is touched" in outcome.output


def test_a_failing_test_keeps_the_image_and_all_above_it_from_the_gate(many_images: LocalCi) -> None:
    ci = many_images
    ci.write({"image-tests.yml": '.test:\n  script: [test "$IMAGE_NAME" != base]\n'})
    ci.commit()
    outcome = ci.run_child(DEFAULT_BRANCH)
    assert not outcome.succeeded
    assert set(ci.tags("base")) == {f"p-{ci.pipeline}"}
    assert f"g-{ci.pipeline}" not in ci.tags("app")
    assert "latest" not in ci.tags("app")


def test_one_image_is_deployed_by_a_click_in_the_child_pipeline(many_images: LocalCi) -> None:
    ci = many_images
    outcome = ci.run_child(MERGE_REQUEST, click=["deploy app"])
    assert outcome.succeeded, outcome.output
    tags = ci.tags("app")
    assert tags["mr-7"] == tags[f"g-{ci.pipeline}"]
    assert "mr-7" not in ci.tags("base")


def test_parts_that_were_built_for_an_earlier_commit_are_put_together_again(many_images: LocalCi) -> None:
    ci = many_images
    (ci.top / "app" / "Containerfile").unlink()
    arches = {"IMAGE_ARCHES": "amd64 arm64"}
    digests = []
    for number in range(2):
        ci.write({"README.md": str(number)})
        ci.commit()
        outcome = ci.run_child(DEFAULT_BRANCH, **arches)
        assert outcome.succeeded, outcome.output
        digests.append(ci.tags("base")["latest"])
    # Nothing was built the second time: the digest is that of the first.
    assert len(set(digests)) == 1
