"""Whatever changes in a group: a rescan finds what a scan from nothing finds, and asks for little."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.test_group import scan
from gitlab_client.fake import REGISTRY, FakeGitLab

NAMES = [f"images/p{number}" for number in range(6)]
PATHS = [
    "Dockerfile",
    "web/Dockerfile",
    "Dockerfile.dev",
    ".gitlab-ci.yml",
    ".gitlab-deps",
    "own.yml",
    "builds/x.in",
    "inc",
]

names = st.sampled_from(NAMES)
texts = st.one_of(
    st.builds("FROM {}/{}\n".format, st.just(REGISTRY), names),
    st.builds("FROM {}/{}:next\nCOPY --from=quay.io/x:1 /a /a\n".format, st.just(REGISTRY), names),
    st.builds("{}@next\n".format, names),
    st.builds("include: own.yml\njob: {{image: {}/{}}}\n".format, st.just(REGISTRY), names),
    st.sampled_from(['#include "inc"\n', "FROM debian\n", "FROM\n", "a: [", "\0", ""]),
)
branches = st.sampled_from(["main", "next"])
files = st.dictionaries(st.sampled_from(PATHS), texts, max_size=5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("files"), names, branches, files),
        st.tuples(st.just("file"), names, branches, st.sampled_from(PATHS), texts),
        st.tuples(st.just("lint"), names, texts, names),
        st.tuples(st.just("archive"), names),
        st.tuples(st.just("delete"), names),
        st.tuples(st.just("break"), names),
    ),
    min_size=1,
    max_size=8,
)


def change(fake: FakeGitLab, step: tuple[Any, ...]) -> None:
    kind, name, *rest = step
    if kind == "files":
        fake.add(name, rest[1], branch=rest[0])
    elif kind == "file" and rest[0] in fake.projects.get(name, {}):
        fake.projects[name][rest[0]][rest[1]] = rest[2]
    elif kind == "lint":
        # GitLab merges otherwise only if one of the files has changed.
        fake.lints[name] = {
            "valid": True,
            "merged_yaml": rest[0],
            "includes": [
                {"type": "file", "location": "own.yml", "extra": {"project": rest[1], "ref": "HEAD"}}
            ],
        }
        fake.add(name, {**fake.projects.get(name, {}).get("main", {}), "own.yml": str(rest)})
    elif kind == "archive":
        fake.archived ^= {name}
    elif kind == "delete":
        fake.projects.pop(name, None)
        fake.ids.pop(name, None)
    elif kind == "break":
        fake.poisoned ^= {name}


@settings(max_examples=60, deadline=None)
@given(steps, steps)
def test_a_rescan_finds_what_a_scan_from_nothing_finds(before: list[Any], after: list[Any]) -> None:
    fake = FakeGitLab()
    fake.add("images/there", {"Dockerfile": "FROM debian\n"})
    for step in before:
        change(fake, step)
    first = scan(fake, groups=("images",), branches=("next",))
    fake.requests.clear()
    assert scan(fake, first.cache, groups=("images",), branches=("next",)).discovery == first.discovery
    if not fake.poisoned:
        assert len(fake.requests) == 2
    for step in after:
        change(fake, step)
    again = scan(fake, first.cache, groups=("images",), branches=("next",))
    assert again.discovery == scan(fake, groups=("images",), branches=("next",)).discovery
