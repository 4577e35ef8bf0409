"""Who is built from whom."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.trees import Chain, edges, ids, only_message, problems
from imagechain.chain.graph import Graph

DIGEST = "sha256:" + "0" * 64


def test_projects_depend_on_projects_and_on_external_images(chain: Chain) -> None:
    chain.write(
        {
            "base/Containerfile": "FROM docker.io/library/debian:12\n",
            "ruby/Containerfile": "FROM localhost/base AS x\nFROM x\n",
            "app/Dockerfile": (
                "# syntax=docker/dockerfile:1\nFROM localhost/ruby:latest\n"
                "COPY --from=quay.io/tools:2 /a /\nRUN --mount=type=bind,from=localhost/base,target=/b true\n"
            ),
        }
    )
    found = chain.discover()
    assert found.problems == ()
    assert edges(found) == [
        ("app", None, "syntax", 1),
        ("app", "ruby", "from", 2),
        ("app", "quay.io/tools:2", "copy-from", 3),
        ("app", "base", "mount-from", 4),
        ("base", "docker.io/library/debian:12", "from", 1),
        ("ruby", "base", "from", 1),
    ]
    assert [(source.id, source.kind, source.images) for source in found.sources] == [
        ("app", "project", ("localhost/app:latest",)),
        ("base", "project", ("localhost/base:latest",)),
        ("docker.io/library/debian:12", "external", ("docker.io/library/debian:12",)),
        ("quay.io/tools:2", "external", ("quay.io/tools:2",)),
        ("ruby", "project", ("localhost/ruby:latest",)),
    ]
    assert {one.image for one in found.dependencies if one.kind == "syntax"} == {
        "docker.io/docker/dockerfile:1"
    }
    Graph(found.sources, found.dependencies)  # which refuses edges to what is no source


def test_what_the_target_does_not_reach_is_not_needed(chain: Chain) -> None:
    chain.write({"a/Dockerfile": "FROM quay.io/unused:1 AS test\nFROM quay.io/used:1 AS build\n"})
    assert [(one.image, one.needed) for one in chain.discover().dependencies] == [
        ("quay.io/unused:1", False),
        ("quay.io/used:1", True),
    ]
    assert [one.needed for one in chain.discover(target="test").dependencies] == [True, False]


def test_one_edge_on_several_lines_is_several_dependencies(chain: Chain) -> None:
    chain.write({"b/Dockerfile": "FROM scratch\n"})
    text = "FROM localhost/b AS x\nFROM scratch\nCOPY --from=x a b\nCOPY --from=localhost/b a b\n"
    chain.write({"a/Dockerfile": text})
    assert edges(chain.discover()) == [("a", "b", "from", 1), ("a", "b", "copy-from", 4)]


def test_a_digest_is_kept_and_its_source_is_the_project_of_the_tag(chain: Chain) -> None:
    chain.write(
        {"b/Dockerfile": "FROM scratch\n", "c/Dockerfile": "FROM scratch\n", "d/Dockerfile": "FROM scratch\n"}
    )
    chain.write(
        {
            "a/Dockerfile": "".join(
                f"FROM {name}@{DIGEST}\n"
                for name in (
                    "localhost/b:latest",
                    "localhost/b",
                    "quay.io/c",
                    "quay.io/d",
                    "quay.io/b:1",
                    "quay.io/e",
                )
            )
        }
    )
    templates = {
        "c": ["quay.io/c:1", "quay.io/c:2"],
        "d": ["quay.io/d:1"],
        "b": ["localhost/b", "quay.io/d:2"],
    }
    found = chain.discover({"images": templates})
    assert [(one.parent, one.image, one.pinned) for one in found.dependencies] == [
        ("b", f"localhost/b:latest@{DIGEST}", True),
        ("b", f"localhost/b@{DIGEST}", True),
        ("c", f"quay.io/c@{DIGEST}", True),
        (f"quay.io/d@{DIGEST}", f"quay.io/d@{DIGEST}", True),
        ("quay.io/b:1", f"quay.io/b:1@{DIGEST}", True),
        (f"quay.io/e@{DIGEST}", f"quay.io/e@{DIGEST}", True),
    ]


def test_a_project_from_its_own_image_is_a_cycle_of_one(chain: Chain) -> None:
    chain.write({"a/Dockerfile": "FROM localhost/a:latest\n", "b/Dockerfile": "FROM localhost/a\n"})
    found = chain.discover()
    assert edges(found) == [("a", "a", "from", 1), ("b", "a", "from", 1)]
    assert [cycle.members for cycle in Graph(found.sources, found.dependencies).cycles] == [("a",)]


def test_onbuild_makes_dependencies_of_the_children(chain: Chain) -> None:
    chain.write(
        {
            "builder/Dockerfile": (
                "FROM scratch\nONBUILD COPY --from=localhost/tool /t /t\nONBUILD COPY --from=assets /a /a\n"
                "ONBUILD RUN --mount=type=bind,from=quay.io/x:1,target=/x true\n"
            ),
            "tool/Dockerfile": "FROM scratch\n",
            "child/Dockerfile": "FROM quay.io/assets:1 AS Assets\nFROM localhost/builder\n",
            "grandchild/Dockerfile": "FROM localhost/child\n",
            "copier/Dockerfile": "FROM scratch\nCOPY --from=localhost/builder a b\n",
            "unused/Dockerfile": "FROM localhost/builder AS x\nFROM scratch\n",
        }
    )
    found = chain.discover()
    assert [
        (one.child, one.parent, one.file, one.line, one.needed)
        for one in found.dependencies
        if one.kind == "onbuild"
    ] == [
        ("builder", "tool", "builder/Dockerfile", 2, False),
        ("builder", "docker.io/library/assets:latest", "builder/Dockerfile", 3, False),
        ("builder", "quay.io/x:1", "builder/Dockerfile", 4, False),
        ("child", "tool", "builder/Dockerfile", 2, True),
        ("child", "quay.io/x:1", "builder/Dockerfile", 4, True),
        ("unused", "tool", "builder/Dockerfile", 2, False),
        ("unused", "docker.io/library/assets:latest", "builder/Dockerfile", 3, False),
        ("unused", "quay.io/x:1", "builder/Dockerfile", 4, False),
    ]


def test_a_short_name_beside_a_folder_of_that_name_gets_a_hint(chain: Chain) -> None:
    chain.write({"images/base/Dockerfile": "FROM scratch\n", "a/Dockerfile": "\nFROM base\n"})
    found = chain.discover()
    assert edges(found) == [("a", "docker.io/library/base:latest", "from", 2)]
    assert problems(found) == [("a/Dockerfile", 2)]
    assert "docker.io/library/base is meant here" in only_message(found)
    assert "write localhost/images/base:latest" in only_message(found)


def test_a_short_name_of_another_tag_gets_no_hint(chain: Chain) -> None:
    chain.write({"python/Dockerfile": "FROM scratch\n", "a/Dockerfile": "FROM python:3.12\n"})
    assert chain.discover().problems == ()
    chain.write({"b/Dockerfile": "FROM docker.io/library/python\n"})
    assert chain.discover().problems == ()


def test_buildah_takes_a_local_image_for_a_short_name(chain: Chain) -> None:
    chain.write({"base/Dockerfile": "FROM scratch\n", "a/Dockerfile": "FROM base\n"})
    assert chain.discover().dependencies[0].parent == "docker.io/library/base:latest"
    found = chain.discover(dialect="buildah")
    assert [(one.parent, one.image) for one in found.dependencies] == [("base", "localhost/base:latest")]
    assert "write localhost/base:latest" in only_message(found)


def test_a_project_that_publishes_a_short_name_is_found_by_it(chain: Chain) -> None:
    chain.write({"base/Dockerfile": "FROM scratch\n", "a/Dockerfile": "FROM base\n"})
    found = chain.discover({"images": {"base": ["base:latest", "localhost/base"]}})
    assert edges(found) == [("a", "base", "from", 1)]
    assert found.problems == ()


def test_build_arguments_choose_the_parent(chain: Chain) -> None:
    chain.write({"x/Dockerfile": "FROM scratch\n", "y/Dockerfile": "FROM scratch\n"})
    chain.write({"a/Dockerfile": "ARG BASE=localhost/x\nFROM $BASE\n"})
    assert chain.discover().dependencies[0].parent == "x"
    assert chain.discover({"build_args": {"a": {"BASE": "localhost/y"}}}).dependencies[0].parent == "y"
    assert chain.discover(
        {"build_args": {"a": {"BASE": "no"}}}, build_args={"BASE": "localhost/y"}
    ).dependencies[0].parent == ("y")


def test_what_a_builder_needs_is_told(chain: Chain) -> None:
    chain.write({"a/Dockerfile.web": "FROM scratch\nCOPY src/ /\nADD b.tar /\n"})
    (project,) = chain.discover().projects.values()
    assert (project.file, project.context, project.preprocessed) == ("a/Dockerfile.web", "a", False)
    assert project.text == (chain.top / "a/Dockerfile.web").read_bytes()
    assert project.context_sources is not None
    assert {source.strip("/") for source in project.context_sources} == {"src", "b.tar"}
    assert project.refused is None


_FOLDERS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c1"]), min_size=1, max_size=3).map("/".join),
    min_size=1,
    max_size=6,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(folders=_FOLDERS, data=st.data())
def test_edges_of_any_tree_agree_with_a_naive_reading(folders: list[str], data: st.DataObject) -> None:
    """The oracle knows the edges because it wrote them: one line for each, in order."""
    images = [f"localhost/{folder}" for folder in folders] + ["quay.io/x:1", "alpine"]
    expected: list[tuple[str, str, int]] = []
    with tempfile.TemporaryDirectory() as top:
        chain = Chain(Path(top))
        for folder in sorted(folders):
            chosen = data.draw(st.lists(st.sampled_from(images), min_size=1, max_size=3))
            chain.write({f"{folder}/Dockerfile": "".join(f"FROM {image}\n" for image in chosen)})
            for line, image in enumerate(chosen, start=1):
                local = image.removeprefix("localhost/")
                parent = (
                    local
                    if local != image
                    else {"alpine": "docker.io/library/alpine:latest"}.get(image, image)
                )
                expected.append((folder, parent, line))
        found = chain.discover()
    assert ids(found) == sorted(folders)
    assert [(one.child, one.parent, one.line) for one in found.dependencies] == expected
    assert found.problems == ()
    assert {source.id for source in found.sources} == {*folders, *(parent for _, parent, _ in expected)}


def test_a_chain_as_people_have_it_is_connected(chain: Chain) -> None:
    """The shape of the Jupyter stacks: one name for the base, put together from arguments."""
    head = "ARG REGISTRY=quay.io\nARG OWNER=jupyter\nARG BASE_IMAGE=$REGISTRY/$OWNER/{}\nFROM $BASE_IMAGE\n"
    stacks = {"base": "foundation", "minimal": "base", "scipy": "minimal", "r": "minimal"}
    for stack, base in stacks.items():
        chain.write({f"images/{stack}/Dockerfile": head.format(base)})
    chain.write({"images/foundation/Dockerfile": "ARG ROOT_IMAGE=ubuntu:24.04\nFROM $ROOT_IMAGE\n"})
    for owner in ("jupyter", "example"):
        found = chain.discover(
            {
                "images": {"images/*": f"quay.io/{owner}/{{name}}:latest"},
                "build_args": {"images/*": {"OWNER": owner}},
            }
        )
        assert found.problems == ()
        assert edges(found) == [
            (
                f"images/{stack}",
                f"images/{stacks[stack]}" if stack in stacks else "docker.io/library/ubuntu:24.04",
                *rest,
            )
            for stack, rest in sorted(
                {**dict.fromkeys(stacks, ("from", 4)), "foundation": ("from", 2)}.items()
            )
        ]


def test_an_image_called_like_a_project_is_another_source(chain: Chain) -> None:
    chain.write({"quay.io/x/Dockerfile.1": "FROM scratch\n", "a/Dockerfile": "FROM quay.io/x:1\n"})
    found = chain.discover()
    assert edges(found) == [("a", "external:quay.io/x:1", "from", 1)]
    assert found.sources[1].images == ("quay.io/x:1",)
    Graph(found.sources, found.dependencies)
