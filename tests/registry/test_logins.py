"""Logins: tokens, passwords, refresh, rotation; and that no secret goes where it must not."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest

from imagechain.config import RegistrySettings
from imagechain.refs import Platform, Reference, parse_reference
from imagechain.registry import (
    Credential,
    DeniedError,
    RateLimitedError,
    RegistryClient,
    RegistryError,
    UntrustedReplyError,
)
from registry.fakes import FakeClock, FakeHost, FakeRegistry, FakeTokenService, Network, answers, auth_file
from registry.pictures import make_image, sha256
from registry.servers import PASSWORD, USER, Server, TokenService, basic

T = TypeVar("T")
HOST, TOKENS = "registry.example.com", "auth.example.com"
BASE = parse_reference(f"{HOST}/group/base")
RUBY = parse_reference(f"{HOST}/group/ruby")
AMD64 = Platform("linux", "amd64")
IMAGE = make_image(labels={"a": "b"})
SECRET = "a very secret word"


class World:
    """A registry with two images, a token service, and time."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "auth.json"
        self.clock = FakeClock()
        self.registry = FakeRegistry()
        self.tokens = FakeTokenService(self.clock, users={"alice": SECRET})
        for repository in ("group/base", "group/ruby"):
            self.registry.push(repository, IMAGE, "latest")
        self.hosts: dict[str, FakeHost] = {HOST: self.registry, TOKENS: self.tokens}
        self.fallbacks: dict[str, Credential] = {}

    def wants_tokens(self) -> None:
        self.registry.token_service = self.tokens

    def wants_passwords(self) -> None:
        self.registry.users = {"alice": SECRET}

    def log_in(self, password: str = SECRET) -> None:
        self.file.write_text(auth_file(registry__example__com=("alice", password)))

    def ask(self, question: Callable[[RegistryClient], Awaitable[T]]) -> T:
        async def run() -> T:
            async with RegistryClient(
                auth_files=[self.file],
                fallbacks=self.fallbacks,
                transport=Network(self.hosts),
                clock=self.clock,
                sleep=self.clock.sleep,
            ) as client:
                return await question(client)

        return asyncio.run(run())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- tokens ---------------------------------------------------------------------------------------------


def test_a_token_is_fetched_once_for_each_repository(world: World) -> None:
    world.wants_tokens()
    world.log_in()

    async def ask(client: RegistryClient) -> None:
        for reference in (BASE, RUBY, BASE, RUBY):
            await client.head(reference)

    world.ask(ask)
    assert [request.url.params["scope"] for request in world.tokens.requests] == [
        "repository:group/base:pull",
        "repository:group/ruby:pull",
    ]
    # Only the very first request meets the challenge; afterwards the way is known.
    assert len(world.registry.requests) == 5


def test_requests_at_the_same_time_share_one_token(world: World) -> None:
    world.wants_tokens()
    world.log_in()

    async def ask(client: RegistryClient) -> None:
        await asyncio.gather(*(client.head(BASE) for _ in range(20)))

    world.ask(ask)
    assert len(world.tokens.requests) == 1


def test_a_token_is_renewed_before_it_expires(world: World) -> None:
    world.wants_tokens()
    world.log_in()

    async def ask(client: RegistryClient) -> None:
        await client.head(BASE)
        world.clock.now += world.tokens.token_seconds - 5
        world.registry.requests.clear()
        await client.head(BASE)

    world.ask(ask)
    assert len(world.tokens.requests) == 2
    assert len(world.registry.requests) == 1


def test_a_token_that_is_refused_before_its_time_is_fetched_again_once(world: World) -> None:
    world.wants_tokens()
    world.log_in()

    async def ask(client: RegistryClient) -> None:
        await client.head(BASE)
        world.tokens.given.clear()
        assert (await client.head(BASE)).digest == IMAGE.digest

    world.ask(ask)
    assert len(world.tokens.requests) == 2


