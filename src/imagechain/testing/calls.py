"""What a handler of the simulated HTTP API gets, and what it answers: parameters, pages, errors.

Shapes of errors: GitLab's `lib/api/helpers.rb`; of pages: its page "REST API".
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from imagechain.testing.parts import Parts
from imagechain.testing.state import State
from imagechain.testing.times import read_time
from imagechain.testing.values import Group, Json, Project, Role, Token, User

PER_PAGE_DEFAULT = 20
PER_PAGE_MAX = 100

#: What GitLab's parameters count as true and false, in any letter case.
_YES = frozenset({"1", "on", "t", "true", "y", "yes"})
_NO = frozenset({"0", "off", "f", "false", "n", "no"})

_Row = TypeVar("_Row")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: JSON data, or a body as it is."""

    status: int = 200
    data: Any = None
    body: bytes | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class ApiError(Exception):
    """An answer that is not the one asked for."""

    def __init__(self, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(data))
        self.answer = Answer(status=status, data=data, headers=headers or {})


class AnswerLostError(Exception):
    """The client gets no answer, by a fault."""


def not_found(what: str = "") -> ApiError:
    """Make the answer for something that is not there, or must not be seen."""
    return ApiError(404, {"message": f"404 {what} Not Found" if what else "404 Not Found"})


def forbidden(reason: str = "") -> ApiError:
    """Make the answer for what a role does not allow."""
    return ApiError(403, {"message": f"403 Forbidden - {reason}" if reason else "403 Forbidden"})


def bad_request(message: object) -> ApiError:
    """Make the answer for a request that fails a check of the model."""
    return ApiError(400, {"message": message})


def invalid(parameter: str, why: str = "is invalid") -> ApiError:
    """Make the answer for a parameter that fails the check of the API."""
    return ApiError(400, {"error": f"{parameter} {why}"})


def too_many_requests(message: str = "") -> ApiError:
    """Make the application's own 429: JSON, with `Retry-After` but without `RateLimit-*`."""
    text = message or "429 Too Many Requests"
    return ApiError(429, {"message": {"error": text} if message else text}, {"Retry-After": "60"})


