"""A call to GitLab as a value: what is asked, how its answer is decoded, what it needs. No network here."""

from collections.abc import Callable, Mapping
from typing import Generic, Literal, TypeVar
from urllib.parse import quote

import msgspec

Method = Literal["GET", "POST", "PUT", "DELETE"]
Role = Literal["Reporter", "Developer", "Maintainer", "Owner"]
Result = TypeVar("Result")
Item = TypeVar("Item")

#: Rows of a page; GitLab gives no more.
PAGE_ROWS_MAX = 100


class Needs(msgspec.Struct, frozen=True):
    """What a call needs, for the error that says it was missing."""

    scope: Literal["read_api", "api"]
    role: Role


class Call(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """One call: what is asked, and how its answer is decoded."""

    method: Method
    #: From the top of the server; already quoted.
    path: str
    decode: Callable[[bytes], Result]
    needs: Needs
    #: What it is about, for people: `the pipelines of images/base`.
    about: str
    params: tuple[tuple[str, str], ...] = ()
    #: JSON.
    body: bytes | None = None
    #: Whether it may be sent twice. A POST that creates something must be looked up before.
    idempotent: bool = True
    #: Whether the caller asks for less when the server fails on it: then a 5xx is not repeated.
    splittable: bool = False
    #: Largest answer; a larger one is an error.
    answer_bytes_max: int = 64 * 1024 * 1024


class Answer(msgspec.Struct, frozen=True):
    """What the server sent."""

    status: int
    #: Names in lower case.
    headers: Mapping[str, str]
    body: bytes


def quoted(part: str | int) -> str:
    """Quote an id, a path or a branch as one part of an URL."""
    return quote(str(part), safe="")
