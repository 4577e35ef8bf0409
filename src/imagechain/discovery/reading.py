"""Reads the Containerfile of one project, for each set of build arguments that makes a difference.

Build arguments of the command line win over those of `imagechain.toml`, these over those of the CI
configuration, these over the defaults of the file. Of what a CI configuration gives, only arguments that
decide a base image count: they alone make a difference to the graph. Where its jobs give several values
(a matrix), the file is read once for each.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from imagechain.chain.values import Problem
from imagechain.containerfile import (
    Containerfile,
    ContainerfileError,
    Dialect,
    ImageDependency,
    read_containerfile,
)
from imagechain.discovery.preprocess import Preprocessed
from imagechain.refs import Platform

#: Most sets of build arguments that one file is read with; as many as GitLab allows jobs in a matrix.
READINGS_MAX = 200

_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")


class HowToRead(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all files of a tree."""

    platform: Platform
    #: What builds; None: linux/amd64.
    build_platform: Platform | None
    target: str | None
    dialect: Dialect


class Located(msgspec.Struct, frozen=True):
    """A dependency, and where it is written: after an `#include` in another file."""

    dependency: ImageDependency
    file: str
    line: int


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a Containerfile says."""

    dependencies: tuple[Located, ...] = ()
    #: What its ONBUILD instructions make the children of its image depend on.
    triggers: tuple[Located, ...] = ()
    stage_names: frozenset[str] = frozenset()
    #: The first with which it could be read.
    build_args: Mapping[str, str] = {}
    context_sources: tuple[str, ...] | None = None
    warnings: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    #: One of the problems, if the file cannot be read at all.
    refused: Problem | None = None


def refuse(problem: Problem, build_args: Mapping[str, str]) -> Reading:
    """Make the reading of a file that cannot be read."""
    return Reading(build_args=build_args, problems=(problem,), refused=problem)


def read_project(
    data: bytes,
    file: str,
    how: HowToRead,
    *,
    fixed_args: Mapping[str, str],
    ci_args: Sequence[Mapping[str, str]],
    preprocessed: Preprocessed | None,
) -> Reading:
    """Read a Containerfile with the fixed build arguments, and with each set that CI jobs give."""

    def at(line: int) -> tuple[str, int]:
        return (file, line) if preprocessed is None else preprocessed.origin(line)

    def problem(error: ContainerfileError) -> Problem:
        where, line = (file, None) if error.line is None else at(error.line)
        return Problem(file=where, line=line, message=error.message)

    try:
        first = _probe(data, how, fixed_args, ci_args)
    except ContainerfileError as error:
        return refuse(problem(error), fixed_args)
    readings: list[Containerfile] = []
    args_read: list[Mapping[str, str]] = []
    problems: list[Problem] = []
    sets = _sets_that_matter(first.arguments_used - fixed_args.keys(), ci_args)
    for chosen in sets[:READINGS_MAX]:
        try:
            readings.append(_read(data, how, {**chosen, **fixed_args}))
            args_read.append(chosen)
        except ContainerfileError as error:
            problems.append(problem(error))
    if len(sets) > READINGS_MAX:
        message = f"CI gives more than {READINGS_MAX} sets of build arguments; the rest is left out"
        problems.append(Problem(file=file, line=None, message=message))
    if not sets:
        readings, args_read = [first], [{}]
    if not readings:
        return Reading(build_args=fixed_args, problems=tuple(problems), refused=problems[0])
    triggers = [found for trigger in readings[0].triggers for found in trigger.dependencies]
    warnings = (
        Problem(file=where, line=line, message=warning.message)
        for warning in readings[0].warnings
        for where, line in (at(warning.line),)
    )
    return Reading(
        dependencies=tuple(Located(found, *at(found.line)) for found in _united(readings)),
        triggers=tuple(Located(found, *at(found.line)) for found in triggers),
        stage_names=frozenset(stage.name.lower() for stage in readings[0].stages if stage.name),
        build_args={**args_read[0], **fixed_args},
        context_sources=readings[0].context_sources,
        warnings=(*(preprocessed.warnings if preprocessed else ()), *warnings),
        problems=tuple(problems),
    )


def _read(data: bytes, how: HowToRead, build_args: Mapping[str, str]) -> Containerfile:
    return read_containerfile(
        data,
        build_args=build_args,
        platform=how.platform,
        build_platform=how.build_platform,
        target=how.target,
        dialect=how.dialect,
    )


def _probe(
    data: bytes, how: HowToRead, fixed_args: Mapping[str, str], ci_args: Sequence[Mapping[str, str]]
) -> Containerfile:
    """Read the file to learn which arguments matter; it may need one that only the CI configuration has."""
    try:
        return _read(data, how, fixed_args)
    except ContainerfileError:
        words = {word.decode() for word in _NAME.findall(data)} if ci_args else set()
        for chosen in _sets_that_matter(words - fixed_args.keys(), ci_args)[:READINGS_MAX]:
            with contextlib.suppress(ContainerfileError):
                return _read(data, how, {**chosen, **fixed_args})
        raise


def _sets_that_matter(names: AbstractSet[str], ci_args: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Reduce what CI jobs give to some names, without doubles and without sets that are part of another.

    A job that does not build (it lints, it deploys) gives fewer of the names than one that does.
    """
    if not names:
        return []
    sets = [{name: given[name] for name in sorted(names & given.keys())} for given in ci_args]
    distinct = [dict(items) for items in dict.fromkeys(tuple(given.items()) for given in sets if given)]
    return [given for given in distinct if not any(given.items() < other.items() for other in distinct)]


def _united(readings: Sequence[Containerfile]) -> list[ImageDependency]:
    """List the dependencies of all readings, in the order of lines, each once for each value."""
    found: dict[tuple[object, ...], ImageDependency] = {}
    for number, reading in enumerate(readings):
        for place, one in enumerate(reading.dependencies):
            # What two readings have in common stands at the same place of both.
            key = (place, one.image, one.of_stage)
            if number == 0 or key not in found or (one.needed and not found[key].needed):
                found[key] = one
    return sorted(found.values(), key=lambda one: one.line)
