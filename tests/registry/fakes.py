"""A stateful registry and token service in memory, with faults on demand; and time that only tests move."""

import asyncio
import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from urllib.parse import parse_qs

import httpx2
import msgspec

from registry.pictures import OCI_INDEX, Stored, sha256


class FakeClock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Fault(msgspec.Struct):
    """What is done, some times, instead of answering a request."""

    reply: Callable[[httpx2.Request], httpx2.Response]
    method: str = ""
    #: A part of the URL.
    where: str = ""
    times: int = 1_000_000

    def strikes(self, request: httpx2.Request) -> bool:
        if self.times and self.method in {"", request.method} and self.where in str(request.url):
            self.times -= 1
            return True
        return False


class FakeHost:
    """Something that answers at one host."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.faults: list[Fault] = []

    def asked(self, method: str = "", where: str = "") -> list[httpx2.Request]:
        """Give the requests of a method, to URLs with a text in them."""
        return [
            request
            for request in self.requests
            if method in {"", request.method} and where in str(request.url)
        ]

    def fault(
        self,
        reply: Callable[[httpx2.Request], httpx2.Response],
        *,
        method: str = "",
        where: str = "",
        times: int = 1_000_000,
    ) -> None:
        """Answer in another way, some times."""
        self.faults.append(Fault(reply, method, where, times))

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        for fault in self.faults:
            if fault.strikes(request):
                return fault.reply(request)
        return self.answer(request)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer what no fault struck; a plain host expects no such request."""
        raise AssertionError(f"nobody was to ask for {request.method} {request.url.path}")


def drops(request: httpx2.Request) -> httpx2.Response:
    """Break the connection."""
    raise httpx2.RemoteProtocolError("the server closed the connection", request=request)


def answers(
    status: int, headers: Mapping[str, str] | None = None, *, content: bytes = b""
) -> Callable[[httpx2.Request], httpx2.Response]:
    """Answer with a status."""
    return lambda _: httpx2.Response(status, headers=headers, content=content)


def error(status: int, code: str, **headers: str) -> httpx2.Response:
    """Answer as registries answer errors."""
    return httpx2.Response(
        status, headers=headers, json={"errors": [{"code": code, "message": code.lower()}]}
    )