def test_a_registry_that_refuses_every_token_denies(world: World) -> None:
    world.wants_tokens()
    world.log_in()

    async def ask(client: RegistryClient) -> None:
        await client.head(BASE)
        world.tokens.token_seconds = -1
        world.tokens.given.clear()
        world.registry.requests.clear()
        with pytest.raises(DeniedError, match="podman login"):
            await client.head(BASE)

    world.ask(ask)
    assert len(world.registry.requests) == 2


def test_a_token_without_a_life_time_is_used_for_less_than_a_minute(world: World) -> None:
    world.wants_tokens()
    body = json.dumps({"token": "token-x"}).encode()
    world.tokens.given["token-x"] = ("repository:group/base:pull", world.clock.now + 60)
    world.tokens.fault(answers(200, content=body))

    async def ask(client: RegistryClient) -> None:
        await client.head(BASE)
        world.clock.now += 49
        await client.head(BASE)
        assert len(world.tokens.requests) == 1
        world.clock.now += 2
        await client.head(BASE)
        assert len(world.tokens.requests) == 2

    world.ask(ask)


def test_public_images_are_read_with_a_token_for_anybody(world: World) -> None:
    world.wants_tokens()
    world.tokens.users = None
    assert world.ask(lambda client: client.head(BASE)).digest == IMAGE.digest
    assert "authorization" not in world.tokens.requests[0].headers


def test_an_identity_token_is_exchanged(world: World) -> None:
    world.wants_tokens()
    world.tokens.identity_tokens.add("refresh-me")
    login = base64.b64encode(b"alice:").decode()
    entry = {"auth": login, "identitytoken": "refresh-me"}
    world.file.write_text(json.dumps({"auths": {HOST: entry}}))
    assert world.ask(lambda client: client.head(BASE)).digest == IMAGE.digest
    assert [request.method for request in world.tokens.requests] == ["POST"]


def test_a_scope_of_the_registrys_own_is_asked_for_and_remembered(world: World) -> None:
    def challenge(request: httpx2.Request) -> httpx2.Response:
        if request.headers.get("authorization") == "Bearer token-0":
            return world.registry.answer(request)
        bearer = (
            f'Bearer realm="https://{TOKENS}/token",service="registry",scope="repository:proxy/base:pull"'
        )
        return httpx2.Response(401, headers={"www-authenticate": bearer})

    world.registry.fault(challenge)
    world.log_in()

    async def ask(client: RegistryClient) -> None:
        await client.head(BASE)
        await client.head(BASE)

    world.ask(ask)
    assert [request.url.params["scope"] for request in world.tokens.requests] == [
        "repository:proxy/base:pull"
    ]
    assert len(world.registry.requests) == 3


def test_the_gitlab_token_is_used_where_no_file_has_a_login(world: World) -> None:
    world.wants_tokens()
    world.fallbacks = {HOST: Credential("alice", SECRET)}
    assert world.ask(lambda client: client.head(BASE)).digest == IMAGE.digest
    world.file.write_text(auth_file(registry__example__com=("bob", "wrong")))
    with pytest.raises(DeniedError, match="bob"):
        world.ask(lambda client: client.head(BASE))


# --- passwords ------------------------------------------------------------------------------------------


def test_a_password_is_shown_to_a_registry_that_asks_for_it(world: World) -> None:
    world.wants_passwords()
    world.log_in()

    async def ask(client: RegistryClient) -> None:
        for _ in range(3):
            await client.head(BASE)

    world.ask(ask)
    assert len(world.registry.requests) == 4


def test_without_a_login_it_is_said_how_to_log_in(world: World) -> None:
    world.wants_passwords()
    with pytest.raises(DeniedError, match=f"podman login {HOST}"):
        world.ask(lambda client: client.head(BASE))


@pytest.mark.parametrize("wants", [World.wants_tokens, World.wants_passwords])
def test_a_login_that_was_mended_is_used_by_the_next_request(
    world: World, wants: Callable[[World], None]
) -> None:
    wants(world)
    world.log_in("mistyped")

    async def ask(client: RegistryClient) -> None:
        with pytest.raises(DeniedError):
            await client.head(BASE)
        world.log_in()
        assert (await client.head(BASE)).digest == IMAGE.digest

    world.ask(ask)


