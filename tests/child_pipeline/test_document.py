"""The jobs of a child pipeline, against GitLab's schema and nx."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from child_pipeline.parts import DEFAULT_BRANCH, REGISTRY, image, jobs, options, write
from imagechain.engines.child_pipeline import ChildPipelineError, choose, write_document
from imagechain.images.tags import Pipeline

MERGE_REQUEST = Pipeline(id="13", kind="merge-request", ref="change", merge_request="7")


@st.composite
def dags(draw: st.DrawFn) -> "nx.DiGraph[str]":
    """Images and what they are built from, in any order of names."""
    count = draw(st.integers(1, 12))
    names = draw(st.permutations([f"image-{number}" for number in range(count)]))
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(names)
    for number in range(1, count):
        for parent in draw(st.sets(st.integers(0, number - 1), max_size=3)):
            graph.add_edge(names[parent], names[number])
    return graph


def images_of(graph: "nx.DiGraph[str]", arches: Mapping[str, tuple[str, ...]]) -> Any:
    return [
        image(name, sorted(graph.predecessors(name)), arches=arches.get(name, ()))
        for name in sorted(graph.nodes)
    ]


def needs_graph(document: Mapping[str, Any]) -> "nx.DiGraph[str]":
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, job in jobs(document).items():
        graph.add_node(name)
        graph.add_edges_from((needed, name) for needed in job["needs"])
    return graph


@settings(deadline=None)
@given(graph=dags(), data=st.data())
def test_jobs_need_exactly_what_the_graph_says_and_every_needed_job_is_there(
    graph: "nx.DiGraph[str]", data: st.DataObject
) -> None:
    arches = dict.fromkeys(data.draw(st.sets(st.sampled_from(sorted(graph.nodes)))), ("amd64", "arm64"))
    document = write(choose(images_of(graph, arches), None))
    needs = needs_graph(document)
    assert set(needs.nodes) == set(jobs(document))
    assert nx.is_directed_acyclic_graph(needs)
    for name in graph.nodes:
        builds = [f"build {name} {arch}" for arch in arches[name]] if name in arches else [f"build {name}"]
        expected = {
            f"manifest {parent}" if parent in arches else f"build {parent}"
            for parent in graph.predecessors(name)
        }
        for build in builds:
            assert set(needs.predecessors(build)) == expected
    stages = document["stages"]
    for needed, job in needs.edges:
        # GitLab refuses what needs a job of a later stage.
        assert stages.index(document[needed]["stage"]) <= stages.index(document[job]["stage"])
    for name in graph.nodes:
        gated = {one for one in nx.ancestors(needs, f"tag {name}") if one.startswith("tag ")}
        assert gated == {f"tag {ancestor}" for ancestor in nx.ancestors(graph, name)}


@settings(deadline=None)
@given(graph=dags())
def test_the_builds_take_as_long_as_the_critical_path_of_the_images(graph: "nx.DiGraph[str]") -> None:
    needs = needs_graph(write(choose(images_of(graph, {}), None)))
    builds = needs.subgraph([name for name in needs if name.startswith("build ")])
    assert nx.dag_longest_path_length(builds) == nx.dag_longest_path_length(graph)


@settings(deadline=None)
@given(graph=dags(), data=st.data())
def test_what_changed_and_all_that_follows_is_built_and_nothing_else(
    graph: "nx.DiGraph[str]", data: st.DataObject
) -> None:
    changed = data.draw(st.sets(st.sampled_from(sorted(graph.nodes))))
    chosen = [one.name for one in choose(images_of(graph, {}), {f"{name}/file" for name in changed})]
    assert set(chosen) == changed.union(*(nx.descendants(graph, name) for name in changed))
    for parent, child in graph.edges:
        if parent in chosen:
            assert chosen.index(parent) < chosen.index(child)


@settings(deadline=None)
@given(graph=dags(), data=st.data())
def test_the_same_images_give_the_same_text_whatever_their_order(
    graph: "nx.DiGraph[str]", data: st.DataObject
) -> None:
    images = images_of(graph, {})
    shuffled = data.draw(st.permutations(images))
    assert write_document(choose(images, None), options()) == write_document(
        choose(shuffled, None), options()
    )


@pytest.mark.parametrize("pipeline", [DEFAULT_BRANCH, MERGE_REQUEST], ids=["branch", "merge-request"])
@pytest.mark.parametrize("arches", [(), ("amd64", "arm64")], ids=["one", "many"])
def test_gitlab_accepts_the_pipeline(
    check_schema: Callable[[Any], None], pipeline: Pipeline, arches: tuple[str, ...]
) -> None:
    images = choose([image("base", arches=arches), image("app", ["base"], arches=arches)], None)
    tags = {"arm64": ["arm"]}
    used = options(
        pipeline, test_file="tests.yml", job_image="registry.example.com/imagechain:1", runner_tags=tags
    )
    document = write(images, used)
    check_schema(document)
    assert document["workflow"] == {"rules": [{"when": "always"}]}
    if arches:
        assert document["build app arm64"]["tags"] == ["arm"]
        assert "tags" not in document["build app amd64"]


def test_a_pipeline_with_nothing_to_build_has_one_job_that_says_so(
    check_schema: Callable[[Any], None],
) -> None:
    document = write([])
    check_schema(document)
    (job,) = jobs(document).values()
    assert "No image is touched" in job["script"][0]


def test_only_parents_that_the_pipeline_builds_are_replaced_by_their_new_image() -> None:
    images = [image("base"), image("tools"), image("app", ["base", "tools"])]
    (command,) = write(choose(images, None))["build app"]["script"]
    assert f"{REGISTRY}/base:latest={REGISTRY}/base:p-12" in command
    assert f"{REGISTRY}/tools:latest={REGISTRY}/tools:p-12" in command
    document = write(choose(images, ["app/file"]))
    assert list(jobs(document)) == ["build app", "tag app", "deploy app"]
    assert "p-12" not in document["build app"]["script"][0]
    assert document["build app"]["needs"] == []


def test_a_schedule_builds_what_is_there_already() -> None:
    for rebuild in (True, False):
        (command,) = write([image("base")], options(rebuild=rebuild))["build base"]["script"]
        assert ("--rebuild" in command.split()) is rebuild


def test_a_test_stands_between_an_image_and_its_tags() -> None:
    document = write([image("base", arches=["amd64"])], options(test_file="tests.yml"))
    assert document["include"] == [{"local": "tests.yml"}]
    assert document["test base"] == {
        "extends": ".test",
        "stage": "test",
        "variables": {"IMAGE_NAME": "base", "IMAGE": f"{REGISTRY}/base:p-12"},
        "needs": ["manifest base"],
    }
    assert document["tag base"]["needs"] == ["manifest base", "test base"]


@pytest.mark.parametrize(("arches", "pushing"), [((), "build base"), (("amd64",), "manifest base")])
def test_the_digest_that_is_tested_goes_on_to_the_jobs_that_promote_it(
    arches: tuple[str, ...], pushing: str
) -> None:
    document = write([image("base", arches=arches)])
    file = document[pushing]["artifacts"]["reports"]["dotenv"]
    assert document[pushing]["script"][0].endswith(f" --dotenv={file}")
    assert pushing in document["tag base"]["needs"]
    assert pushing in document["deploy base"]["needs"]
    handing = [name for name, job in jobs(document).items() if "artifacts" in job]
    assert handing == [pushing]


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        (DEFAULT_BRANCH, {"deploy base": "production/base"}),
        (Pipeline(id="1", kind="branch", ref="feature"), {}),
        (Pipeline(id="1", kind="tag", ref="v1", is_protected=True), {"deploy base": "production/base"}),
        (Pipeline(id="1", kind="tag", ref="v1"), {}),
        (MERGE_REQUEST, {"deploy base": "mr-7/base", "stop base": "mr-7/base"}),
        (msgspec.structs.replace(DEFAULT_BRANCH, is_trial=True), {}),
        (msgspec.structs.replace(MERGE_REQUEST, is_trial=True), {}),
    ],
    ids=["default", "branch", "protected-tag", "tag", "merge-request", "trial", "trial-of-merge-request"],
)
def test_production_is_offered_where_it_may_be_deployed_from_and_nowhere_else(
    pipeline: Pipeline, expected: dict[str, str]
) -> None:
    document = write([image("base")], options(pipeline))
    deployments = {name: job for name, job in jobs(document).items() if job["stage"] == "deploy"}
    assert {name: job["environment"]["name"] for name, job in deployments.items()} == expected
    for job in deployments.values():
        assert job["when"] == "manual"
        assert job["resource_group"] == job["environment"]["name"]
    if pipeline is MERGE_REQUEST:
        assert deployments["deploy base"]["environment"]["on_stop"] == "stop base"
        assert deployments["stop base"]["environment"]["action"] == "stop"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_any_text_arrives_in_the_shell_as_it_is(text: str) -> None:
    """PyYAML reads by the same YAML 1.1 as GitLab; sh splits words as shlex does."""
    one = msgspec.structs.replace(image("base", build_args={"ARG": text}), file=text)
    written = write_document([one], options())
    (command,) = write([one])["build base"]["script"]
    words = shlex.split(command)
    assert f"--build-arg=ARG={text}" in words
    assert f"--file={text}" in words
    assert written.isascii()


@pytest.mark.parametrize("name", ["on", "1e3", "0x1f", "2001-01-01", "null", "1_000"])
def test_names_that_yaml_takes_for_something_else_stay_texts(name: str) -> None:
    written = write_document([image(name)], options(test_file="tests.yml"))
    assert f'"IMAGE_NAME": "{name}"' in written


def test_more_parents_than_gitlab_lets_a_job_need_are_refused_by_name() -> None:
    parents = [f"parent-{number}" for number in range(51)]
    images = choose([*map(image, parents), image("child", parents)], None)
    with pytest.raises(ChildPipelineError, match=r"job of 'child' would need 51 others, and .* 50"):
        write_document(images, options())


def test_more_jobs_than_allowed_are_refused_with_the_setting_that_helps() -> None:
    images = [image(f"image-{number}") for number in range(4)]
    assert len(jobs(write(images, options(jobs_max=12)))) == 12
    with pytest.raises(ChildPipelineError, match=r"12 jobs, and no more than 11 are allowed; set jobs_max"):
        write_document(images, options(jobs_max=11))
