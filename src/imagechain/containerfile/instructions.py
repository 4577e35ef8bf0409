"""From an instruction to what it means for images, and the checks that BuildKit makes while parsing.

Source of the rules: BuildKit's `instructions/parse.go`, `instructions/bflag.go` and
`instructions/commands_run*.go`. An instruction that has nothing to do with images, variables or files is only
checked.
"""

import re
from collections.abc import Callable

import msgspec

from imagechain.containerfile.flags import BOOL, MANY, NO_FLAGS, ONE, parse_flags
from imagechain.containerfile.lexer import Syntax
from imagechain.containerfile.lines import Instruction, split_head
from imagechain.containerfile.values import ContainerfileError
from imagechain.containerfile.words import (
    BLANKS,
    GO_BOOLEANS,
    SPACE,
    parse_heredoc,
    parse_string_array,
    split_blanks,
    split_csv,
    split_quoted,
)

#: What BuildKit accepts as the name of a stage, in lower case.
STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_DURATION_PART = re.compile(r"([0-9]*\.?[0-9]*)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_INTERVAL_SECONDS_MIN = 1e-3
_INTEGER = re.compile(r"[+-]?[0-9]+")
_ONBUILD = re.compile(rf"[{SPACE}]*ONBUILD[{SPACE}]*", re.IGNORECASE)

_COPY_FLAGS = {"chown": ONE, "from": ONE, "chmod": ONE, "link": BOOL, "exclude": MANY, "parents": BOOL}
_ADD_FLAGS = {
    "chown": ONE,
    "chmod": ONE,
    "link": BOOL,
    "keep-git-dir": BOOL,
    "checksum": ONE,
    "unpack": BOOL,
    "exclude": MANY,
}
_RUN_FLAGS = {"mount": MANY, "network": ONE, "security": ONE, "device": MANY}
_HEALTHCHECK_FLAGS = {
    "interval": ONE,
    "timeout": ONE,
    "start-period": ONE,
    "start-interval": ONE,
    "retries": ONE,
}
_INTERVALS = ("interval", "timeout", "start-period", "start-interval")


class From(msgspec.Struct, frozen=True):
    """`FROM`: the start of a stage."""

    line: int
    base: str
    #: In lower case for BuildKit, as written for buildah.
    name: str | None
    written_name: str | None
    platform: str


class Arg(msgspec.Struct, frozen=True):
    """`ARG`: names, with their defaults where they have one."""

    line: int
    pairs: list[tuple[str, str | None]]


class Env(msgspec.Struct, frozen=True):
    """`ENV`: names and values."""

    line: int
    pairs: list[tuple[str, str]]


class Copy(msgspec.Struct, frozen=True):
    """`COPY` or `ADD`."""

    line: int
    is_add: bool
    #: `--from`, empty where the build context is meant.
    source_image: str
    #: Paths as written, heredocs left out.
    sources: list[str]
    destination: str
    chown: str
    chmod: str
    checksum: str
    #: Texts of heredocs whose variables are expanded.
    texts: list[str]


class Run(msgspec.Struct, frozen=True):
    """`RUN` with mounts."""

    line: int
    #: Of each mount its fields: key in lower case, and value if it has one.
    mounts: list[list[tuple[str, str | None]]]


class Onbuild(msgspec.Struct, frozen=True):
    """`ONBUILD`: an instruction for the children."""

    line: int
    expression: str


class Words(msgspec.Struct, frozen=True):
    """Any other instruction whose words are expanded: it can fail, and changes nothing here."""

    line: int
    keyword: str
    words: list[str]


Command = From | Arg | Env | Copy | Run | Onbuild | Words


def parse_instruction(instruction: Instruction, syntax: Syntax) -> Command | None:
    """Parse and check one instruction; None: it is right, and says nothing about images.

    Raises:
        ContainerfileError: BuildKit refuses to parse it.
    """
    parse = _PARSERS.get(instruction.keyword)
    if parse is None:
        raise ContainerfileError(
            f"unknown instruction: {first_word(instruction)}; a line starts with FROM, RUN and the like",
            instruction.line,
        )
    try:
        return parse(instruction, syntax)
    except ContainerfileError as error:
        raise error.at(instruction.line) from None


def first_word(instruction: Instruction) -> str:
    """Give an instruction's first word as written."""
    return BLANKS.split(instruction.source.strip(SPACE), maxsplit=1)[0]


def _at_least_one(keyword: str) -> ContainerfileError:
    return ContainerfileError(f"{keyword} requires at least one argument")


def _parse_from(instruction: Instruction, syntax: Syntax) -> From:
    words = split_blanks(instruction.arguments)
    name = None
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2] if syntax.dialect == "buildah" else words[2].lower()
        if syntax.dialect == "buildkit" and not STAGE_NAME.fullmatch(name):
            raise ContainerfileError(
                f"invalid name for build stage: {words[2]!r}, name can't start with a number or contain "
                "symbols"
            )
    elif len(words) != 1:
        raise ContainerfileError(
            "FROM requires either one or three arguments: FROM image, or FROM image AS name; "
            "a comment needs a line of its own"
        )
    flags = parse_flags(instruction, {"platform": ONE}) if instruction.flags else {}
    return From(instruction.line, words[0], name, words[-1] if name else None, flags.get("platform", [""])[0])