def test_a_login_of_an_unknown_kind_is_named(world: World) -> None:
    world.registry.fault(answers(401, {"www-authenticate": "Negotiate"}))
    with pytest.raises(DeniedError, match="not known"):
        world.ask(lambda client: client.head(BASE))


# --- where no secret goes -------------------------------------------------------------------------------


@pytest.mark.parametrize("wants", [World.wants_tokens, World.wants_passwords])
def test_no_login_follows_a_redirect_to_another_host(world: World, wants: Callable[[World], None]) -> None:
    wants(world)
    world.log_in()
    storage = FakeHost()
    storage.fault(answers(200, content=IMAGE.blobs[0]))
    world.hosts["storage.example.com"] = storage
    world.registry.fault(
        lambda request: (
            httpx2.Response(307, headers={"location": "https://storage.example.com/blob?signature=x"})
            if "authorization" in request.headers
            else world.registry.answer(request)
        ),
        where=f"/blobs/{sha256(IMAGE.blobs[0])}",
    )
    assert world.ask(lambda client: client.image(BASE, AMD64)).labels == {"a": "b"}
    assert len(storage.requests) == 1
    assert "authorization" not in storage.requests[0].headers


def test_a_redirect_to_another_port_is_another_host(world: World) -> None:
    world.wants_passwords()
    world.log_in()
    other = FakeHost()
    other.fault(answers(200, content=IMAGE.blobs[0]))
    world.hosts[f"{HOST}:8443"] = other
    world.registry.fault(
        lambda request: (
            httpx2.Response(307, headers={"location": f"https://{HOST}:8443/blob"})
            if "authorization" in request.headers
            else world.registry.answer(request)
        ),
        where="/blobs/",
    )
    world.ask(lambda client: client.image(BASE, AMD64))
    assert "authorization" not in other.requests[0].headers


def test_no_login_goes_to_a_token_service_without_tls(world: World) -> None:
    world.wants_tokens()
    world.log_in()
    world.registry.realm = f"http://{TOKENS}/token"
    with pytest.raises(UntrustedReplyError, match="without TLS"):
        world.ask(lambda client: client.head(BASE))
    assert world.tokens.requests == []


def test_a_token_service_at_no_address_is_an_answer_that_cannot_be_used(world: World) -> None:
    world.wants_tokens()
    world.log_in()
    world.registry.realm = f"https://{TOKENS}:port/token"
    with pytest.raises(UntrustedReplyError, match="no address"):
        world.ask(lambda client: client.head(BASE))


def test_a_token_service_that_redirects_elsewhere_gets_no_login_carried_along(world: World) -> None:
    world.wants_tokens()
    world.log_in()
    evil = FakeHost()
    evil.fault(answers(401))
    world.hosts["evil.example.com"] = evil
    world.tokens.fault(answers(302, {"location": "https://evil.example.com/token"}))
    with pytest.raises(DeniedError):
        world.ask(lambda client: client.head(BASE))
    assert evil.requests
    assert all("authorization" not in request.headers for request in evil.requests)


@pytest.mark.parametrize(
    "reply",
    [
        answers(200, content=b"{}"),
        answers(200, content=b'{"token": 5, "secret": "a very secret word"}'),
        answers(200, content=b'{"token": "a very secret word\\n"}'),
        answers(200, content=b"a very secret word"),
        answers(200, content=b" " * (64 * 1024 + 1)),
        answers(401, content=b"a very secret word"),
        answers(500),
        answers(429, {"retry-after": "3600"}),
    ],
)
def test_no_secret_is_in_any_message(
    world: World, reply: Callable[[httpx2.Request], httpx2.Response]
) -> None:
    world.wants_tokens()
    world.log_in()
    world.tokens.fault(reply)
    with pytest.raises(RegistryError) as caught:
        world.ask(lambda client: client.head(BASE))
    secrets = (SECRET, base64.b64encode(f"alice:{SECRET}".encode()).decode())
    error: BaseException | None = caught.value
    while error is not None:
        told = f"{error} {error!r} {getattr(error, '__notes__', '')}"
        assert not any(secret in told for secret in secrets)
        error = error.__cause__


