"""The dashboard: pages for people about what the service knows. They read; to act is for the command line.

Whoever reaches the service may read them. What they show was written by others (paths of projects, branches,
messages of pipelines), so every text is escaped, links lead to http(s) only, and a strict policy lets a page
load nothing but its own style and script. A page is put together from one look at the chain, which all pages
share, and is answered again as it is as long as nothing has changed.
"""

import asyncio
import hashlib
import shlex
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagechain.chain import Dependency, Graph, UnknownSourceError, describe_pause, explain
from imagechain.chain.status import Survey
from imagechain.store import StoreError
from imagechain.web.cascades import view_cascades
from imagechain.web.drawing import AROUND_MAX, HEIGHT, NODES_MAX, WIDTH, around, draw
from imagechain.web.overview import STATES, Overview, Row
from imagechain.web.ports import Service, Store
from imagechain.web.render import Renderer
from imagechain.web.requests import nearest, notices_of, trouble_with_gitlab

#: What one page lists at most.
NEIGHBOURS_MAX = 100
BUILDS_MAX = 20
CASCADES_MAX = 20
CASCADE_BUILDS_MAX = 100
PROBLEMS_MAX = 20
#: Characters of what is looked for.
_TEXT_CHARACTERS_MAX = 200
#: Of all time, the part that looking at all images may take, whoever asks for how many pages.
_LOOK_SHARE_MAX = 1 / 20
#: What takes no longer is not worth a wait.
_LOOK_SECONDS_FREE = 0.01
#: Pages that are kept to be answered again, and for how long: what they say of time is so old at most.
_KEPT_MAX = 64
_KEPT_SECONDS_MAX = 20.0

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_STATIC = files("imagechain.web") / "static"
_MEDIA_TYPES = {"live.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A source that another is built from, or that is built from it."""

    row: Row
    #: Where that is written.
    dependencies: tuple[Dependency, ...]


class _Kept(msgspec.Struct, frozen=True):
    made_at: float
    answer: Response


class Dashboard:
    """Answers the requests for pages."""

    def __init__(self, store: Store, service: Service, now: Callable[[], float]) -> None:
        self._store = store
        self._service = service
        self._now = now
        self._static = {name: (_STATIC / name).read_bytes() for name in _MEDIA_TYPES}
        versions = {name: hashlib.sha256(body).hexdigest()[:12] for name, body in self._static.items()}
        self._renderer = Renderer(versions)
        self._overview: Overview | None = None
        self._look_at = 0.0
        #: Pages made from this overview, by path and query.
        self._pages: dict[tuple[str, bytes], _Kept] = {}

    def routes(self) -> list[Route]:
        """Give the routes."""
        return [
            Route("/", self._page(self._images)),
            Route("/images/{id:path}", self._page(self._image)),
            Route("/graph", self._page(self._graph)),
            Route("/cascades", self._page(self._cascades)),
            Route("/static/{name}", self._file),
        ]

    # --- answering --------------------------------------------------------------------------------------

    def _page(
        self, make: Callable[[Request, Overview], Awaitable[str]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                overview = await self._look()
                if overview is None:
                    why = trouble_with_gitlab(self._service) or "The groups are being read"
                    return self._failure(503, "Nothing is known yet", f"{why}.")
                key, pages = (request.scope["path"], request.scope["query_string"]), self._pages
                kept, now = pages.get(key), time.monotonic()
                if kept is None or now > kept.made_at + _KEPT_SECONDS_MAX:
                    kept = _Kept(now, _html(await make(request, overview)))
                    if len(pages) >= _KEPT_MAX:
                        pages.clear()
                    pages[key] = kept
            except UnknownSourceError:
                return await self._unknown(
                    request.path_params.get("id", request.query_params.get("around", ""))
                )
            except StoreError as error:
                return self._failure(503, "The store does not answer", str(error))
            etag = kept.answer.headers["ETag"]
            # A proxy that compresses makes it a weak one.
            if etag in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers={**_HEADERS, "ETag": etag})
            return kept.answer

        return answer

    async def _look(self) -> Overview | None:
        """Look at all images, if there is anything new and the last look is long enough ago."""
        known = await self._service.known()
        if known is None:
            return None
        notices = notices_of(known, self._service)
        last = self._overview
        is_same = (
            last is not None
            and last.known.chain is known.chain
            and (last.changes, last.notices) == (known.chain.changes, notices)
        )
        if last is not None and (is_same or time.monotonic() < self._look_at):
            return last
        began = time.thread_time()
        self._overview, self._pages = Overview(known, notices), {}
        seconds = time.thread_time() - began
        self._look_at = time.monotonic() + max(0.0, seconds - _LOOK_SECONDS_FREE) / _LOOK_SHARE_MAX
        return self._overview

    def _failure(self, status: int, title: str, text: str, near: tuple[str, ...] = ()) -> Response:
        page = self._renderer.render(
            "error.html", title=title, text=text, near=near, is_passing=status == 503
        )
        return _html(page, status)

    async def _unknown(self, id: str) -> Response:
        ids = self._overview.known.chain.graph.ids if self._overview is not None else []
        # In a thread: among thousands of ids it takes a while.
        near = await asyncio.to_thread(nearest, id, ids)
        return self._failure(404, "No such image", f"No image is called {id}.", tuple(near))

    async def _file(self, request: Request) -> Response:
        body = self._static.get(request.path_params["name"])
        if body is None:
            return self._failure(404, "No such page", "There is nothing at this address.")
        # Its address changes with what is in it.
        headers = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return Response(body, headers=headers, media_type=_MEDIA_TYPES[request.path_params["name"]])

    # --- pages ------------------------------------------------------------------------------------------

    async def _images(self, request: Request, overview: Overview) -> str:
        query = request.query_params
        text, state = query.get("q", "")[:_TEXT_CHARACTERS_MAX].strip(), query.get("state", "")
        state = state if state in {*STATES, "external"} else ""
        number = query.get("page", "1")
        page = overview.page(text, state, int(number) if number.isdecimal() and len(number) < 7 else 1)
        asked = {name: value for name, value in (("q", text), ("state", state)) if value}
        graph = overview.known.chain.graph
        return self._renderer.render(
            "images.html",
            overview=overview,
            page=page,
            text=text,
            state=state,
            states=STATES,
            problems=overview.known.scan.problems[:PROBLEMS_MAX],
            problems_count=len(overview.known.scan.problems),
            cycles=graph.cycles[:PROBLEMS_MAX],
            link_to_page=lambda number: "/?" + urlencode({**asked, "page": number}),
        )

    async def _image(self, request: Request, overview: Overview) -> str:
        id, known = request.path_params["id"], overview.known
        graph = known.chain.graph
        number = graph.number_of(id)
        builds = await self._store.builds(BUILDS_MAX, id)
        return self._renderer.render(
            "image.html",
            overview=overview,
            source=graph.sources[number],
            told=explain(known.chain, id, self._now(), known.digests),
            parents=_neighbours(overview, number, graph.parents),
            parents_count=len(graph.parents[number]),
            children=_neighbours(overview, number, graph.children),
            children_count=len(graph.children[number]),
            builds=builds,
            commands=_commands(overview, number),
            would_build_max=NEIGHBOURS_MAX,
        )

    async def _graph(self, request: Request, overview: Overview) -> str:
        graph = overview.known.chain.graph
        centre = request.query_params.get("around", "")
        if centre:
            chosen = around(graph, graph.number_of(centre))
        elif len(graph.ids) <= NODES_MAX:
            chosen = set(range(len(graph.ids)))
        else:
            chosen = _unfinished(overview)
        return self._renderer.render(
            "graph.html",
            overview=overview,
            centre=centre,
            graph=graph,
            is_whole=len(chosen) == len(graph.ids),
            drawing=draw(graph, chosen),
            nodes_max=NODES_MAX,
            around_max=AROUND_MAX,
            box=(WIDTH, HEIGHT),
        )

    async def _cascades(self, _request: Request, overview: Overview) -> str:
        cascades = await self._store.cascades(CASCADES_MAX)
        return self._renderer.render(
            "cascades.html",
            overview=overview,
            views=view_cascades(overview, cascades),
            builds_max=CASCADE_BUILDS_MAX,
        )


def _html(page: str, status: int = 200) -> Response:
    # What GitLab wrote need not be text that can be encoded.
    body = page.encode(errors="replace")
    # Not without the quotes: one must not be found within another.
    headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(body).hexdigest()[:20]}"'}
    if status == 503:
        headers["Retry-After"] = "5"
    return Response(body, status, headers=headers, media_type="text/html")


def _neighbours(overview: Overview, number: int, neighbours: list[list[int]]) -> list[Neighbour]:
    """Tell of the parents or children of a source, the most urgent first, and where that is written."""
    graph = overview.known.chain.graph
    chosen = sorted(neighbours[number], key=lambda one: (STATES.index(overview.states[one]), one))
    chosen = chosen[:NEIGHBOURS_MAX]
    found = []
    for one, row in zip(chosen, overview.rows(chosen), strict=True):
        child, parent = (number, one) if neighbours is graph.parents else (one, number)
        found.append(Neighbour(row=row, dependencies=_between(graph, child, parent)))
    return found


def _commands(overview: Overview, number: int) -> list[tuple[str, str]]:
    """Give what a person can do about a source, as a line for a shell, and what it does."""
    chain = overview.known.chain
    id, state = chain.graph.ids[number], overview.states[number]
    if chain.facts.is_external(number):
        return []
    found: list[tuple[tuple[str, ...], str]] = []
    if state == "failed":
        found.append((("retry", id), "tries again now"))
    pauses = Survey(chain).pauses_of(number)
    for target, pause in pauses:
        words = ("resume",) if target is None else ("resume", target)
        found.append((words, f"ends what {describe_pause(target, pause)}"))
    found.append((("rebuild", id), "builds it, needed or not"))
    if not pauses:
        found.append((("pause", id), "starts no build of it until it is resumed"))
    return [(shlex.join(("imagechain", *words)), does) for words, does in found]


def _between(graph: Graph, child: int, parent: int) -> tuple[Dependency, ...]:
    return tuple(
        one for one in graph.dependencies[child] if one.parent == graph.ids[parent] and graph.counts(one)
    )


def _unfinished(overview: Overview) -> set[int]:
    """Choose what is not as it should be, the most urgent first, and what that is built from."""
    graph, states = overview.known.chain.graph, overview.states
    chosen = [one for one in overview.order if states[one] not in {"fresh", "inactive"}][:NODES_MAX]
    parents = [parent for one in chosen for parent in graph.parents[one]]
    return set(list(dict.fromkeys([*chosen, *parents]))[:NODES_MAX])
