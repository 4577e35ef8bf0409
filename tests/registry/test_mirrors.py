"""`registries.conf`: access is remapped, names are not."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.refs import Platform, parse_reference
from imagechain.registry import (
    AbsentError,
    BlockedError,
    ConfigurationError,
    Registries,
    RegistryClient,
    RemoteImage,
    UnreachableError,
    read_registries,
)
from imagechain.registry.mirrors import Endpoint, Mirror, RegistryTable
from registry.fakes import FakeRegistry, Network, answers, auth_file, drops
from registry.pictures import make_image

ALPINE = parse_reference("alpine")


def read(folder: Path, text: str, **drop_ins: str) -> Registries:
    (folder / "registries.conf").write_text(text)
    (folder / "registries.conf.d").mkdir()
    for name, content in drop_ins.items():
        (folder / "registries.conf.d" / f"{name}.conf").write_text(content)
    return read_registries({"HOME": str(folder / "home")}, folder)


def places(registries: Registries, text: str) -> list[str]:
    return [str(endpoint) for endpoint in registries.endpoints(parse_reference(text))]


def test_without_files_an_image_is_where_its_name_says(tmp_path: Path) -> None:
    registries = read_registries({"HOME": str(tmp_path)}, tmp_path / "missing")
    assert registries.endpoints(ALPINE) == (Endpoint("docker.io", "library/alpine"),)


def test_docker_hub_is_asked_at_the_host_that_serves_it() -> None:
    endpoint = Registries().endpoints(ALPINE)[0]
    assert endpoint.url == "https://registry-1.docker.io/v2/library/alpine"


def test_mirrors_come_first_and_the_registry_last(tmp_path: Path) -> None:
    registries = read(
        tmp_path,
        """
[[registry]]
prefix = "docker.io"
[[registry.mirror]]
location = "one.example.com/hub"
[[registry.mirror]]
location = "two.example.com:5000"
insecure = true
""",
    )
    assert registries.endpoints(ALPINE) == (
        Endpoint("one.example.com", "hub/library/alpine"),
        Endpoint("two.example.com:5000", "library/alpine", insecure=True),
        Endpoint("docker.io", "library/alpine"),
    )
    assert places(registries, "quay.io/a/b") == ["quay.io/a/b"]


def test_the_longest_prefix_decides_and_its_rest_is_kept(tmp_path: Path) -> None:
    registries = read(
        tmp_path,
        """