def test_a_credential_does_not_show_its_secrets() -> None:
    shown = f"{Credential('alice', SECRET, 'identity ' + SECRET)!r}"
    assert "alice" in shown
    assert SECRET not in shown


def test_no_cookie_is_kept(world: World) -> None:
    world.registry.headers["set-cookie"] = "session=1; Path=/"

    async def ask(client: RegistryClient) -> None:
        await client.head(BASE)
        await client.head(BASE)

    world.ask(ask)
    assert all("cookie" not in request.headers for request in world.registry.requests)


# --- the real docker-registry ---------------------------------------------------------------------------


def ask_real(
    server: Server, file: Path, question: Callable[[RegistryClient, Reference], Awaitable[T]], repository: str
) -> T:
    async def run() -> T:
        settings = {server.address: RegistrySettings(insecure=True, auth_file=str(file))}
        async with RegistryClient(settings=settings) as client:
            return await question(client, parse_reference(f"{server.address}/{repository}"))

    return asyncio.run(run())


def write_login(file: Path, server: Server, password: str) -> None:
    login = base64.b64encode(f"{USER}:{password}".encode()).decode()
    file.write_text(json.dumps({"auths": {server.address: {"auth": login}}}))


def test_docker_registry_with_passwords_is_read(password_registry: Server, tmp_path: Path) -> None:
    password_registry.push("group/base", IMAGE, "latest", authorization=basic(USER, PASSWORD))
    file = tmp_path / "auth.json"
    write_login(file, password_registry, PASSWORD)

    def read() -> str:
        return ask_real(
            password_registry, file, lambda client, reference: client.image(reference, AMD64), "group/base"
        ).digest

    assert read() == IMAGE.digest
    write_login(file, password_registry, "wrong")
    with pytest.raises(DeniedError):
        read()


def test_docker_registry_with_a_token_service_is_read(
    token_registry: tuple[Server, TokenService], tmp_path: Path
) -> None:
    server, service = token_registry
    for repository in ("group/base", "group/ruby"):
        token = service.token([f"repository:{repository}:pull,push"], "registry")
        server.push(repository, IMAGE, "latest", authorization=f"Bearer {token}")
    file = tmp_path / "auth.json"
    write_login(file, server, PASSWORD)

    async def read_both(client: RegistryClient, base: Reference) -> set[str]:
        ruby = parse_reference(f"{server.address}/group/ruby")
        return {(await client.image(reference, AMD64)).digest for reference in (base, ruby, base, ruby)}

    service.asked.clear()
    assert ask_real(server, file, read_both, "group/base") == {IMAGE.digest}
    assert len(service.asked) == 2
    write_login(file, server, "wrong")
    with pytest.raises(DeniedError, match=USER):
        ask_real(server, file, read_both, "group/base")
    # Nobody is logged in: a token for anybody.
    file.write_text("{}")
    assert ask_real(server, file, read_both, "group/base") == {IMAGE.digest}


def test_each_account_has_a_budget_of_its_own(world: World) -> None:
    world.registry.users = {"anna": "a", "bert": "b"}
    logins = json.loads(auth_file(anna=("anna", "a"), bert=("bert", "b")))["auths"]
    world.file.write_text(json.dumps({"auths": {f"{HOST}/{name}": login for name, login in logins.items()}}))
    images = {name: parse_reference(f"{HOST}/{name}/image") for name in ("anna", "bert")}
    for reference in images.values():
        world.registry.push(reference.path, make_image(), "latest")
    world.registry.fault(answers(429, {"retry-after": "600"}), where="/v2/anna/", times=1)

    async def ask(client: RegistryClient) -> None:
        for _ in range(2):
            with pytest.raises(RateLimitedError):
                await client.head(images["anna"])
        assert (await client.head(images["bert"])).digest

    world.ask(ask)
    assert len(world.registry.asked(where="/v2/anna/")) == 1