def login_of(request: httpx2.Request) -> tuple[str, str] | None:
    """Read a Basic login."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme != "Basic":
        return None
    username, _, password = base64.b64decode(text).decode().partition(":")
    return username, password


class FakeTokenService(FakeHost):
    """Gives tokens that are good for a scope, for some time."""

    def __init__(self, clock: FakeClock, *, users: dict[str, str] | None = None) -> None:
        super().__init__()
        self.clock = clock
        self.users = users
        self.identity_tokens: set[str] = set()
        self.token_seconds = 300.0
        self.given: dict[str, tuple[str, float]] = {}

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            form = parse_qs(request.content.decode())
            if (
                form["grant_type"] != ["refresh_token"]
                or form["refresh_token"][0] not in self.identity_tokens
            ):
                return httpx2.Response(401, json={"error": "invalid_grant"})
            return httpx2.Response(200, json={"access_token": self._give(form["scope"][0])})
        login = login_of(request)
        if self.users is not None and (login is None or self.users.get(login[0]) != login[1]):
            return httpx2.Response(401, json={"details": "incorrect username or password"})
        token = self._give(" ".join(request.url.params.get_list("scope")))
        return httpx2.Response(200, json={"token": token, "expires_in": self.token_seconds})

    def _give(self, scope: str) -> str:
        token = f"token-{len(self.given)}"
        self.given[token] = (scope, self.clock.now + self.token_seconds)
        return token

    def accepts(self, token: str, scope: str) -> bool:
        given = self.given.get(token)
        return given is not None and given[0] == scope and given[1] > self.clock.now


class FakeRegistry(FakeHost):
    """Keeps manifests and blobs, and answers for them as docker-registry does."""

    def __init__(self) -> None:
        super().__init__()
        self.manifests: dict[tuple[str, str], Stored] = {}
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.uploads: dict[str, bytes] = {}
        self._upload_numbers = count()
        #: Whether no token is good for writing.
        self.read_only = False
        self.mounts = True
        self.deletes_tags = True
        #: Whether it has the API of referrers.
        self.has_referrers = True
        #: Basic logins, where the registry wants them itself.
        self.users: dict[str, str] | None = None
        self.token_service: FakeTokenService | None = None
        self.realm = "https://auth.example.com/token"
        #: Headers of all answers, such as those of a quota.
        self.headers: dict[str, str] = {"docker-distribution-api-version": "registry/2.0"}
        self.names_digests = True
        #: Pulls that are granted, and how many are left; None: any number.
        self.quota: tuple[int, int] | None = None

    def push(self, repository: str, stored: Stored, tag: str | None = None) -> None:
        for child in stored.children:
            self.push(repository, child)
        for blob in stored.blobs:
            self.blobs[repository, sha256(blob)] = blob
        self.manifests[repository, stored.digest] = stored
        if tag is not None:
            self.tags.setdefault(repository, {})[tag] = stored.digest

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/v2/")
        if not path:
            return httpx2.Response(200, json={}, headers=self.headers)
        upload = re.fullmatch(r"(.+)/blobs/uploads/([0-9]*)", path)
        repository, kind, target = (upload[1], "uploads", upload[2]) if upload else path.rsplit("/", 2)
        response = self._challenge(request, repository)
        if response is None:
            match kind, request.method:
                case "uploads", _:
                    response = self._upload(request, repository, target)
                case "manifests", "PUT":
                    response = self._put_manifest(request, repository, target)
                case "manifests", "DELETE":
                    response = self._delete(repository, target)
                case "manifests", "GET" if self.quota is not None and not self.quota[1]:
                    response = error(429, "TOOMANYREQUESTS")
                case "manifests", _:
                    response = self._manifest(request, repository, target)
                case "tags", _:
                    response = self._tags(request, repository)
                case "referrers", _:
                    response = self._referrers(repository, target)
                case _:
                    blob = self.blobs.get((repository, target))
                    found = httpx2.Response(200, content=b"" if request.method == "HEAD" else blob)
                    response = error(404, "BLOB_UNKNOWN") if blob is None else found
        response.headers.update(self.headers)
        if self.quota is not None:
            limit, left = self.quota
            if kind == "manifests" and request.method == "GET" and response.status_code == 200:
                left -= 1
            self.quota = limit, left
            response.headers["ratelimit-limit"] = f"{limit};w=21600"
            response.headers["ratelimit-remaining"] = f"{left};w=21600"
        return response

    def _upload(self, request: httpx2.Request, repository: str, target: str) -> httpx2.Response:
        if not target:
            mount, source = request.url.params.get("mount", ""), request.url.params.get("from", "")
            if self.mounts and (source, mount) in self.blobs:
                self.blobs[repository, mount] = self.blobs[source, mount]
                return httpx2.Response(201)
            target = str(next(self._upload_numbers))
            self.uploads[target] = b""
        elif target not in self.uploads:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        else:
            self.uploads[target] += request.content
        if request.method == "PUT":
            data, digest = self.uploads.pop(target), request.url.params["digest"]
            if sha256(data) != digest:
                return error(400, "DIGEST_INVALID")
            self.blobs[repository, digest] = data
            return httpx2.Response(201)
        return httpx2.Response(202, headers={"location": f"/v2/{repository}/blobs/uploads/{target}?state=x"})

    def _put_manifest(self, request: httpx2.Request, repository: str, target: str) -> httpx2.Response:
        stored = Stored(request.content, request.headers["content-type"])
        wire = json.loads(stored.raw)
        children = [entry["digest"] for entry in wire.get("manifests", ())]
        blobs = [blob["digest"] for blob in (*wire.get("layers", ()), wire.get("config")) if blob]
        missing = [one for one in children if (repository, one) not in self.manifests]
        if missing or any((repository, one) not in self.blobs for one in blobs):
            return error(400, "MANIFEST_BLOB_UNKNOWN")
        self.manifests[repository, stored.digest] = stored
        if target != stored.digest:
            self.tags.setdefault(repository, {})[target] = stored.digest
        headers = {"docker-content-digest": stored.digest}
        if "subject" in wire and self.has_referrers:
            headers["oci-subject"] = wire["subject"]["digest"]
        return httpx2.Response(201, headers=headers)

    def _delete(self, repository: str, target: str) -> httpx2.Response:
        tags = self.tags.get(repository, {})
        if target in tags and not self.deletes_tags:
            return error(405, "UNSUPPORTED")
        if target not in tags and (repository, target) not in self.manifests:
            return error(404, "MANIFEST_UNKNOWN")
        self.manifests.pop((repository, target), None)
        self.tags[repository] = {tag: one for tag, one in tags.items() if target not in {tag, one}}
        return httpx2.Response(202)

    def _referrers(self, repository: str, digest: str) -> httpx2.Response:
        if not self.has_referrers:
            return error(404, "NOT_FOUND")
        found = [
            {"mediaType": stored.media_type, "digest": stored.digest, "size": len(stored.raw)}
            for (where, _), stored in self.manifests.items()
            if where == repository and json.loads(stored.raw).get("subject", {}).get("digest") == digest
        ]
        return httpx2.Response(200, json={"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found})

    def _challenge(self, request: httpx2.Request, repository: str) -> httpx2.Response | None:
        writes = request.method in {"PUT", "POST", "PATCH"}
        actions = "pull,push" if writes else "delete" if request.method == "DELETE" else "pull"
        scope = f"repository:{repository}:{actions}"
        if mounted := request.url.params.get("from"):
            scope += f" repository:{mounted}:pull"
        if self.users is not None:
            login = login_of(request)
            if login is None or self.users.get(login[0]) != login[1]:
                return error(401, "UNAUTHORIZED", **{"www-authenticate": 'Basic realm="the registry"'})
        if self.token_service is not None:
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not self.token_service.accepts(token, scope) or (self.read_only and actions != "pull"):
                bearer = f'Bearer realm="{self.realm}",service="registry",scope="{scope}"'
                return error(401, "UNAUTHORIZED", **{"www-authenticate": bearer})
        return None

    def _manifest(self, request: httpx2.Request, repository: str, target: str) -> httpx2.Response:
        digest = self.tags.get(repository, {}).get(target, target)
        stored = self.manifests.get((repository, digest))
        # A type that the client does not name is not there for it.
        if stored is None or stored.media_type not in request.headers.get("accept", ""):
            return error(404, "MANIFEST_UNKNOWN")
        headers = {"content-type": stored.media_type, "content-length": str(len(stored.raw))}
        if self.names_digests:
            headers["docker-content-digest"] = digest
        return httpx2.Response(200, headers=headers, content=stored.raw if request.method == "GET" else b"")

    def _tags(self, request: httpx2.Request, repository: str) -> httpx2.Response:
        if repository not in self.tags:
            return error(404, "NAME_UNKNOWN")
        count = int(request.url.params.get("n", 100))
        last = request.url.params.get("last", "")
        left = [tag for tag in sorted(self.tags[repository]) if tag > last]
        headers = {}
        if left[count:]:
            link = f"/v2/{repository}/tags/list?last={left[count - 1]}&n={count}"
            headers["link"] = f'<{link}>; rel="next"'
        return httpx2.Response(200, headers=headers, json={"name": repository, "tags": left[:count]})


class Network(httpx2.MockTransport):
    """All hosts that can be reached; the others cannot. Requests at the same time are under way together."""

    def __init__(self, hosts: Mapping[str, FakeHost]) -> None:
        self.hosts = hosts
        self.under_way: Counter[str] = Counter()
        self.under_way_max: Counter[str] = Counter()
        super().__init__(self._route)

    async def _route(self, request: httpx2.Request) -> httpx2.Response:
        name = request.url.netloc.decode()
        self.under_way[name] += 1
        self.under_way_max |= self.under_way
        await request.aread()
        # Let all others start that can.
        for _ in range(50):
            await asyncio.sleep(0)
        self.under_way[name] -= 1
        if name not in self.hosts:
            raise httpx2.ConnectError("no route to host", request=request)
        return self.hosts[name].handle(request)


def auth_file(**logins: tuple[str, str]) -> str:
    """Write an auth file; in names of registries `__` stands for a dot."""
    auths = {
        name.replace("__", "."): {"auth": base64.b64encode(":".join(login).encode()).decode()}
        for name, login in logins.items()
    }
    return json.dumps({"auths": auths})
