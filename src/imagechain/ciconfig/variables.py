"""CI variables: their values, a job's matrix, and the expansion of `$NAME` in texts.

Rules: GitLab Runner's `common/variables.go` for `$NAME`, `${NAME}` and `$$`, GitLab's documentation of
`variables` and `parallel:matrix`. A variable without a known value stays as it is written: never guessed.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping

import msgspec

from imagechain.ciconfig.document import Node

#: Most combinations of one job's matrix; GitLab's own limit.
MATRIX_COMBINATIONS_MAX = 200
#: Longest text that expansion may make; no image reference is longer.
EXPANDED_CHARACTERS_MAX = 8192
#: Longest chain of variables whose values name variables.
EXPANSION_DEPTH_MAX = 50

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<plain>[A-Za-z_][A-Za-z0-9_]*))"
)


class Variable(msgspec.Struct, frozen=True):
    """The value of a variable as written, and whether `$NAME` in it is expanded."""

    text: str
    expand: bool = True


class Scope:
    """The variables of one job, for one combination of its matrix."""

    def __init__(self, variables: Mapping[str, Variable]) -> None:
        self._variables = variables
        self._expanded: dict[str, str | None] = {}

    def names(self) -> Iterator[str]:
        """Names of the variables that have a value."""
        return iter(self._variables)

    def expand(self, text: str, at: Node) -> tuple[str, bool]:
        """Expand `$NAME`, `${NAME}` and `$$`; says also whether all variables were known.

        Raises:
            CiConfigError: a variable's value leads to itself, or the result is too long; `at` says where.
        """
        return self._expand(text, at, depth=0)

    def value(self, name: str, at: Node) -> str | None:
        """Value of a variable; None where it, or a variable in its value, is not known."""
        return self._value(name, at, depth=0)

    def _expand(self, text: str, at: Node, depth: int) -> tuple[str, bool]:
        if "$" not in text:
            return text, True
        known = True
        parts: list[str] = []
        position = length = 0
        for match in _VARIABLE.finditer(text):
            name = match["braced"] or match["plain"]
            value = "$" if name is None else self._value(name, at, depth)
            if value is None:
                known, value = False, match[0]
            parts += text[position : match.start()], value
            length += match.start() - position + len(value)
            position = match.end()
            if length > EXPANDED_CHARACTERS_MAX:
                raise at.error(f"its variables expand to more than {EXPANDED_CHARACTERS_MAX} characters")
        return "".join(parts) + text[position:], known

    def _value(self, name: str, at: Node, depth: int) -> str | None:
        if name in self._expanded:
            return self._expanded[name]
        variable = self._variables.get(name)
        if variable is None:
            return None
        value: str | None = variable.text
        if variable.expand:
            if depth == EXPANSION_DEPTH_MAX:
                limit = EXPANSION_DEPTH_MAX
                raise at.error(
                    f"the value of ${name} leads to itself, or through more than {limit} variables"
                )
            text, known = self._expand(variable.text, at, depth + 1)
            value = text if known else None
        self._expanded[name] = value
        return value


def read_variables(node: Node) -> dict[str, Variable]:
    """Read a `variables:` mapping, of the top level or of a job."""
    if node.value is None:
        return {}
    if not isinstance(node.value, Mapping):
        raise node.error("`variables` must be a mapping of names and values")
    variables: dict[str, Variable] = {}
    for name, entry in node.value.items():
        expand = True
        if isinstance(entry.value, Mapping):
            value = entry.value.get("value", Node("", entry.file, entry.line))
            expand = "expand" not in entry.value or entry.value["expand"].value is not False
        else:
            value = entry
        variables[name] = Variable(_scalar_text(value, f"the variable {name}"), expand)
    return variables


def read_matrix(node: Node) -> list[dict[str, Variable]]:
    """Read `parallel:matrix` into its combinations.

    Raises:
        CiConfigError: it is malformed, or has more than `MATRIX_COMBINATIONS_MAX` combinations.
    """
    if not isinstance(node.value, list):
        raise node.error("`parallel:matrix` must be a list of mappings")
    combinations: list[dict[str, Variable]] = []
    for entry in node.value:
        if not isinstance(entry.value, Mapping):
            raise entry.error("an entry of `parallel:matrix` must be a mapping of variables and their values")
        axes = [_axis(name, values) for name, values in entry.value.items()]
        count = len(combinations) + math.prod(map(len, axes))
        if count > MATRIX_COMBINATIONS_MAX:
            raise entry.error(
                f"`parallel:matrix` gives more than {MATRIX_COMBINATIONS_MAX} jobs, GitLab's limit"
            )
        combinations += (dict(combination) for combination in itertools.product(*axes))
    return combinations


def _axis(name: str, node: Node) -> list[tuple[str, Variable]]:
    values = node.value if isinstance(node.value, list) else [node]
    return [(name, Variable(_scalar_text(value, f"the matrix variable {name}"))) for value in values]


def _scalar_text(node: Node, what: str) -> str:
    """Write a scalar as GitLab hands it to jobs: `3.10` without quotes is the number 3.1."""
    match node.value:
        case bool(value):
            return "true" if value else "false"
        case str() | int() | float() as value:
            return str(value)
        case None:
            return ""
    raise node.error(f"{what} must be a text or a number")
