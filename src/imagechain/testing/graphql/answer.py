"""Answers queries: checks them against the schema and GitLab's limits, then reads the state."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from imagechain.testing.calls import Answer
from imagechain.testing.graphql.language import Field, Operation, QueryError, VariableName, parse_query
from imagechain.testing.graphql.schema import (
    PAGE_ROWS_MAX,
    TYPES,
    Context,
    FieldError,
    FieldType,
    complexity_max,
)
from imagechain.testing.parts import Parts
from imagechain.testing.values import Json, Token, User

QUERY_CHARACTERS_MAX = 10_000
#: Levels of fields, for those with a token and for others.
DEPTH_MAX = 20
DEPTH_MAX_ANONYMOUS = 15
_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "Int": (int,),
    "Boolean": (bool,),
    "String": (str,),
    "ID": (str, int),
    "Time": (str,),
}
_SCOPES = frozenset({"api", "read_api"})


def answer_graphql(
    parts: Parts, user: User | None, token: Token | None, body: bytes, *, bad_token: bool
) -> Answer:
    """Answer a request of one query, or of a list of them. What is wrong with a query is still HTTP 200."""
    if bad_token or (token is not None and not _SCOPES & set(token.scopes)):
        return Answer(status=401, data={"errors": [{"message": "Invalid token"}]})
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return Answer(status=422, data={"errors": [{"message": "Unexpected request body: no JSON"}]})
    if isinstance(request, list):
        return Answer(data=[_answer(parts, user, one) for one in request])
    return Answer(data=_answer(parts, user, request))


def _answer(parts: Parts, user: User | None, request: Any) -> Json:
    context = Context(state=parts.state, user=user, errors=[])
    try:
        fields = _read(context, request)
        data = _resolve_all(context, "Query", None, fields, ())
    except QueryError as error:
        return {"errors": [{"message": str(error)}]}
    return {"data": data} | ({"errors": context.errors} if context.errors else {})


def _read(context: Context, request: Any) -> tuple[Field, ...]:
    """Read and check a query, and count its complexity."""
    if not isinstance(request, dict) or not isinstance(request.get("query"), str):
        raise QueryError("No query string was present")
    if len(request["query"]) > QUERY_CHARACTERS_MAX:
        raise QueryError("Query too large")
    operation = parse_query(request["query"])
    variables = _variables(operation, request.get("variables") or {})
    _check_variable_use(operation)
    binder = _Binder(operation, variables, DEPTH_MAX if context.user is not None else DEPTH_MAX_ANONYMOUS)
    fields = tuple(binder.bind(field, "Query", 1) for field in operation.fields)
    context.score = sum(complexity(field, "Query") for field in fields)
    limit = complexity_max(context.user)
    if context.score > limit:
        raise QueryError(f"Query has complexity of {context.score}, which exceeds max complexity of {limit}")
    return fields


def _variables(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, kind in operation.variables.items():
        if name in given:
            values[name] = given[name]
        elif name in operation.defaults:
            values[name] = operation.defaults[name]
        _check_value(f"Variable ${name}", kind, values.get(name))
    return values


def _check_value(what: str, kind: str, value: Any) -> None:
    """Refuse a value that is not of a type; the types are those that the schema uses."""
    if value is None:
        if kind.endswith("!"):
            raise QueryError(f"{what} of type {kind} was provided invalid value")
        return
    bare = kind.removesuffix("!")
    if bare.startswith("["):
        for item in value if isinstance(value, list) else [value]:
            _check_value(what, bare[1:-1], item)
        return
    if not isinstance(value, _PYTHON_TYPES.get(bare, (object,))) or (
        bare == "Int" and isinstance(value, bool)
    ):
        raise QueryError(f"{what} of type {kind} was provided invalid value")


def _used(value: Any) -> set[str]:
    if isinstance(value, VariableName):
        return {value.name}
    return {name for item in value for name in _used(item)} if isinstance(value, list) else set()


def _used_in(fields: Sequence[Field]) -> set[str]:
    found: set[str] = set()
    for field in fields:
        found |= _used_in(field.fields)
        for value in field.arguments.values():
            found |= _used(value)
    return found


def _check_variable_use(operation: Operation) -> None:
    used = _used_in(operation.fields)
    for name in sorted(operation.variables.keys() - used):
        raise QueryError(f"Variable ${name} is declared by anonymous query but not used")
    for name in sorted(used - operation.variables.keys()):
        raise QueryError(f"Variable ${name} is used by anonymous query but not declared")


class _Binder:
    """Checks fields against the schema, and puts the variables' values in their places."""

    def __init__(self, operation: Operation, variables: Mapping[str, Any], deepest: int) -> None:
        self._operation = operation
        self._variables = variables
        self._deepest = deepest

    def bind(self, field: Field, type_name: str, depth: int) -> Field:
        if depth > self._deepest:
            raise QueryError(f"Query has depth of {depth}, which exceeds max depth of {self._deepest}")
        kind = TYPES[type_name].get(field.name)
        if kind is None:
            raise QueryError(f"Field '{field.name}' doesn't exist on type '{type_name}'")
        if bool(field.fields) != bool(kind.type):
            need = "must have selections" if kind.type else "can't have selections"
            raise QueryError(f"Field {need} (field '{field.name}' of type '{type_name}')")
        inner = tuple(self.bind(one, kind.type, depth + 1) for one in field.fields)
        arguments = self._arguments(field, kind)
        return Field(name=field.name, alias=field.alias, arguments=arguments, fields=inner)

    def _arguments(self, field: Field, kind: FieldType) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        for name, value in field.arguments.items():
            wanted = kind.arguments.get(name)
            if wanted is None:
                raise QueryError(f"Field '{field.name}' doesn't accept argument '{name}'")
            if isinstance(value, VariableName):
                self._check_type(value.name, name, wanted)
                if value.name in self._variables:
                    arguments[name] = self._variables[value.name]
            else:
                arguments[name] = [self._filled(item) for item in value] if isinstance(value, list) else value
            _check_value(f"Argument '{name}' on Field '{field.name}'", wanted, arguments.get(name))
        for name, wanted in kind.arguments.items():
            if wanted.endswith("!") and name not in arguments:
                raise QueryError(f"Field '{field.name}' is missing required arguments: {name}")
        return arguments

    def _check_type(self, variable: str, argument: str, wanted: str) -> None:
        declared = self._operation.variables[variable]
        too_lax = wanted.endswith("!") and not declared.endswith("!")
        if declared.removesuffix("!") != wanted.removesuffix("!") or too_lax:
            raise QueryError(
                f"Type mismatch on variable ${variable} and argument {argument} ({declared} / {wanted})"
            )

    def _filled(self, value: Any) -> Any:
        return self._variables.get(value.name) if isinstance(value, VariableName) else value