[[registry]]
prefix = "example.com"
location = "wide.example.net"
[[registry]]
prefix = "example.com/foo"
location = "narrow.example.net/bar"
[[registry]]
prefix = "example.com/foo/app:1"
location = "exact.example.net/app"
""",
    )
    assert places(registries, "example.com/other/app") == ["wide.example.net/other/app"]
    assert places(registries, "example.com/foo/app:2") == ["narrow.example.net/bar/app"]
    assert places(registries, "example.com/foo/app:1") == ["exact.example.net/app"]
    assert places(registries, "example.com/foobar/app") == ["wide.example.net/foobar/app"]
    assert places(registries, "example.com:5000/foo/app") == ["example.com:5000/foo/app"]


def test_a_wildcard_is_of_all_subdomains_and_rewrites_nothing(tmp_path: Path) -> None:
    registries = read(tmp_path, '[[registry]]\nprefix = "*.example.com"\ninsecure = true\n')
    inside = registries.endpoints(parse_reference("a.b.example.com/x"))
    assert inside == (Endpoint("a.b.example.com", "x", insecure=True),)
    assert registries.endpoints(parse_reference("example.com/x")) == (Endpoint("example.com", "x"),)


@pytest.mark.parametrize(
    ("settings", "mirror", "by_tag", "by_digest"),
    [
        ("", "", True, True),
        ("", 'pull-from-mirror = "all"', True, True),
        ("", 'pull-from-mirror = "digest-only"', False, True),
        ("", 'pull-from-mirror = "tag-only"', True, False),
        ("mirror-by-digest-only = true", "", False, True),
    ],
)
def test_a_mirror_may_be_for_tags_or_digests_only(
    tmp_path: Path, settings: str, mirror: str, by_tag: bool, by_digest: bool
) -> None:
    registries = read(
        tmp_path,
        f'[[registry]]\nprefix = "docker.io"\n{settings}\n'
        f'[[registry.mirror]]\nlocation = "m.example.com"\n{mirror}\n',
    )
    assert (len(places(registries, "alpine")) == 2) is by_tag
    assert (len(places(registries, f"alpine@sha256:{'a' * 64}")) == 2) is by_digest


def test_a_blocked_registry_is_never_asked(tmp_path: Path) -> None:
    registries = read(tmp_path, '[[registry]]\nlocation = "evil.example.com"\nblocked = true\n')
    with pytest.raises(BlockedError, match=r"evil\.example\.com"):
        registries.endpoints(parse_reference("evil.example.com/x"))


def test_a_later_file_replaces_the_tables_of_the_same_prefix(tmp_path: Path) -> None:
    registries = read(
        tmp_path,
        '[[registry]]\nprefix = "a.example.com"\nlocation = "first.example.com"\n',
        b='[[registry]]\nprefix = "a.example.com"\nlocation = "third.example.com"\n',
        a='[[registry]]\nprefix = "a.example.com"\nlocation = "second.example.com"\n',
    )
    assert places(registries, "a.example.com/x") == ["third.example.com/x"]


def test_the_file_of_the_user_takes_the_place_of_the_systems(tmp_path: Path) -> None:
    own = tmp_path / "home/.config/containers"
    own.mkdir(parents=True)
    (own / "registries.conf").write_text(
        '[[registry]]\nprefix = "a.example.com"\nlocation = "own.example.com"\n'
    )
    registries = read(tmp_path, '[[registry]]\nprefix = "b.example.com"\nlocation = "system.example.com"\n')
    assert places(registries, "a.example.com/x") == ["own.example.com/x"]
    assert places(registries, "b.example.com/x") == ["b.example.com/x"]


def test_a_named_file_is_the_only_one(tmp_path: Path) -> None:
    named = tmp_path / "named.conf"
    named.write_text('[[registry]]\nprefix = "a.example.com"\nlocation = "named.example.com"\n')
    registries = read_registries({"CONTAINERS_REGISTRIES_CONF": str(named)}, tmp_path)
    assert places(registries, "a.example.com/x") == ["named.example.com/x"]


@pytest.mark.parametrize(
    "text",
    [
        "[[registry]",
        "registry = 5",
        "[[registry]]\nblocked = true\n",
        '[[registry]]\nprefix = "*.a.example.com"\nlocation = "b.example.com"\n',
        '[[registry]]\nprefix = "a"\n[[registry.mirror]]\nlocation = "b"\npull-from-mirror = "never"\n',
        "[registries.search]\nregistries = ['docker.io']\n",
        "x = '" + "x" * 1024 * 1024 + "'",
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"registries\.conf"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "location", ["mirror", "UPPER.example.com/X", "https://mirror.example.com", "index.docker.io"]
)
def test_a_location_that_is_no_full_name_is_named_when_it_is_needed(tmp_path: Path, location: str) -> None:
    registries = read(tmp_path, f'[[registry]]\nprefix = "a.example.com"\nlocation = "{location}"\n')
    with pytest.raises(ConfigurationError, match="location"):
        registries.endpoints(parse_reference("a.example.com/x"))


NAMES = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=3).map("/".join)
HOSTS = st.sampled_from(["r.io", "r.io:5000", "x.r.io"])


@settings(deadline=None)
@given(HOSTS, NAMES, st.lists(st.tuples(HOSTS, NAMES | st.just("")), unique=True, max_size=5))
def test_the_table_is_the_longest_whose_components_begin_the_name(
    host: str, path: str, prefixes: list[tuple[str, str]]
) -> None:
    tables = tuple(
        RegistryTable(prefix="/".join(filter(None, prefix)), location=f"m{number}.example.com/x")
        for number, prefix in enumerate(prefixes)
    )
    found = Registries(tables).endpoints(parse_reference(f"{host}/{path}"))
    # Naive oracle: compare component by component.
    parts = [host, *path.split("/")]
    matching = [
        (len(table.prefix.split("/")), table)
        for table in tables
        if parts[: len(table.prefix.split("/"))] == table.prefix.split("/")
    ]
    if not matching:
        assert found == (Endpoint(host, path),)
    else:
        length, table = max(matching, key=lambda match: match[0])
        domain = table.location.removesuffix("/x")
        assert found == (Endpoint(domain, "/".join(["x", *parts[length:]])),)


# --- asking mirrors -------------------------------------------------------------------------------------

IMAGE = make_image(labels={"at": "both"})
AMD64 = Platform("linux", "amd64")
MIRRORED = Registries((RegistryTable(prefix="docker.io", mirror=(Mirror("mirror.example.com"),)),))


class World:
    """Docker Hub, and a mirror of it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "auth.json"
        self.hub, self.mirror = FakeRegistry(), FakeRegistry()
        for registry in (self.hub, self.mirror):
            registry.push("library/alpine", IMAGE, "latest")

    def read(self) -> RemoteImage:
        async def run() -> RemoteImage:
            network = Network({"registry-1.docker.io": self.hub, "mirror.example.com": self.mirror})
            async with RegistryClient(
                registries=MIRRORED, auth_files=[self.file], transport=network
            ) as client:
                return await client.image(ALPINE, AMD64)

        return asyncio.run(run())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_image_of_a_mirror_is_not_asked_for_elsewhere(world: World) -> None:
    assert world.read().digest == IMAGE.digest
    assert world.hub.requests == []


def test_a_mirror_that_is_down_is_asked_once_and_then_the_registry(world: World) -> None:
    world.mirror.fault(drops)
    assert world.read().digest == IMAGE.digest
    # Once for the tag, once for the manifest, once for the config.
    assert [request.method for request in world.mirror.requests] == ["HEAD", "GET", "GET"]


@pytest.mark.parametrize("status", [401, 403, 404, 418, 429, 500])
def test_a_mirror_that_refuses_is_passed_over(world: World, status: int) -> None:
    world.mirror.fault(answers(status))
    assert world.read().digest == IMAGE.digest


def test_a_mirror_without_the_image_decides_nothing(world: World) -> None:
    world.mirror.tags.clear()
    assert world.read().digest == IMAGE.digest
    world.hub.tags.clear()
    with pytest.raises(AbsentError) as caught:
        world.read()
    assert "mirror.example.com" in "".join(caught.value.__notes__)


def test_where_the_registry_is_down_an_absent_image_at_the_mirror_is_unchecked(world: World) -> None:
    world.mirror.tags.clear()
    world.hub.fault(drops)
    with pytest.raises(UnreachableError):
        world.read()


def test_a_mirror_that_lies_is_passed_over(world: World) -> None:
    world.mirror.fault(answers(200, content=b"{}"), where="/blobs/")
    assert world.read().labels == {"at": "both"}


def test_the_login_of_a_registry_is_not_shown_to_its_mirror(world: World) -> None:
    world.file.write_text(auth_file(docker__io=("alice", "secret")))
    world.hub.users = world.mirror.users = {"alice": "secret"}
    assert world.read().digest == IMAGE.digest
    assert all("authorization" not in request.headers for request in world.mirror.requests)
    assert any("authorization" in request.headers for request in world.hub.requests)
