"""Reads queries of GraphQL: one operation of fields with arguments and variables.

Whatever else the language has (fragments, directives, mutations, subscriptions) is refused by name, never
passed over.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

_TOKEN = re.compile(
    r"""(?:[\s,\ufeff]|\#[^\n]*)*(?:(?P<punctuator>\.\.\.|[!$():=@\[\]{}|])|(?P<name>[_A-Za-z]\w*)
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<string>"(?:[^"\\\n]|\\.)*"))""",
    re.VERBOSE,
)
_BLANK = re.compile(r"(?:[\s,\ufeff]|\#[^\n]*)*")
#: Deepest nesting of fields and of values.
DEPTH_MAX = 40


class QueryError(Exception):
    """A query that cannot be answered; the message is shown to the client."""


class VariableName(msgspec.Struct, frozen=True):
    """A variable, where a value may stand."""

    name: str


class EnumName(msgspec.Struct, frozen=True):
    """A value of an enumeration."""

    name: str


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field that is asked for."""

    name: str
    alias: str
    arguments: Mapping[str, Any]
    fields: tuple["Field", ...]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A query."""

    #: Types of the variables, as written: `[String!]!`.
    variables: Mapping[str, str]
    defaults: Mapping[str, Any]
    fields: tuple[Field, ...]


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[re.Match[str]] = []
        position = 0
        while (match := _TOKEN.match(text, position)) is not None:
            self._tokens.append(match)
            position = match.end()
        rest = _BLANK.match(text, position)
        if rest is None or rest.end() != len(text):
            raise QueryError(f"Parse error on {text[position : position + 20]!r}")
        self._position = 0

    def _text(self) -> tuple[str, str]:
        """Read the next token with its kind."""
        if self._position == len(self._tokens):
            raise QueryError("Unexpected end of document")
        match = self._tokens[self._position]
        self._position += 1
        kind = str(match.lastgroup)
        return kind, match[kind]

    def _next_is(self, punctuator: str) -> bool:
        if self._position < len(self._tokens) and self._tokens[self._position]["punctuator"] == punctuator:
            self._position += 1
            return True
        return False

    def _expect(self, punctuator: str) -> None:
        if not self._next_is(punctuator):
            found = self._text()[1]
            raise QueryError(f"Parse error on {found!r} (expected {punctuator!r})")

    def _name(self) -> str:
        kind, text = self._text()
        if kind != "name":
            raise QueryError(f"Parse error on {text!r} (expected a name)")
        return text

    def operation(self) -> Operation:
        variables: dict[str, str] = {}
        defaults: dict[str, Any] = {}
        if not self._next_is("{"):
            kind = self._name()
            if kind != "query":
                raise QueryError(f"the simulated GitLab answers queries only, not a {kind}")
            self._skip_name()
            if self._next_is("("):
                while not self._next_is(")"):
                    self._expect("$")
                    name = self._name()
                    self._expect(":")
                    variables[name] = self._type()
                    if self._next_is("="):
                        defaults[name] = self._value(0)
            self._expect("{")
        fields = self._fields(0)
        if self._position != len(self._tokens):
            raise QueryError("the simulated GitLab answers one operation at a time, without fragments")
        return Operation(variables=variables, defaults=defaults, fields=fields)

    def _skip_name(self) -> None:
        if self._position < len(self._tokens) and self._tokens[self._position]["name"]:
            self._position += 1

    def _type(self) -> str:
        if self._next_is("["):
            inner = self._type()
            self._expect("]")
            text = f"[{inner}]"
        else:
            text = self._name()
        return text + "!" if self._next_is("!") else text

    def _fields(self, depth: int) -> tuple[Field, ...]:
        if depth > DEPTH_MAX:
            raise QueryError("Query is nested too deeply")
        found: list[Field] = []
        while not self._next_is("}"):
            if self._next_is("..."):
                raise QueryError("the simulated GitLab knows no fragments")
            alias = name = self._name()
            if self._next_is(":"):
                name = self._name()
            arguments: dict[str, Any] = {}
            if self._next_is("("):
                while not self._next_is(")"):
                    argument = self._name()
                    self._expect(":")
                    arguments[argument] = self._value(depth)
            if self._next_is("@"):
                raise QueryError("the simulated GitLab knows no directives")
            fields = self._fields(depth + 1) if self._next_is("{") else ()
            found.append(Field(name=name, alias=alias, arguments=arguments, fields=fields))
        if not found:
            raise QueryError("Parse error on '}' (expected a field)")
        return tuple(found)

    def _value(self, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise QueryError("Query is nested too deeply")
        if self._next_is("$"):
            return VariableName(self._name())
        if self._next_is("["):
            items = []
            while not self._next_is("]"):
                items.append(self._value(depth + 1))
            return items
        kind, text = self._text()
        if kind in {"string", "number"}:
            return json.loads(text)
        if kind == "name":
            words: dict[str, Any] = {"true": True, "false": False, "null": None}
            return words[text] if text in words else EnumName(text)
        raise QueryError(f"the simulated GitLab cannot read the value {text!r}")


def parse_query(text: str) -> Operation:
    """Read a query.

    Raises:
        QueryError: it is none, or uses what is not known here.
    """
    return _Parser(text).operation()