def _parse_arg(instruction: Instruction, syntax: Syntax) -> Arg:
    words = split_quoted(instruction.arguments, syntax.escape)
    if not words:
        raise _at_least_one("ARG")
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and not name:
            raise ContainerfileError("ARG names can not be blank")
        pairs.append((name, value if equals else None))
    return Arg(instruction.line, pairs)


def _parse_pairs(instruction: Instruction, syntax: Syntax) -> list[tuple[str, str]]:
    """Parse `name=value name=value`, or the old form `name value with blanks`."""
    keyword = instruction.keyword
    words = split_quoted(instruction.arguments, syntax.escape)
    if instruction.flags:
        parse_flags(instruction, NO_FLAGS)
    if not words:
        raise _at_least_one(keyword)
    if "=" not in words[0]:
        name, *value = BLANKS.split(instruction.arguments, maxsplit=1)
        if not value:
            raise ContainerfileError(f"{keyword} must have two arguments: {keyword} name=value")
        if not name:
            raise ContainerfileError(f"{keyword} names can not be blank")
        return [(name, value[0])]
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ContainerfileError(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        if not name:
            raise ContainerfileError(f"{keyword} names can not be blank")
        pairs.append((name, text))
    return pairs


def _parse_env(instruction: Instruction, syntax: Syntax) -> Env:
    return Env(instruction.line, _parse_pairs(instruction, syntax))


def _parse_label(instruction: Instruction, syntax: Syntax) -> Words:
    pairs = _parse_pairs(instruction, syntax)
    return Words(instruction.line, "LABEL", [word for pair in pairs for word in pair])


def _parse_copy(instruction: Instruction, _syntax: Syntax) -> Copy:
    keyword = instruction.keyword
    words = parse_string_array(instruction.arguments)
    if words is None:
        words = split_blanks(instruction.arguments)
    if len(words) < 2:
        raise ContainerfileError(
            f"{keyword} requires at least two arguments, but only one was provided. Destination could not be "
            "determined"
        )
    flags = (
        parse_flags(instruction, _COPY_FLAGS if keyword == "COPY" else _ADD_FLAGS)
        if instruction.flags
        else {}
    )
    *sources, destination = words
    texts: list[str] = []
    if "<<" in instruction.source:
        if _is_heredoc(destination):
            raise ContainerfileError(f"{keyword} cannot accept a heredoc as a destination")
        sources = [source for source in sources if not _is_heredoc(source)]
        texts = [heredoc.text for heredoc in instruction.heredocs if heredoc.mark.expand]
    source_image, chown, chmod, checksum = (
        flags.get(name, [""])[0] for name in ("from", "chown", "chmod", "checksum")
    )
    return Copy(
        instruction.line, keyword == "ADD", source_image, sources, destination, chown, chmod, checksum, texts
    )


def _is_heredoc(word: str) -> bool:
    try:
        return parse_heredoc(word) is not None
    except ContainerfileError:
        return False


def _parse_run(instruction: Instruction, syntax: Syntax) -> Run | None:
    parse_string_array(instruction.arguments)
    if not instruction.flags:
        return None
    flags = parse_flags(instruction, _RUN_FLAGS)
    for device in flags.get("device", ()):
        _check_device(device)
    mounts = [_parse_mount(mount, syntax) for mount in flags.get("mount", ())]
    if (network := flags.get("network", ["default"])[0]) not in ("default", "none", "host"):
        raise ContainerfileError(f"invalid network mode {network!r}; use default, none or host")
    if (security := flags.get("security", ["sandbox"])[0]) not in ("insecure", "sandbox"):
        raise ContainerfileError(f"security {security!r} is not valid; use sandbox or insecure")
    return Run(instruction.line, mounts) if mounts else None


def _parse_mount(text: str, syntax: Syntax) -> list[tuple[str, str | None]]:
    if not text:
        raise ContainerfileError(
            "failed to parse csv mounts: --mount is empty; write --mount=type=...,target=..."
        )
    fields: list[tuple[str, str | None]] = []
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        fields.append((key.lower(), value if equals else None))
        if key.lower() == "from" and syntax.dialect == "buildkit" and "$" in value[:-1]:
            raise ContainerfileError(
                "'from' doesn't support variable expansion, define alias stage instead: FROM $IMAGE AS name"
            )
    return fields


def _check_device(text: str) -> None:
    name = ""
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if key == "required":
            if equals and value not in GO_BOOLEANS:
                raise ContainerfileError(f"invalid value for required: {value}")
        elif equals and key == "name":
            if name:
                raise ContainerfileError(f"device name already set to {name}")
            name = value
        elif not name:
            name = field
        elif equals:
            raise ContainerfileError(f"unexpected key '{key}' in '{field}'")
        else:
            raise ContainerfileError(f"invalid field '{field}' must be a key=value pair")


def _parse_shell_or_json(instruction: Instruction, _syntax: Syntax) -> None:
    parse_string_array(instruction.arguments)
    if instruction.flags:
        parse_flags(instruction, NO_FLAGS)


def _parse_shell(instruction: Instruction, _syntax: Syntax) -> None:
    words = parse_string_array(instruction.arguments)
    if instruction.flags:
        parse_flags(instruction, NO_FLAGS)
    if words == [] or not instruction.arguments:
        raise _at_least_one("SHELL")
    if words is None:
        raise ContainerfileError('SHELL requires the arguments to be in JSON form: SHELL ["/bin/sh", "-c"]')


def _parse_one_word(instruction: Instruction, _syntax: Syntax) -> Words | None:
    keyword = instruction.keyword
    if not instruction.arguments:
        raise ContainerfileError(f"{keyword} requires exactly one argument")
    if instruction.flags and keyword != "STOPSIGNAL":
        parse_flags(instruction, NO_FLAGS)
    return None if keyword == "MAINTAINER" else Words(instruction.line, keyword, [instruction.arguments])


def _parse_expose(instruction: Instruction, _syntax: Syntax) -> Words:
    words = split_blanks(instruction.arguments)
    if not words:
        raise _at_least_one("EXPOSE")
    if instruction.flags:
        parse_flags(instruction, NO_FLAGS)
    return Words(instruction.line, "EXPOSE", words)


def _parse_volume(instruction: Instruction, _syntax: Syntax) -> Words:
    words = parse_string_array(instruction.arguments)
    if words is None:
        words = split_blanks(instruction.arguments)
    if not words:
        raise _at_least_one("VOLUME")
    if instruction.flags:
        parse_flags(instruction, NO_FLAGS)
    if not all(word.strip(SPACE) for word in words):
        raise ContainerfileError("VOLUME specified can not be an empty string")
    return Words(instruction.line, "VOLUME", [word.strip(SPACE) for word in words])


def _parse_healthcheck(instruction: Instruction, _syntax: Syntax) -> None:
    kind, *rest = re.split(rf"[{SPACE}]+", instruction.arguments, maxsplit=1)
    if not kind:
        raise _at_least_one("HEALTHCHECK")
    command = rest[0] if rest else ""
    words = parse_string_array(command)
    if kind.upper() == "NONE":
        if words or (words is None and command):
            raise ContainerfileError("HEALTHCHECK NONE takes no arguments")
        return
    flags = parse_flags(instruction, _HEALTHCHECK_FLAGS) if instruction.flags else {}
    if kind.upper() != "CMD":
        raise ContainerfileError(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    if words == [] or not command:
        raise ContainerfileError("Missing command after HEALTHCHECK CMD")
    for name in _INTERVALS:
        _check_interval(name, flags.get(name, [""])[0])
    retries = flags.get("retries", [""])[0]
    if retries and not (_INTEGER.fullmatch(retries) and len(retries) < 12 and abs(int(retries)) < 2**31):
        raise ContainerfileError(f"parsing {retries!r}: invalid syntax for --retries; write a whole number")
    if retries and int(retries) < 0:
        raise ContainerfileError(f"--retries cannot be negative ({retries})")


def _check_interval(name: str, text: str) -> None:
    if not text:
        return
    if not _DURATION.fullmatch(text):
        raise ContainerfileError(f"time: invalid duration {text!r} of --{name}; write it like 30s")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if seconds and (seconds < _INTERVAL_SECONDS_MIN or text.startswith("-")):
        raise ContainerfileError(f'Interval "{name}" cannot be less than 1ms')


def _parse_onbuild(instruction: Instruction, syntax: Syntax) -> Onbuild:
    if not instruction.arguments:
        raise _at_least_one("ONBUILD")
    keyword, _, arguments = split_head(instruction.arguments, syntax.escape)
    if keyword in _PARSE_WHILE_SPLITTING:
        child = Instruction(instruction.line, keyword, [], arguments, [], instruction.arguments)
        _PARSE_WHILE_SPLITTING[keyword](child, syntax)
    if instruction.flags:
        parse_flags(instruction, NO_FLAGS)
    if keyword == "ONBUILD":
        raise ContainerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("MAINTAINER", "FROM"):
        raise ContainerfileError(f"{keyword} isn't allowed as an ONBUILD trigger")
    texts = [f"\n{heredoc.text}{heredoc.mark.name}" for heredoc in instruction.heredocs]
    return Onbuild(instruction.line, "".join((_ONBUILD.sub("", instruction.source, count=1), *texts)))


def _check_array(instruction: Instruction, _syntax: Syntax) -> None:
    parse_string_array(instruction.arguments)


def _check_pairs(instruction: Instruction, syntax: Syntax) -> None:
    if instruction.arguments:
        _parse_pairs(instruction, syntax)


#: What is checked of an ONBUILD's instruction where it is written; the rest is where it runs.
_PARSE_WHILE_SPLITTING: dict[str, Callable[[Instruction, Syntax], None]] = {
    **dict.fromkeys(("ADD", "COPY", "CMD", "ENTRYPOINT", "RUN", "SHELL", "VOLUME"), _check_array),
    **dict.fromkeys(("ENV", "LABEL"), _check_pairs),
}
_PARSERS: dict[str, Callable[[Instruction, Syntax], Command | None]] = {
    "ADD": _parse_copy,
    "ARG": _parse_arg,
    "CMD": _parse_shell_or_json,
    "COPY": _parse_copy,
    "ENTRYPOINT": _parse_shell_or_json,
    "ENV": _parse_env,
    "EXPOSE": _parse_expose,
    "FROM": _parse_from,
    "HEALTHCHECK": _parse_healthcheck,
    "LABEL": _parse_label,
    "MAINTAINER": _parse_one_word,
    "ONBUILD": _parse_onbuild,
    "RUN": _parse_run,
    "SHELL": _parse_shell,
    "STOPSIGNAL": _parse_one_word,
    "USER": _parse_one_word,
    "VOLUME": _parse_volume,
    "WORKDIR": _parse_one_word,
}
