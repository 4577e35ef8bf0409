"""The HTTP side: routing, tokens, roles, rate limits and faults; what calls do is in `rest` and `graphql`.

Everything is decided in GitLab's order: limits, token, scope, moved project, visibility (what one may not see
is 404), role (403), then the call itself.
"""

import asyncio
import contextlib
import inspect
import json
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx2
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from imagechain.testing.calls import Answer, AnswerLostError, ApiError, Call, Endpoint, forbidden, not_found
from imagechain.testing.graphql import answer_graphql
from imagechain.testing.parts import Parts
from imagechain.testing.pipelines import PipelineRefusedError
from imagechain.testing.rest import ENDPOINTS
from imagechain.testing.state import State
from imagechain.testing.values import Project, Role, SimulationError, Token

BODY_BYTES_MAX = 64 * 1024 * 1024
#: The last requests that are remembered.
REQUESTS_KEPT = 100_000
API_PREFIX = "/api/v4/"
_RETRY_LATER = b"Retry later\n"


class GitLabApp:
    """The ASGI application of one simulated instance."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._routes = _index(ENDPOINTS)
        #: What was asked, in order: method, path, status (0: no answer). Cleared by whoever counts.
        self.requests: deque[tuple[str, str, int]] = deque(maxlen=REQUESTS_KEPT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI wants it."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        raw_path = scope.get("raw_path", scope["path"].encode()).decode().partition("?")[0]
        try:
            answer = await self._answer(request, raw_path)
        except AnswerLostError:
            self.requests.append((request.method, raw_path, 0))
            if "lost" in scope.get("extensions", {}):
                raise
            answer = await self._hang(receive)
        else:
            self.requests.append((request.method, raw_path, answer.status))
        await _response(request, answer)(scope, receive, send)

    async def _hang(self, receive: Receive) -> Answer:
        """Leave a client over a socket without an answer, until it gives up or a proxy would."""

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone(), self._parts.state.faults.hang_seconds_max)
        return _broken(504)

    async def _answer(self, request: Request, path: str) -> Answer:
        state = self._parts.state
        if state.faults.latency_seconds:
            await asyncio.sleep(state.faults.latency_seconds)
        fault = state.faults.request_fault(state.fault_random)
        match fault:
            case "error":
                return _broken(state.fault_random.choice((500, 502, 503)))
            case "limit-text":
                return _rack_limit(state, observed=1, limit=1)
            case "limit-json":
                headers = {"Retry-After": "60"}
                return Answer(status=429, data={"message": "429 Too Many Requests"}, headers=headers)
            case "request-lost":
                raise AnswerLostError
        body = await request.body()
        if len(body) > BODY_BYTES_MAX:
            return Answer(status=413, data={"message": "413 Request Entity Too Large"})
        try:
            answer = await self._carry_out(request, path, body)
        except ApiError as error:
            answer = error.answer
        except PipelineRefusedError as error:
            answer = Answer(status=400, data={"message": {"base": [str(error)]}})
        except SimulationError as error:
            answer = Answer(status=400, data={"message": str(error)})
        if fault == "answer-lost":
            raise AnswerLostError
        return answer

    async def _carry_out(self, request: Request, path: str, body: bytes) -> Answer:
        token, problem = self._token(request)
        limited, headers = self._take_from_budget(token)
        if limited is not None:
            return limited
        if path == "/api/graphql" and request.method == "POST":
            user = self._parts.state.users[token.user] if token is not None else None
            answer = answer_graphql(self._parts, user, token, body, bad_token=problem is not None)
        else:
            if problem is not None:
                raise problem
            answer = await self._rest(request, path, body, token)
        return Answer(
            status=answer.status,
            data=answer.data,
            body=answer.body,
            content_type=answer.content_type,
            headers={**headers, **answer.headers},
        )

    async def _rest(self, request: Request, path: str, body: bytes, token: Token | None) -> Answer:
        endpoint, names = self._route(request.method, path)
        query = _read_query(request.url.query)
        call = Call(
            self._parts,
            base_url=f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}",
            path=path,
            headers=request.headers,
            names=names,
            query=query,
            body=body,
            params={**query, **_read_body(request.headers, body)},
        )
        call.token = token
        call.user_or_none = self._parts.state.users[token.user] if token is not None else None
        if endpoint.scopes is not None:
            _check_scope(endpoint, token)
            moved = self._look_up(call, endpoint, request.method)
            if moved is not None:
                return moved
        self._parts.hooks.inherited_uuid = request.headers.get("x-gitlab-event-uuid")
        try:
            answer = endpoint.handler(call)
        finally:
            self._parts.hooks.inherited_uuid = None
        return await answer if inspect.isawaitable(answer) else answer

    def _route(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        if not path.startswith(API_PREFIX):
            raise not_found()
        segments = [unquote(segment) for segment in path[len(API_PREFIX) :].rstrip("/").split("/")]
        known = False
        for wanted in (method, "GET") if method == "HEAD" else (method,):
            for endpoint, pattern in self._routes.get(len(segments), ()):
                if all(part[:1] == ":" or part == text for part, text in zip(pattern, segments, strict=True)):
                    known = True
                    if endpoint.method == wanted:
                        pairs = zip(pattern, segments, strict=True)
                        return endpoint, {part[1:]: text for part, text in pairs if part[:1] == ":"}
        if known:
            raise ApiError(405, {"error": "405 Not Allowed"})
        raise ApiError(404, {"error": "404 Not Found"})

    def _token(self, request: Request) -> tuple[Token | None, ApiError | None]:
        """Find the token of a request, or the answer that it is a wrong one."""
        value = request.headers.get("private-token")
        if value is None and request.headers.get("authorization", "").lower().startswith("bearer "):
            value = request.headers["authorization"][7:]
        if value is None:
            return None, None
        token = self._parts.state.tokens.get(value)
        if token is None:
            return None, ApiError(401, {"message": "401 Unauthorized"})
        expired = token.expires_at is not None and token.expires_at <= self._parts.state.clock()
        if token.revoked or expired:
            what = "Token was revoked. You have to re-authorize from the user."
            data = {
                "error": "invalid_token",
                "error_description": what if token.revoked else "Token is expired.",
            }
            return None, ApiError(401, data)
        return token, None

    def _take_from_budget(self, token: Token | None) -> tuple[Answer | None, dict[str, str]]:
        """Count a request against the general limit, and write the headers that tell of it."""
        state = self._parts.state
        limit = state.settings.requests_per_minute_max
        if limit is None:
            return None, {}
        observed = state.rates.take(("requests", token.user if token is not None else 0), limit)
        if observed is None:
            return _rack_limit(state, observed=limit + 1, limit=limit), {}
        return None, _rack_headers(state, observed, limit)

    def _look_up(self, call: Call, endpoint: Endpoint, method: str) -> Answer | None:
        """Find the project or group of the path, and check the role; a moved project is a redirect."""
        state, user = self._parts.state, call.user_or_none
        if user is None and endpoint.login:
            raise ApiError(401, {"message": "401 Unauthorized"})
        if endpoint.path.startswith("projects/:id"):
            project = state.find_project(call.names["id"])
            if project is None:
                return self._moved(call, method)
            if not state.may_see(user, project):
                raise not_found("Project")
            call.project_or_none = project
            role = state.visible_role(user, project)
            if project.archived and endpoint.login and endpoint.role == Role.DEVELOPER:
                raise forbidden()
        elif endpoint.path.startswith("groups/:id"):
            group = state.find_group(call.names["id"])
            if group is None or (group.visibility == "private" and not state.sees_group(user, group)):
                raise not_found("Group")
            call.group_or_none = group
            role = max(state.group_role(user, group), Role.REPORTER)
        else:
            return None
        if role < endpoint.role:
            raise forbidden() if user is not None else ApiError(401, {"message": "401 Unauthorized"})
        return None

    def _moved(self, call: Call, method: str) -> Answer:
        project: Project | None = self._parts.state.projects.get(
            self._parts.state.moved.get(call.names["id"], 0)
        )
        if project is None or not self._parts.state.may_see(call.user_or_none, project):
            raise not_found("Project")
        if method not in {"GET", "HEAD"}:
            raise ApiError(405, {"message": "405 Non GET methods are not allowed for moved projects"})
        segments = call.path.split("/")
        segments[4] = str(project.id)
        query = "&".join(f"{key}={value}" for key, value in call.query.items())
        location = f"{call.base_url}{'/'.join(segments)}" + (f"?{query}" if query else "")
        return Answer(status=301, data={"message": "301 Moved Permanently"}, headers={"location": location})


class SimulatedTransport(httpx2.ASGITransport):
    """Reaches a simulated instance from this process; an answer that is lost is a time-out at once."""

    def __init__(self, app: GitLabApp) -> None:
        async def lossy(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "extensions": {"lost": {}}}, receive, send)

        super().__init__(app=lossy)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        try:
            return await super().handle_async_request(request)
        except AnswerLostError:
            raise httpx2.ReadTimeout("the simulated GitLab gave no answer", request=request) from None


def _index(endpoints: Iterable[Endpoint]) -> dict[int, list[tuple[Endpoint, list[str]]]]:
    """Sort the calls by how many parts their paths have; fixed words come before names."""
    routes: dict[int, list[tuple[Endpoint, list[str]]]] = {}
    for endpoint in endpoints:
        pattern = endpoint.path.split("/")
        routes.setdefault(len(pattern), []).append((endpoint, pattern))
    for found in routes.values():
        found.sort(key=lambda item: [part[:1] == ":" for part in item[1]])
    return routes


def _read_query(query: str) -> dict[str, Any]:
    """Read the parameters of a URL; `scope[]=a&scope[]=b` is a list."""
    return _collect(parse_qsl(query, keep_blank_values=True))


def _collect(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key.endswith("[]"):
            found.setdefault(key[:-2], []).append(value)
        elif key.endswith("]") and "[" in key:
            outer, _, inner = key[:-1].partition("[")
            found.setdefault(outer, {})[inner] = value
        else:
            found[key] = value
    return found


def _read_body(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if not body:
        return {}
    if kind == "application/json":
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            raise ApiError(400, {"error": "Invalid json"}) from None
        return data if isinstance(data, dict) else {}
    if kind == "application/x-www-form-urlencoded":
        return _collect(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    return {}


def _check_scope(endpoint: Endpoint, token: Token | None) -> None:
    if token is None or "api" in token.scopes or set(endpoint.scopes or ()) & set(token.scopes):
        return
    wanted = " ".join(("api", *(endpoint.scopes or ())))
    description = "The request requires higher privileges than provided by the access token."
    raise ApiError(403, {"error": "insufficient_scope", "error_description": description, "scope": wanted})


def _response(request: Request, answer: Answer) -> Response:
    body = answer.body if answer.body is not None else json.dumps(answer.data).encode()
    if request.method == "HEAD" or answer.status == 204:
        body = b""
    return Response(body, answer.status, {"content-type": answer.content_type, **answer.headers})


def _broken(status: int) -> Answer:
    """Make the answer of a failing server: the application's own is JSON, the proxy's before it a page."""
    if status == 500:
        return Answer(status=status, data={"message": "500 Internal Server Error"})
    page = f"<html><body><h1>{status}</h1>GitLab is not responding</body></html>"
    return Answer(status=status, body=page.encode(), content_type="text/html")


def _rack_headers(state: State, observed: int, limit: int) -> dict[str, str]:
    reset = int(state.clock()) // 60 * 60 + 60
    return {
        "RateLimit-Limit": str(limit),
        "RateLimit-Name": "throttle_authenticated_api",
        "RateLimit-Observed": str(observed),
        "RateLimit-Remaining": str(max(limit - observed, 0)),
        "RateLimit-Reset": str(reset),
    }


def _rack_limit(state: State, *, observed: int, limit: int) -> Answer:
    """Make the 429 that comes before the application: text, with all the headers."""
    headers = _rack_headers(state, observed, limit)
    wait = int(headers["RateLimit-Reset"]) - int(state.clock())
    headers |= {"Retry-After": str(max(wait, 1)), "RateLimit-ResetTime": headers["RateLimit-Reset"]}
    return Answer(status=429, body=_RETRY_LATER, content_type="text/plain", headers=headers)