class Call:
    """One request, after its token and its project were looked up."""

    def __init__(
        self,
        parts: Parts,
        *,
        base_url: str,
        path: str,
        headers: Mapping[str, str],
        names: Mapping[str, str],
        query: Mapping[str, Any],
        body: bytes,
        params: Json,
    ) -> None:
        self.parts = parts
        self.base_url = base_url
        #: The path as it was asked for, still encoded.
        self.path = path
        self.headers = headers
        #: The parts of the path that have names.
        self.names = names
        self.query = query
        self.body = body
        self.params = params
        self.user_or_none: User | None = None
        self.token: Token | None = None
        self.project_or_none: Project | None = None
        self.group_or_none: Group | None = None

    @property
    def state(self) -> State:
        """The state of the instance."""
        return self.parts.state

    @property
    def user(self) -> User:
        """Who asks."""
        if self.user_or_none is None:
            raise ApiError(401, {"message": "401 Unauthorized"})
        return self.user_or_none

    @property
    def project(self) -> Project:
        """The project that the path names."""
        if self.project_or_none is None:
            raise not_found("Project")
        return self.project_or_none

    @property
    def group(self) -> Group:
        """The group that the path names."""
        if self.group_or_none is None:
            raise not_found("Group")
        return self.group_or_none

    @property
    def role(self) -> Role:
        """The caller's role in the project."""
        return self.state.visible_role(self.user_or_none, self.project)

    # --- parameters

    def text(self, name: str) -> str:
        """Read a text that must be there."""
        value = self.optional_text(name)
        if value is None:
            raise invalid(name, "is missing")
        return value

    def optional_text(self, name: str) -> str | None:
        """Read a text, if it is there."""
        value = self.params.get(name)
        if value is None:
            return None
        if isinstance(value, (dict, list)):
            raise invalid(name)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """Read a text that must be one of a few."""
        value = self.optional_text(name) or default
        if value not in choices:
            raise invalid(name, "does not have a valid value")
        return value

    def integer(self, name: str, default: int) -> int:
        """Read a number."""
        try:
            return int(self.params.get(name, default))
        except (TypeError, ValueError):
            raise invalid(name) from None

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Read a truth value."""
        value = self.optional_text(name)
        if value is None or value == "":
            return default
        if value.lower() not in _YES | _NO:
            raise invalid(name)
        return value.lower() in _YES

    def time(self, name: str) -> float | None:
        """Read a time, if it is there."""
        value = self.optional_text(name)
        try:
            return None if value is None else read_time(value)
        except ValueError:
            raise invalid(name) from None

    def texts(self, name: str) -> list[str]:
        """Read a list of texts; a single one counts as a list, and commas part them."""
        value = self.params.get(name)
        if value is None:
            return []
        return [str(item) for item in value] if isinstance(value, list) else str(value).split(",")

    def number_in_path(self, name: str, what: str) -> int:
        """Read an id of the path; one that is no number finds nothing."""
        text = self.names[name]
        if not text.isdecimal():
            raise not_found(what)
        return int(text)

    def found(self, rows: Mapping[int, _Row], name: str, what: str = "") -> _Row:
        """Find a record by an id of the path."""
        row = rows.get(self.number_in_path(name, what))
        if row is None:
            raise not_found(what)
        return row

    # --- pages

    def _page_link(self, changes: Mapping[str, object]) -> str:
        query = {
            f"{key}[]" if isinstance(value, list) else key: value
            for key, value in {**self.query, **changes}.items()
        }
        return f"{self.base_url}{self.path}?{urlencode(query, doseq=True)}"

    def per_page(self) -> int:
        """Read how many rows a page has: above the maximum, the maximum."""
        per_page = self.integer("per_page", PER_PAGE_DEFAULT)
        if per_page < 1:
            raise invalid("per_page", "does not have a valid value")
        return min(per_page, PER_PAGE_MAX)

    def page(self, rows: Sequence[_Row], render: Callable[[_Row], Any]) -> Answer:
        """Answer with one page of rows, by offset. Totals are left out where there are very many rows."""
        per_page, page = self.per_page(), max(self.integer("page", 1), 1)
        last = max((len(rows) + per_page - 1) // per_page, 1)
        shown = rows[(page - 1) * per_page : page * per_page]
        with_totals = len(rows) <= self.state.settings.totals_rows_max
        size = {"per_page": per_page}
        links = [("prev", page - 1)] if page > 1 else []
        links += [("next", page + 1)] if page < last else []
        links += [("first", 1)] + ([("last", last)] if with_totals else [])
        headers = {
            "x-page": str(page),
            "x-per-page": str(per_page),
            "x-prev-page": str(page - 1) if page > 1 else "",
            "x-next-page": str(page + 1) if page < last else "",
            "link": ", ".join(
                f'<{self._page_link({"page": number, **size})}>; rel="{name}"' for name, number in links
            ),
        }
        if with_totals:
            headers |= {"x-total": str(len(rows)), "x-total-pages": str(last)}
        return Answer(data=[render(row) for row in shown], headers=headers)

    def keyset_page(
        self, rows: Sequence[_Row], render: Callable[[_Row], Any], cursor_of: Callable[[_Row], str], name: str
    ) -> Answer:
        """Answer with one page of rows after a cursor; only the link to the next page is given."""
        per_page = self.per_page()
        cursor = self.optional_text(name)
        start = 0
        if cursor is not None:
            cursors = [cursor_of(row) for row in rows]
            start = cursors.index(cursor) + 1 if cursor in cursors else len(rows)
        shown = rows[start : start + per_page]
        headers: dict[str, str] = {}
        if start + per_page < len(rows):
            link = self._page_link({name: cursor_of(shown[-1]), "per_page": per_page})
            headers["link"] = f'<{link}>; rel="next"'
        return Answer(data=[render(row) for row in shown], headers=headers)


Handler = Callable[[Call], Answer | Awaitable[Answer]]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A call of the API, with what it asks of the caller."""

    method: str
    #: With `:names`; `:id` after `projects` or `groups` is looked up, and must be visible to the caller.
    path: str
    handler: Handler
    role: Role = Role.GUEST
    #: Scopes that open it besides `api`; None: it checks a token of its own.
    scopes: tuple[str, ...] | None = ()
    #: Whether it is there for nobody without a token, public projects or not.
    login: bool = False


def get(
    path: str, handler: Handler, *, role: Role = Role.REPORTER, login: bool = False, also: str = ""
) -> Endpoint:
    """Describe a call that reads; `also` names one more scope that opens it."""
    scopes = ("read_api", also) if also else ("read_api",)
    return Endpoint(method="GET", path=path, handler=handler, role=role, scopes=scopes, login=login)


def change(method: str, path: str, handler: Handler, *, role: Role = Role.DEVELOPER) -> Endpoint:
    """Describe a call that changes something."""
    return Endpoint(method=method, path=path, handler=handler, role=role, login=True)
