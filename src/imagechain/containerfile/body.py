"""What the instructions of a needed stage read: variables, paths of the build context, and what they refuse.

Source of the rules: BuildKit's `dockerfile2llb/convert.go` (`dispatch`, `dispatchArg`, `dispatchEnv`) and
`convert_copy.go`. A stage that the target does not need is never looked at here, as BuildKit does it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from imagechain.containerfile.expand import expand
from imagechain.containerfile.instructions import Arg, Command, Copy, Env, Run, Words
from imagechain.containerfile.lexer import Syntax
from imagechain.containerfile.mounts import check_mount, clean_path
from imagechain.containerfile.values import ContainerfileError

#: Characters that all words of one file may expand to.
EXPANDED_CHARACTERS_MAX = 8 * 1024 * 1024

_HTTP = ("http://", "https://")
_GIT = re.compile(
    r"(?:https?://[^?#]*\.git(?:[?#].*)?|(?:git|ssh)://.*|[a-zA-Z0-9._-]+@[a-zA-Z0-9.-]+:.+)",
    re.IGNORECASE | re.DOTALL,
)
_DECIMAL = re.compile(r"[0-9]+")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_OCTAL = re.compile(r"0*[0-7]{1,4}")
_PORT = re.compile(
    r"(?:(?:\[[0-9a-fA-F:]*\]|[0-9.]*):)?(?:[0-9]*(?:-[0-9]+)?:)?([0-9]{1,9})(?:-([0-9]{1,9}))?(?:/(?i:tcp|udp|sctp))?"
)
_PORT_MAX = 65_535
_SIGNAL_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_SIGNALS = frozenset(
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT "  # noqa: SIM905
    "STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX".split()
) | {
    f"RT{end}{sign}{n}"
    for end, sign, most in (("MIN", "+", 15), ("MAX", "-", 14))
    for n in range(1, most + 1)
}
_DEFAULT_SYNTAX = Syntax()
#: `PATH` of a stage that starts from nothing.
_SCRATCH_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Scope(msgspec.Struct, frozen=True):
    """The variables at the end of a stage."""

    env: Mapping[str, str]
    #: Those that ENV has set, which win over those of ARG in the next stage; None: only the base image knows.
    image_env: Mapping[str, str | None]
    #: Whether the base image may set others.
    open_world: bool


SCRATCH = Scope(_SCRATCH_ENV, _SCRATCH_ENV, open_world=False)
UNKNOWN_IMAGE = Scope({}, {}, open_world=True)


class Reading:
    """What the stages of one build read, gathered while they are walked through."""

    def __init__(self, syntax: Syntax, build_args: Mapping[str, str], global_args: Mapping[str, str]) -> None:
        self.syntax = syntax
        self.build_args = build_args
        self.global_args = global_args
        #: Paths in the order they are read; a dict, for its order.
        self.paths: dict[str, None] = {}
        #: Whether some path depends on the base image.
        self.is_unknown = False
        #: First line that has a substitution which older builders refuse.
        self.modern_line: int | None = None
        self._expanded = 0

    def walk(self, commands: Sequence[Command], base: Scope) -> Scope:
        """Walk through a stage; gives its variables to the stages on it.

        Raises:
            ContainerfileError: the builder refuses an instruction.
        """
        stage = Variables(self, base)
        for command in commands:
            try:
                stage.step(command)
            except ContainerfileError as error:
                raise error.at(command.line) from None
        return stage.scope()

    def count(self, text: str) -> None:
        """Keep the expansions of a file within their bound."""
        self._expanded += len(text)
        if self._expanded > EXPANDED_CHARACTERS_MAX:
            raise ContainerfileError(
                f"the file's variables expand to more than {EXPANDED_CHARACTERS_MAX} characters; shorten them"
            )


class Variables:
    """The variables of one stage while its instructions are walked through."""

    def __init__(self, reading: Reading, base: Scope) -> None:
        self.reading = reading
        self.env = dict(base.env)
        self.image_env = dict(base.image_env)
        for name, value in base.image_env.items():
            self._set(name, value)
        self.open_world = base.open_world
        self.line = 0

    def step(self, command: Command) -> None:
        """Take one instruction."""
        self.line = command.line
        if isinstance(command, Env):
            self._env(command)
        elif isinstance(command, Arg):
            self._arg(command)
        elif isinstance(command, Copy):
            self._copy(command)
        elif isinstance(command, Run):
            self._run(command)
        elif isinstance(command, Words):
            _check_words(command.keyword, [self.expand(word) for word in command.words])

    def scope(self) -> Scope:
        """Give what a stage on this one starts with."""
        return Scope(self.env, self.image_env, self.open_world)

    def expand(self, word: str, syntax: Syntax | None = None, *, quotes: bool = True) -> str | None:
        """Expand a word; None: the base image may have a say in it."""
        reading = self.reading
        expansion = expand(
            word, self.env, syntax or reading.syntax, open_world=self.open_world, quotes=quotes
        )
        if expansion.text is not word:
            reading.count(expansion.text)
        if expansion.modern and reading.modern_line is None:
            reading.modern_line = self.line
        return None if self.open_world and expansion.unset else expansion.text

    def _set(self, name: str, value: str | None) -> None:
        if value is None:
            self.env.pop(name, None)
        else:
            self.env[name] = value

    def _env(self, command: Env) -> None:
        expanded = [(self.expand(name), self.expand(value)) for name, value in command.pairs]
        for name, value in expanded:
            if name is None:  # some variable is set, and only the base image tells which
                self.env.clear()
                self.image_env.clear()
            else:
                self._set(name, value)
                self.image_env[name] = value

    def _arg(self, command: Arg) -> None:
        reading = self.reading
        for name, default in command.pairs:
            if (given := reading.build_args.get(name)) is not None:
                self.env[name] = given
            elif default is not None:
                self._set(name, self.expand(default))
            elif (inherited := reading.global_args.get(name)) is not None:
                self.env[name] = inherited

    def _copy(self, command: Copy) -> None:
        for word in (command.chown, command.destination):
            self.expand(word)
        _check_mode(self.expand(command.chmod))
        sources = [self.expand(source) for source in command.sources]
        for text in command.texts:
            self.expand(text, _DEFAULT_SYNTAX, quotes=False)
        checksum = self.expand(command.checksum)
        if checksum != "":
            _check_checksum(checksum, sources)
        for source in sources:
            remote = source is not None and is_remote(source)
            if remote and not command.is_add:
                what = "git ref" if _GIT.fullmatch(source or "") else "URL"
                raise ContainerfileError(f"source can't be a {what} for COPY: {source}; use ADD")
            if not command.source_image and not remote:
                self._read_path(source)

    def _run(self, command: Run) -> None:
        for fields in command.mounts:
            expanded: list[tuple[str, str | None]] = []
            is_unknown = False
            for key, value in fields:
                text = None if value is None else self.expand(value)
                is_unknown = is_unknown or (value is not None and text is None)
                expanded.append((key, text))
            if is_unknown:
                self.reading.is_unknown = True
                continue
            mount = check_mount(expanded, self.reading.syntax.dialect)
            if mount.type == "bind" and not dict(expanded).get("from"):
                self._read_path(mount.source)

    def _read_path(self, path: str | None) -> None:
        if path is None:
            self.reading.is_unknown = True
            return
        if self.reading.syntax.escape == "`":
            path = path.replace("\\", "/")
        self.reading.paths[clean_path(path)] = None


def is_remote(source: str) -> bool:
    """Tell whether a source of `ADD` is an address or a git repository, and no path of the build context."""
    return source.startswith(_HTTP) or _GIT.fullmatch(source) is not None


def _check_mode(mode: str | None) -> None:
    if mode and _DECIMAL.fullmatch(mode) and not _OCTAL.fullmatch(mode):
        raise ContainerfileError(
            f"invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777"
        )


def _check_checksum(checksum: str | None, sources: Sequence[str | None]) -> None:
    if len(sources) != 1:
        raise ContainerfileError("checksum can't be specified for multiple sources")
    if sources[0] is not None and not is_remote(sources[0]):
        raise ContainerfileError("checksum requires HTTP(S) or Git sources")
    is_git = sources[0] is None or _GIT.fullmatch(sources[0])
    if checksum is not None and not is_git and not _DIGEST.fullmatch(checksum):
        raise ContainerfileError(
            f"invalid checksum digest format: {checksum}; write it like sha256:<64 digits>"
        )


def _check_words(keyword: str, words: Iterable[str | None]) -> None:
    """Check what is only known after expansion."""
    for word in words:
        if word is None:
            continue
        if keyword == "VOLUME" and not word:
            raise ContainerfileError("VOLUME specified can not be an empty string")
        if keyword == "STOPSIGNAL":
            _check_signal(word)
        if keyword == "EXPOSE":
            for port in word.split():
                _check_port(port)


def _check_signal(text: str) -> None:
    is_valid = (
        int(text) != 0 if _SIGNAL_NUMBER.fullmatch(text) else text.upper().removeprefix("SIG") in _SIGNALS
    )
    if not is_valid:
        raise ContainerfileError(f"invalid signal: {text}; write one like SIGTERM")


def _check_port(text: str) -> None:
    match = _PORT.fullmatch(text)
    if (
        match is None
        or int(match[1]) > _PORT_MAX
        or (match[2] and not int(match[1]) <= int(match[2]) <= _PORT_MAX)
    ):
        raise ContainerfileError(f"invalid containerPort: {text}; write a port, a range, or port/protocol")