def complexity(field: Field, type_name: str) -> int:
    """Compute what a field costs, with all below it, as GitLab's base field and resolvers do."""
    kind = TYPES[type_name][field.name]
    children = sum(complexity(one, kind.type) for one in field.fields)
    gitaly = 1 if kind.gitaly else 0
    if kind.resolver is None:
        return 1 + gitaly + children
    cost = children + kind.resolver(field.arguments) + gitaly
    if not kind.connection:
        return cost
    asked = [field.arguments[name] for name in ("first", "last") if field.arguments.get(name) is not None]
    rows: int = min([*asked, PAGE_ROWS_MAX])
    return cost * (100 + rows) // 100


def _resolve_all(
    context: Context, type_name: str, found: Any, fields: Sequence[Field], path: tuple[str | int, ...]
) -> Json:
    return {
        field.alias: _resolve(context, TYPES[type_name][field.name], found, field, (*path, field.alias))
        for field in fields
    }


def _resolve(context: Context, kind: FieldType, found: Any, field: Field, path: tuple[str | int, ...]) -> Any:
    try:
        value = kind.resolve(context, found, field.arguments, field)
    except FieldError as error:
        context.errors.append({"message": str(error), "path": list(path)})
        return None
    if value is None or not kind.type:
        return value
    if kind.is_list:
        rows = enumerate(value)
        return [_resolve_all(context, kind.type, row, field.fields, (*path, at)) for at, row in rows]
    return _resolve_all(context, kind.type, value, field.fields, path)
