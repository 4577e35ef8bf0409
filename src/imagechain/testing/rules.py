"""Decides `rules:`, `only:` and `except:` of jobs, as far as a simulation needs them.

The expressions of `rules:if` are read by GitLab's grammar: variables, texts, null, patterns, `==`, `!=`,
`=~`, `!~`, `&&`, `||` and parentheses. `changes:` and `exists:` count as met.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from imagechain.testing.values import SimulationError

_TOKEN = re.compile(
    r"""\s*(?:(?P<op>==|!=|=~|!~|&&|\|\||\(|\))
    |\$(?P<variable>\w+)|"(?P<double>[^"]*)"|'(?P<single>[^']*)'
    |/(?P<pattern>(?:\\.|[^/\\])+)/(?P<flags>[a-z]*)|(?P<null>null)\b)""",
    re.VERBOSE,
)


class _Pattern:
    """A pattern of an expression."""

    def __init__(self, text: str, flags: str) -> None:
        self.compiled = re.compile(text, re.IGNORECASE if "i" in flags else 0)


class _Expression:
    """Reads and computes one expression at once; `&&` binds before `||`."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text = text
        self._variables = variables
        self._tokens = list(self._tokenize(text))
        self._position = 0

    def _tokenize(self, text: str) -> Sequence[re.Match[str]]:
        tokens: list[re.Match[str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise SimulationError(f"invalid expression syntax in rules:if {text!r}")
            tokens.append(match)
            position = match.end()
        return tokens

    def value(self) -> bool:
        result = self._or()
        if self._position != len(self._tokens):
            raise SimulationError(f"invalid expression syntax in rules:if {self._text!r}")
        return bool(result)

    def _take(self, *operators: str) -> str | None:
        if self._position < len(self._tokens):
            operator: str | None = self._tokens[self._position]["op"]
            if operator in operators:
                self._position += 1
                return operator
        return None

    def _or(self) -> object:
        left = self._and()
        while self._take("||"):
            right = self._and()
            left = left or right
        return left

    def _and(self) -> object:
        left = self._comparison()
        while self._take("&&"):
            right = self._comparison()
            left = left and right
        return left

    def _comparison(self) -> object:
        left = self._operand()
        operator = self._take("==", "!=", "=~", "!~")
        if operator is None:
            return left
        right = self._operand()
        if operator in {"==", "!="}:
            return (left == right) == (operator == "==")
        if isinstance(right, str) and len(right) > 1 and right.startswith("/"):
            right = _Pattern(right[1 : right.rindex("/")], "")
        found = isinstance(right, _Pattern) and right.compiled.search(str(left or "")) is not None
        return found == (operator == "=~")

    def _operand(self) -> object:
        if self._take("("):
            inner = self._or()
            if not self._take(")"):
                raise SimulationError(f"invalid expression syntax in rules:if {self._text!r}")
            return inner
        if self._position == len(self._tokens) or self._tokens[self._position]["op"]:
            raise SimulationError(f"invalid expression syntax in rules:if {self._text!r}")
        token = self._tokens[self._position]
        self._position += 1
        if token["variable"] is not None:
            return self._variables.get(token["variable"])
        if token["pattern"] is not None:
            return _Pattern(token["pattern"], token["flags"])
        return None if token["null"] else token["double"] if token["double"] is not None else token["single"]


def expression_is_true(text: str, variables: Mapping[str, str]) -> bool:
    """Compute an expression of `rules:if`.

    Raises:
        SimulationError: it is none.
    """
    return _Expression(text, variables).value()


def decide_rules(
    rules: Sequence[Mapping[str, Any]], variables: Mapping[str, str]
) -> Mapping[str, Any] | None:
    """Find the first rule that is met; None: none is, so the job is left out."""
    for rule in rules:
        condition = rule.get("if")
        if condition is None or expression_is_true(str(condition), variables):
            return None if rule.get("when") == "never" else rule
    return None


def _matches(conditions: object, variables: Mapping[str, str]) -> bool:
    """Tell whether one of the refs of `only:` or `except:` is met."""
    if isinstance(conditions, Mapping):
        conditions = conditions.get("refs", [])
    source = variables["CI_PIPELINE_SOURCE"]
    kinds = {
        "branches": "CI_COMMIT_BRANCH" in variables,
        "tags": "CI_COMMIT_TAG" in variables,
        "schedules": source == "schedule",
        "triggers": source == "trigger",
        "pushes": source == "push",
        "pipelines": source == "pipeline",
        "api": source == "api",
        "web": source == "web",
        "merge_requests": source == "merge_request_event",
    }
    for condition in conditions if isinstance(conditions, list) else [conditions]:
        text = str(condition)
        if text in kinds:
            if kinds[text]:
                return True
        elif text.startswith("/") and text.count("/") > 1:
            if re.search(text[1 : text.rindex("/")], variables["CI_COMMIT_REF_NAME"]):
                return True
        elif text == variables["CI_COMMIT_REF_NAME"]:
            return True
    return False


def job_is_wanted(job: Mapping[str, Any], variables: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Decide whether a job is part of a pipeline; the answer is what the rule that was met says about it."""
    if "rules" in job:
        return decide_rules([rule for rule in job["rules"] or [] if isinstance(rule, Mapping)], variables)
    wanted = _matches(job.get("only", ["branches", "tags"]), variables)
    return {} if wanted and not _matches(job.get("except", []), variables) else None
