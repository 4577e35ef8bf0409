"""The command line of `podman create` and `podman run`, taken apart and put together again; pure.

Which options there are, and which take a value, is read from podman's own help: it differs from release to
release. The rules of reading are those of Go's pflag: options end at the first word that is none.
"""

import re
from collections.abc import Sequence

import msgspec

#: Options of `podman` itself that take no value; all others before the verb take one.
_GLOBAL_BOOLEANS = frozenset({"--noout", "--remote", "-r", "--syslog", "--transient-store", "--debug", "-D"})
#: Which podman the person spoke to: here it is always the one that holds the container.
_GLOBAL_DROPPED = frozenset(
    {"--remote", "-r", "--url", "--connection", "-c", "--identity", "--ssh", "--host", "-H"}
)
#: Options that `create` may not list, and that are replaced all the same: of `run`, and of a local podman.
_RUN_ONLY = {"detach": False, "sig-proxy": False, "detach-keys": True, "env-host": False}
#: Options that podman takes and does not list.
_ALIASES = {
    "net": "network",
    "dns-opt": "dns-option",
    "healthcheck-command": "health-cmd",
    "healthcheck-interval": "health-interval",
    "healthcheck-retries": "health-retries",
    "healthcheck-start-period": "health-start-period",
    "healthcheck-timeout": "health-timeout",
    "override-arch": "arch",
    "override-os": "os",
    "override-variant": "variant",
}
_HELP_LINE = re.compile(r"^\s+(?:-(?P<short>\w), )?--(?P<long>[a-z0-9-]+)(?P<value> [^\s]+)?(?:\s|$)")


class CommandLineError(Exception):
    """The command line cannot be read; the message says why."""


class Grammar(msgspec.Struct, frozen=True):
    """Which options `podman create` has."""

    #: Long name -> whether it takes a value.
    valued: dict[str, bool]
    #: One-letter name -> long name.
    short: dict[str, str]


class Option(msgspec.Struct, frozen=True):
    """One option."""

    #: Long name, without the dashes.
    name: str
    #: None for a boolean option that was written without one.
    value: str | None = None

    def __str__(self) -> str:
        return f"--{self.name}" if self.value is None else f"--{self.name}={self.value}"


class CommandLine(msgspec.Struct, frozen=True):
    """A `podman create` taken apart."""

    #: Options before the verb, as written.
    globals: tuple[str, ...]
    options: tuple[Option, ...]
    image: str
    #: What follows the image.
    arguments: tuple[str, ...]

    def argv(self) -> tuple[str, ...]:
        """Put it together again, without the program's name."""
        return (*self.globals, "create", *map(str, self.options), self.image, *self.arguments)


def read_help(text: str) -> Grammar:
    """Read which options there are from what `podman create --help` says.

    Raises:
        CommandLineError: it says nothing of options.
    """
    valued: dict[str, bool] = {}
    short: dict[str, str] = {}
    for line in text.splitlines():
        match = _HELP_LINE.match(line)
        if match is not None:
            valued[match["long"]] = match["value"] is not None
            if match["short"]:
                short[match["short"]] = match["long"]
    if "name" not in valued or "rm" not in valued:
        raise CommandLineError("`podman create --help` lists no options; is this podman?")
    return Grammar(valued, short)


def parse(argv: Sequence[str], grammar: Grammar) -> CommandLine:
    """Take the command line of a `podman run` or `podman create` apart.

    Raises:
        CommandLineError: it is none, or has an option that this podman does not list for `create`.
    """
    kept, rest = _globals(argv[1:])
    if rest[:1] == ["container"]:
        rest = rest[1:]
    if not rest or rest[0] not in {"run", "create"}:
        raise CommandLineError(f"its command is `{' '.join(argv[:3])}`, neither run nor create")
    options: list[Option] = []
    index = 1
    while index < len(rest) and rest[index].startswith("-") and rest[index] != "-":
        if rest[index] == "--":
            index += 1
            break
        found, used = _option(rest, index, grammar)
        options += found
        index += used
    if index >= len(rest):
        raise CommandLineError("its command names no image")
    return CommandLine(tuple(kept), tuple(options), rest[index], tuple(rest[index + 1 :]))


def is_service(argv: Sequence[str]) -> bool:
    """Whether it is that of podman's service: noted of what was made through the API that is Docker's."""
    return _globals(argv[1:])[1][:2] == ["system", "service"]


def _globals(words: Sequence[str]) -> tuple[list[str], list[str]]:
    kept: list[str] = []
    index = 0
    while index < len(words) and words[index].startswith("-"):
        name = words[index].partition("=")[0]
        used = 1 if name in _GLOBAL_BOOLEANS or "=" in words[index] else 2
        if name not in _GLOBAL_DROPPED:
            kept += words[index : index + used]
        index += used
    return kept, list(words[index:])


def _option(words: Sequence[str], index: int, grammar: Grammar) -> tuple[list[Option], int]:
    """Read the word at an index; return its options and the number of words that they took."""
    word = words[index]
    if not word.startswith("--"):
        return _letters(words, index, grammar)
    name, equals, value = word[2:].partition("=")
    name = _ALIASES.get(name, name)
    if equals:
        _takes_value(name, grammar)
        return [Option(name, value)], 1
    if not _takes_value(name, grammar):
        return [Option(name)], 1
    return [Option(name, _next(words, index))], 2


def _letters(words: Sequence[str], index: int, grammar: Grammar) -> tuple[list[Option], int]:
    """Read `-it`, `-eA=b`, `-e A=b`, `-p=80`."""
    options: list[Option] = []
    letters = words[index][1:]
    for position, letter in enumerate(letters):
        name = "detach" if letter == "d" else grammar.short.get(letter)
        if name is None:
            raise CommandLineError(
                f"its command has an option -{letter}, which `podman create` does not list"
            )
        rest = letters[position + 1 :]
        if rest.startswith("="):
            return [*options, Option(name, rest[1:])], 1
        if not _takes_value(name, grammar):
            options.append(Option(name))
        elif rest:
            return [*options, Option(name, rest)], 1
        else:
            return [*options, Option(name, _next(words, index))], 2
    return options, 1


def _takes_value(name: str, grammar: Grammar) -> bool:
    takes = _RUN_ONLY.get(name, grammar.valued.get(name))
    if takes is None:
        raise CommandLineError(f"its command has an option --{name}, which `podman create` has not")
    return takes


def _next(words: Sequence[str], index: int) -> str:
    if index + 1 >= len(words):
        raise CommandLineError(f"its command ends after {words[index]}")
    return words[index + 1]
