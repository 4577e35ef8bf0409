"""Building blocks of the tests of the chain: short names, random graphs, and builds that succeed or fail."""

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    Dependency,
    DependencyKind,
    FailBuild,
    GivenUp,
    GiveUp,
    Graph,
    ImageFound,
    Policy,
    Source,
    StartBuild,
    VersionRead,
    decide,
)

DIGEST = "sha256:" + "0" * 64


def image(name: str) -> str:
    return f"registry.test/{name}:latest"


def project(name: str, *images: str) -> Source:
    return Source(id=name, kind="project", images=images or (image(name),), file=f"{name}/Containerfile")


def external(name: str) -> Source:
    return Source(id=image(name), kind="external", images=(image(name),))


def edge(child: str, parent: str, kind: DependencyKind = "from", **fields: object) -> Dependency:
    """A dependency on the `latest` image of a project, or on an external image."""
    values: dict[str, object] = {
        "child": child,
        "parent": parent,
        "kind": kind,
        "file": f"{child}/Containerfile",
        "line": 1,
        "image": None if kind == "declared" else parent if ":" in parent else image(parent),
    }
    return Dependency(**(values | fields))  # type: ignore[arg-type]


def chain_of(arrows: str, policy: Policy | None = None, **expected_seconds: float) -> Chain:
    """Make a chain of projects from arrows from parents to children: `base>a base>b a>c b>c`."""
    pairs = [tuple(arrow.split(">")) for arrow in arrows.split()]
    names = sorted({name for pair in pairs for name in pair})
    graph = Graph([project(n) for n in names], [edge(pair[1], pair[0]) for pair in pairs if len(pair) > 1])
    return Chain(graph, policy if policy is not None else immediate(), expected_seconds)


def immediate(**fields: object) -> Policy:
    """A policy that holds nothing back, but for the fields given."""
    values: dict[str, object] = {
        "quiet_seconds": 0.0,
        "retry_seconds": (0.0, 60.0),
        "builds_max": 1_000,
        "starts_per_minute_max": None,
    }
    return Policy(**(values | fields))  # type: ignore[arg-type]


def settle(chain: Chain, at: float = 0.0) -> Chain:
    """Let every source be seen: externals at `v0`, projects with a record of the present versions."""
    for name in chain.graph.input_names:
        chain.apply(VersionRead(input=name, version="v0", at=at))
    for source in chain.graph.sources:
        if source.kind == "project":
            inputs = dict.fromkeys(chain.graph.inputs_of(source.id), "v0")
            chain.apply(ImageFound(project=source.id, at=at, told_at=at, inputs=inputs))
    return chain


def move(chain: Chain, name: str, version: str, at: float) -> None:
    chain.apply(VersionRead(input=name, version=version, at=at))


def started(chain: Chain, now: float) -> list[str]:
    return [action.project for action in decide(chain, now).actions if isinstance(action, StartBuild)]


def start(chain: Chain, name: str, build: str, at: float) -> None:
    """Start a build from the present versions, as the shell does after `StartBuild`."""
    chain.apply(BuildStarted(project=name, build=build, at=at, told_at=at))


def finish(chain: Chain, name: str, build: str, at: float, version: str) -> None:
    """End a build with success, and a new version of the project's image."""
    output = chain.graph.source(name).images[0]
    chain.apply(
        BuildFinished(
            project=name, build=build, at=at, told_at=at, outcome="success", outputs={output: version}
        )
    )


def fail(chain: Chain, name: str, build: str, at: float, message: str = "exit status 1") -> None:
    chain.apply(
        BuildFinished(project=name, build=build, at=at, told_at=at, outcome="failed", message=message)
    )


def run_all(chain: Chain, now: float, cut_off: Iterable[str] = ()) -> list[str]:
    """Build whatever is decided, one second each, until nothing is left; tell who was started, in order.

    Builds give a new version each, but for those of `cut_off`, whose content stays the same.
    """
    order: list[str] = []
    same = set(cut_off)
    while starts := started(chain, now):
        for name in starts:
            start(chain, name, f"{name}#{len(order)}", now)
            order.append(name)
        for number, name in enumerate(order[-len(starts) :], start=len(order) - len(starts)):
            output = chain.graph.source(name).images[0]
            key = chain.graph.input_number[output]
            version = chain.facts.versions[key] if name in same else None
            finish(chain, name, f"{name}#{number}", now + 1, version or f"{name}#{number}")
        now += 1
    return order


def observations_of(actions: Sequence[object], at: float) -> list[BuildFinished | GivenUp]:
    """Give what a shell reports after doing the actions that are no starts."""
    found: list[BuildFinished | GivenUp] = []
    for action in actions:
        if isinstance(action, FailBuild):
            found.append(BuildFinished(project=action.project, build=action.build, at=at, outcome="failed"))
        elif isinstance(action, GiveUp):
            found.append(GivenUp(project=action.project, at=at))
    return found


@st.composite
def graphs(
    draw: st.DrawFn, *, acyclic: bool = False, sources_max: int = 7
) -> tuple[list[Source], list[Dependency]]:
    """Random graphs with externals, several images, diamonds, cycles, and edges that do not count."""
    count = draw(st.integers(1, sources_max))
    sources = []
    for number in range(count):
        name = f"p{number}"
        if draw(st.integers(0, 3)) == 0:
            sources.append(external(name))
        else:
            images = draw(st.sampled_from([(image(name),), (image(name), f"registry.test/{name}:slim"), ()]))
            sources.append(Source(id=name, kind="project", images=images))
    dependencies = []
    for child, parent in draw(
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=14)
    ):
        if sources[child].kind == "external" or (acyclic and parent >= child):
            continue
        kind: DependencyKind = draw(st.sampled_from(["from", "from", "copy-from", "declared", "ci-image"]))
        images = sources[parent].images
        if not images or kind == "declared":
            reference, kind = None, "declared"
        else:
            reference = draw(st.sampled_from(images)) + draw(st.sampled_from(["", "", "", f"@{DIGEST}"]))
        dependencies.append(
            edge(
                sources[child].id,
                sources[parent].id,
                kind,
                image=reference,
                needed=draw(st.sampled_from([True, True, True, False])),
            )
        )
    return sources, dependencies
