"""Small files of our own, each one trap: what BuildKit pulls for them, or the key words of what it says."""

from collections.abc import Mapping
from dataclasses import dataclass, field

DIGEST = "sha256:" + "0123456789abcdef" * 4


@dataclass(frozen=True)
class Trap:
    """A file, and the images that a build of it pulls, or the error."""

    name: str
    file: str
    images: frozenset[str] = frozenset()
    error: str = ""
    line: int | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    platform: str = "linux/amd64"
    target: str | None = None


def good(name: str, file: str, *images: str, **options: str | Mapping[str, str]) -> Trap:
    return Trap(name, file, frozenset(map(_full, images)), **options)  # type: ignore[arg-type]


def bad(name: str, file: str, error: str, line: int | None, **options: str | Mapping[str, str]) -> Trap:
    return Trap(name, file, error=error, line=line, **options)  # type: ignore[arg-type]


def _full(image: str) -> str:
    """Write an official image's name out: `alpine:3` is docker.io/library/alpine:3."""
    return image if "/" in image else f"docker.io/library/{image}"


LINES = (
    good("no newline at the end", "FROM alpine:3", "alpine:3"),
    good("keywords in any case", "fRoM alpine:3 aS x\nfrom x", "alpine:3"),
    good("blanks around an instruction", "  \tFROM\t alpine:3  \n", "alpine:3"),
    good("a byte order mark", "\ufeffFROM alpine:3\n", "alpine:3"),
    good(
        "line ends of Windows", "# c\r\n\r\nFROM alpine:3 AS a\r\nRUN a \\\r\n  b\r\nFROM a\r\n", "alpine:3"
    ),
    good("comments may be indented", "   # FROM evil\nFROM alpine:3\n\t# FROM evil\n", "alpine:3"),
    good("a name is continued on the next line", "FROM alp\\\nine:3\n", "alpine:3"),
    good("a continuation may have blanks after it", "FROM \\ \t\nalpine:3\n", "alpine:3"),
    good("an empty line does not end a continuation", "FROM \\\n\n  \nalpine:3\n", "alpine:3"),
    good("a comment does not end a continuation", "FROM alpine:3\nRUN a \\\n# c \\\nFROM evil\n", "alpine:3"),
    good(
        "an escaped escape continues nothing", "FROM alpine:3\nRUN a \\\\\nFROM busybox\n", "busybox:latest"
    ),
    good("a continuation at the end of the file", "FROM alpine:3\nRUN a \\", "alpine:3"),
    good("a backslash alone joins", "FROM alpine:3\nRUN a \\\n\\\nFROM evil\n", "alpine:3"),
    good(
        "the backtick as escape", "# escape=`\nFROM alp`\nine:3\nRUN dir C:\\\nFROM busybox", "busybox:latest"
    ),
    good("a directive in capitals, with blanks", "#  ESCAPE  =  `  \nFROM alp`\nine:3", "alpine:3"),
    good("an indented directive", "  # escape=`\nFROM alp`\nine:3", "alpine:3"),
    good("a directive after an empty line is a comment", "\n# escape=`\nFROM alp\\\nine:3", "alpine:3"),
    good(
        "a directive after an unknown one is a comment", "# foo=1\n# escape=`\nFROM alp\\\nine:3", "alpine:3"
    ),
    good("a directive after a shebang is a comment", "#!/x\n# escape=`\nFROM alp\\\nine:3", "alpine:3"),
    good("two directives", "# syntax=a/b:1\n# escape=`\nFROM alp`\nine:3", "alpine:3"),
    bad(
        "a directive twice",
        "# escape=`\n# escape=`\nFROM a",
        "only one escape parser directive can be used",
        2,
    ),
    bad("an escape that is none", "# escape=x\nFROM a", "invalid escape token 'x' does not match", 1),
    good("options for checks", "# check=skip=all;error=true\nFROM a", "a:latest"),
    bad("wrong options for checks", "# check=foo\nFROM a", "failed to parse check options", 1),
    bad("a check that is no error", "# check=error=maybe\nFROM a", "failed to parse check options", 1),
    bad("an empty file", "", "cannot be empty", None),
    bad("comments only", "# FROM alpine\n\n", "file with no instructions", None),
    bad("no FROM", "ARG A=1\n", "contains no stages to build", None),
    bad("RUN before FROM", "ARG A\nRUN x\nFROM a", "no build stage in current context", 2),
    bad("an unknown instruction", "FROM a\n\nFORM b\n", "unknown instruction: FORM", 3),
    bad("a comment behind FROM", "FROM a # b\n", "FROM requires either one or three arguments", 1),
)

HEREDOCS = (
    good("a heredoc hides FROM", "FROM alpine:3\nRUN <<EOF\nFROM evil\nEOF\n", "alpine:3"),
    good("quoted names", "FROM alpine:3\nRUN <<'E' <<\"F\"\nFROM x\nE\nFROM y\nF\nRUN z", "alpine:3"),
    good("a quoted name with a blank", "FROM alpine:3\nRUN cat <<'E F'\nFROM x\nE F\nRUN z", "alpine:3"),
    good("tabs before the end need a dash", "FROM alpine:3\nRUN <<-E\n\tFROM x\n\tE\nRUN z", "alpine:3"),
    bad("tabs before the end without a dash", "FROM alpine:3\nRUN <<E\n\tE\n", "unterminated heredoc", 2),
    good("a blank before the name", "FROM alpine:3\nRUN cat << E\nFROM x\nE\nRUN z", "alpine:3"),
    good("a file descriptor", "FROM alpine:3\nRUN x 3<<E\nFROM x\nE\nRUN z", "alpine:3"),
    good(
        "a heredoc after a continuation", "FROM alpine:3\nRUN a \\\n && cat <<E\nFROM x\nE\nRUN z", "alpine:3"
    ),
    good("no continuation inside", "FROM alpine:3\nRUN <<E\nx \\\nE\nFROM busybox", "busybox:latest"),
    good("a shift is none", "FROM alpine:3\nRUN echo $((1<<2))\nFROM busybox", "busybox:latest"),
    good("a here-string is none", "FROM alpine:3\nRUN cat <<<x\nFROM busybox", "busybox:latest"),
    good("an escaped one is none", "FROM alpine:3\nRUN echo \\<<E\nFROM busybox", "busybox:latest"),
    good("one in quotes is none", 'FROM alpine:3\nRUN echo "<<E"\nFROM busybox', "busybox:latest"),
    good(
        "after an open quote there is none",
        "FROM alpine:3\nRUN echo it's <<E\nFROM busybox",
        "busybox:latest",
    ),
    good("only in RUN, COPY and ADD", "FROM alpine:3\nCMD cat <<E\nFROM busybox", "busybox:latest"),
    good("not in the JSON form", 'FROM alpine:3\nRUN ["cat", "<<E"]\nFROM busybox', "busybox:latest"),
    good("in ADD", "FROM alpine:3\nADD <<E /x\nFROM x\nE\nRUN z", "alpine:3"),
    good("in ONBUILD", "FROM alpine:3\nONBUILD RUN <<E\nFROM x\nE\nFROM busybox", "busybox:latest"),
    good("with line ends of Windows", "FROM alpine:3\r\nRUN <<E\r\nFROM x\r\nE\r\nRUN z", "alpine:3"),
    bad(
        "a destination is none", "FROM a\nCOPY b <<E\nE\n", "COPY cannot accept a heredoc as a destination", 2
    ),
    bad("unterminated", "FROM a\nRUN <<E\nx\n", "unterminated heredoc", 2),
    bad(
        "variables in COPY's text are lexed", "FROM a\nCOPY <<E /x\n${a^}\nE\n", "unsupported modifier (^)", 2
    ),
    good("but not with a quoted name", "FROM a\nCOPY <<'E' /x\n${a^}\nE\n", "a:latest"),
)

FROM = (
    good("an argument in an argument", "ARG A=quay.io\nARG B=$A/x/y\nFROM ${B}:1", "quay.io/x/y:1"),
    good("several arguments in one line", "ARG A=alpine B=3\nFROM $A:$B", "alpine:3"),
    good("an argument uses itself", "ARG A=alpine\nARG A=$A:3\nFROM $A", "alpine:3"),
    good("a build argument wins", "ARG A=a\nFROM $A", "b:1", build_args={"A": "b:1"}),
    good(
        "a build argument reaches defaults",
        "ARG A=a\nARG B=$A-x\nFROM $B",
        "b-x:latest",
        build_args={"A": "b"},
    ),
    good("an undeclared build argument does not", "FROM a$B", "a:latest", build_args={"B": "b"}),
    good("an argument of a stage does not", "FROM alpine AS x\nARG A=evil\nFROM busybox$A", "busybox:latest"),
    good("an unset suffix is empty", "ARG A\nFROM foo$A", "foo:latest"),
    good("an empty build argument", "ARG A=x\nFROM foo$A", "foo:latest", build_args={"A": ""}),
    good("single quotes keep the dollar", "ARG A='$B'\nFROM alpine", "alpine:latest"),
    good("quotes are removed", "FROM 'alpine':\"3\"", "alpine:3"),
    good("a quoted default with a blank", 'ARG A="b c"\nFROM x${A:+y}', "xy:latest"),
    good(
        "the platform of the target",
        "FROM x:$TARGETOS-$TARGETARCH$TARGETVARIANT",
        "x:linux-armv7",
        platform="linux/arm/v7",
    ),
    good("the platform that builds", "FROM x:$BUILDARCH", "x:amd64", platform="linux/arm64"),
    good("a platform argument can be given", "FROM x:$TARGETARCH", "x:z", build_args={"TARGETARCH": "z"}),
    good("the name of the target", "FROM x:$TARGETSTAGE AS one\n", "x:one"),
    good("the target has a default name", "FROM x:$TARGETSTAGE", "x:default"),
    bad("a blank base", "ARG A\nFROM $A\n", "base name ($A) should not be blank", 2),
    bad(
        "a blank base in a stage that nobody needs",
        "FROM $A AS x\nFROM b",
        "base name ($A) should not be blank",
        1,
    ),
    bad(
        "an invalid base in a stage that nobody needs",
        "FROM a:b:c AS x\nFROM b",
        "invalid reference format",
        1,
    ),
    bad("a required argument", "ARG A\nFROM ${A:?oops}", "A: oops", 2),
    bad("a required argument is empty", "FROM ${A:?}", "A: is not allowed to be unset", 1),
    bad("a blank in a substitution", "FROM ${A:-b c}", "FROM requires either one or three arguments", 1),
    bad("two words", "FROM a b", "FROM requires either one or three arguments", 1),
    bad("no name", "FROM a AS", "FROM requires either one or three arguments", 1),
    bad("a name with a digit first", "FROM a AS 1x", "invalid name for build stage", 1),
    bad("a name with a variable", "ARG A=b\nFROM a AS $A", "invalid name for build stage", 2),
    bad("an unknown flag", "FROM --foo=1 a", "unknown flag: --foo", 1),
    bad("a flag without a value", "FROM --platform a", "missing a value on flag: --platform", 1),
    bad("a platform that is none", "FROM --platform=what/ever/you/like a", "failed to parse platform", 1),
    bad("an empty platform", "FROM --platform=$A a", "empty platform value from expression $A", 1),
    bad("an unclosed brace", "FROM ${A", "unsupported modifier", 1),
    bad("an unclosed quote", "FROM 'a", "looking for matching single-quote", 1),
    bad("an assignment", "FROM ${A:=b}", "unsupported modifier (:=)", 1),
    bad("a digest", f"FROM alpine:3@{DIGEST[:-1]}", "invalid", 1),
    good("a tag and a digest", f"FROM alpine:3@{DIGEST}", f"alpine:3@{DIGEST}"),
    good("a digest without a tag", f"FROM alpine@{DIGEST}", f"alpine@{DIGEST}"),
    bad("capitals", "FROM Alpine", "invalid reference format", 1),
    bad("an image id", "FROM " + "0123456789abcdef" * 4, "failed to parse stage name", 1),
)

STAGES = (
    good("names are lower-cased", "FROM debian AS Base\nFROM base", "debian:latest"),
    bad("but not where they are used", "FROM debian AS Base\nFROM Base", "invalid reference format", 2),
    good("a name from an argument", "ARG A=x\nFROM debian AS x\nFROM $A", "debian:latest"),
    good("a later name replaces", "FROM a AS x\nFROM b AS x\nFROM x", "b:latest"),
    good("a stage hides an image", "FROM alpine AS alpine\nFROM alpine", "alpine:latest"),
    good("a later stage does not", "FROM x\nFROM alpine AS x", "alpine:latest"),
    good("a stage can be called scratch", "FROM a AS scratch\nFROM scratch", "a:latest"),
    good("scratch is no image", "FROM scratch\nCOPY a b"),
    good("unneeded stages are not pulled", "FROM a AS x\nCOPY --from=evil / /\nFROM b", "b:latest"),
    good("a target", "FROM a AS x\nFROM b AS y", "a:latest", target="X"),
    good("a chain of stages", "FROM a AS x\nFROM x AS y\nFROM y", "a:latest"),
    bad("an unknown target", "FROM a AS x", "target stage 'z' could not be found", None, target="z"),
    bad("a target by number", "FROM a\nFROM b", "could not be found", None, target="0"),
)

COPIES = (
    good("by number", "FROM a\nFROM b\nCOPY --from=0 x y", "a:latest", "b:latest"),
    good("by a number with zeros", "FROM a\nFROM b\nCOPY --from=00 x y", "a:latest", "b:latest"),
    good(
        "a number beyond the stages is an image named before",
        "FROM a\nCOPY --from=q x y\nFROM b\nCOPY --from=2 x y",
        "b:latest",
        "q:latest",
    ),
    good(
        "an image is numbered each time that it is named",
        "FROM a\nCOPY --from=q x y\nCOPY --from=1 x y\nCOPY --from=2 x y",
        "a:latest",
        "q:latest",
    ),
    bad("a number beyond all", "FROM a\nCOPY --from=7 x y", "invalid stage index 7", 2),
    bad("a negative number", "FROM a\nCOPY --from=-1 x y", "invalid stage index -1", 2),
    good("by name in any case", "FROM a AS Build\nFROM b\nCOPY --from=bUILD x y", "a:latest", "b:latest"),
    good(
        "with other flags", "FROM a\nCOPY --link --chown=1:1 --from=b --chmod=644 x y", "a:latest", "b:latest"
    ),
    good("after two dashes it is a file", "FROM a\nCOPY -- --from=b y", "a:latest"),
    good("after a file it is a file", "FROM a\nCOPY x --from=b y", "a:latest"),
    good("with quotes", "FROM a\nCOPY --from='b:1' x y", "a:latest", "b:1"),
    good("an empty one", "FROM a\nCOPY --from= x y", "a:latest"),
    bad(
        "a variable",
        "FROM a\nARG X=b\nCOPY --from=${X} x y",
        "variable expansion is not supported for --from",
        3,
    ),
    bad(
        "a variable in a stage that nobody needs",
        "FROM a\nCOPY --from=$X x y\nFROM b",
        "variable expansion is not supported",
        2,
    ),
    bad("from itself", "FROM a AS x\nCOPY --from=x a b", "circular dependency detected on stage: x", 1),
    bad(
        "in a circle",
        "FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nCOPY --from=x a b\nFROM c",
        "circular dependency detected",
        None,
    ),
    bad(
        "from a later stage",
        "FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nFROM x",
        'cannot copy from stage "y", it needs to be defined before current stage "x"',
        2,
    ),
    good("from a later stage, unneeded", "FROM a AS x\nCOPY --from=y a b\nFROM b AS y", "b:latest"),
    bad("twice", "FROM a\nCOPY --from=b --from=c x y", "duplicate flag specified: --from", 2),
    bad("one word", "FROM a\nCOPY x", "COPY requires at least two arguments", 2),
    bad("ADD cannot", "FROM a\nADD --from=b x y", "unknown flag: --from", 2),
    bad("an address", "FROM a\nCOPY https://example.com/x y", "source can't be a URL for COPY", 2),
    bad("a repository", "FROM a\nCOPY git@example.com:x/y.git y", "source can't be a git ref for COPY", 2),
    bad(
        "JSON that is no array of texts",
        'FROM a\nCOPY ["x", 1]',
        "arrays must be comprised of strings only",
        2,
    ),
)

MOUNTS = (
    good("a stage", "FROM a AS x\nFROM b\nRUN --mount=from=X,target=/y z", "a:latest", "b:latest"),
    good("a number is an image", "FROM a\nFROM b\nRUN --mount=from=0,target=/y z", "0:latest", "b:latest"),
    good("of a cache", "FROM a\nRUN --mount=type=cache,from=b,target=/y z", "a:latest", "b:latest"),
    good("of a tmpfs", "FROM a\nRUN --mount=type=tmpfs,from=b,target=/y z", "a:latest", "b:latest"),
    good("keys in capitals", "FROM a\nRUN --mount=TYPE=bind,FROM=b,TARGET=/y z", "a:latest", "b:latest"),
    good("the last one counts", "FROM a\nRUN --mount=from=b,from=c,target=/y z", "a:latest", "c:latest"),
    good(
        "several mounts",
        "FROM a\nRUN --mount=from=b,target=/y --mount=from=c,target=/z d",
        "a:latest",
        "b:latest",
        "c:latest",
    ),
    good(
        "on several lines",
        "FROM a\nRUN --mount=from=b,target=/y \\\n  --mount=from=c,target=/z \\\n d",
        "a:latest",
        "b:latest",
        "c:latest",
    ),
    good("with the JSON form", 'FROM a\nRUN --mount=from=b,target=/y ["z"]', "a:latest", "b:latest"),
    good("in the shell's words it is text", "FROM a\nRUN x --mount=from=b,target=/y", "a:latest"),
    good(
        "none is scratch, which may be a stage",
        "FROM b AS scratch\nFROM a\nRUN --mount=type=cache,target=/y z",
        "a:latest",
        "b:latest",
    ),
    bad(
        "a variable",
        "FROM a\nRUN --mount=from=$X,target=/y z",
        "'from' doesn't support variable expansion",
        2,
    ),
    bad(
        "of a secret",
        "FROM a\nRUN --mount=type=secret,id=x,from=b z",
        "secret mount should not have a from",
        2,
    ),
    bad("an unknown type", "FROM a\nRUN --mount=type=foo,target=/x z", 'unsupported mount type "foo"', 2),
    bad("an unknown key", "FROM a\nRUN --mount=foo=1,target=/x z", "unexpected key 'foo'", 2),
    good("an unknown key in an unneeded stage", "FROM a\nRUN --mount=foo=1 z\nFROM b", "b:latest"),
    bad("a key without a value", "FROM a\nRUN --mount=target z", "must be a key=value pair", 2),
    bad("an option of buildah's", "FROM a\nRUN --mount=target=/x,z y", "must be a key=value pair", 2),
    bad(
        "a later stage",
        "FROM a AS x\nRUN --mount=from=y,target=/y z\nFROM b AS y\nFROM x",
        "cannot mount from stage",
        2,
    ),
    bad("over everything", "FROM a\nRUN --mount=target=/ z", 'invalid mount target "/"', 2),
    bad("nothing", "FROM a\nRUN --mount= z", "failed to parse csv mounts", 2),
    bad("an unknown network", "FROM a\nRUN --network=x z", "invalid network mode", 2),
)

TRIGGERS = (
    good("of a base in the file", "FROM a AS x\nONBUILD COPY --from=q / /\nFROM x", "a:latest", "q:latest"),
    good(
        "a copy from the stage it runs in", "FROM a AS x\nONBUILD COPY --from=y b c\nFROM x AS y", "a:latest"
    ),
    good("not of the stage itself", "FROM a\nONBUILD COPY --from=q / /", "a:latest"),
    good(
        "only of the stage just below",
        "FROM a AS x\nONBUILD COPY --from=q / /\nFROM x AS y\nFROM y",
        "a:latest",
        "q:latest",
    ),
    good("a mount", "FROM a AS x\nONBUILD RUN --mount=from=q,target=/x y\nFROM x", "a:latest", "q:latest"),
    good("a stage", "FROM q AS s\nFROM a AS x\nONBUILD COPY --from=s / /\nFROM x", "a:latest", "q:latest"),
    good(
        "a stage with triggers of its own",
        "FROM z AS t\nONBUILD COPY --from=u / /\nFROM t AS s\nFROM a AS x\nONBUILD COPY --from=s / /\nFROM x",
        "a:latest",
        "u:latest",
        "z:latest",
    ),
    bad("FROM", "FROM a\nONBUILD FROM b", "FROM isn't allowed as an ONBUILD trigger", 2),
    bad("MAINTAINER", "FROM a\nONBUILD maintainer b", "MAINTAINER isn't allowed as an ONBUILD trigger", 2),
    bad(
        "ONBUILD", "FROM a\nONBUILD ONBUILD RUN b", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", 2
    ),
    bad("nothing", "FROM a\nONBUILD", "ONBUILD requires at least one argument", 2),
    good("an unknown instruction is the child's business", "FROM a\nONBUILD FOO", "a:latest"),
    bad("and the child's error", "FROM a AS x\nONBUILD FOO\nFROM x", "unknown instruction: FOO", 3),
    bad(
        "a variable is the child's error",
        "FROM a AS x\nONBUILD COPY --from=$X / /\nFROM x",
        "variable expansion is not supported",
        3,
    ),
)

OTHERS = (
    bad("ENV without a value", "FROM a\nENV x", "ENV must have two arguments", 2),
    bad("ENV without a name", "FROM a\nENV =x", "ENV names can not be blank", 2),
    bad("ENV of both forms", "FROM a\nENV a=b c", "can't find = in 'c'", 2),
    bad("ARG without a name", "FROM a\nARG =x", "ARG names can not be blank", 2),
    bad("ARG of nothing", "FROM a\nARG", "ARG requires at least one argument", 2),
    bad("LABEL of nothing", "FROM a\nLABEL", "LABEL requires at least one argument", 2),
    bad("WORKDIR of nothing", "FROM a\nWORKDIR", "WORKDIR requires exactly one argument", 2),
    bad("USER of nothing", "FROM a\nUSER", "USER requires exactly one argument", 2),
    bad("EXPOSE of nothing", "FROM a\nEXPOSE", "EXPOSE requires at least one argument", 2),
    bad("EXPOSE of no port", "FROM a\nEXPOSE web", "invalid containerPort: web", 2),
    good("EXPOSE of a range", "FROM a\nEXPOSE 80 8000-8010/udp 127.0.0.1:1:2", "a:latest"),
    bad("VOLUME of an empty text", 'FROM a\nVOLUME [""]', "VOLUME specified can not be an empty string", 2),
    bad("SHELL without JSON", "FROM a\nSHELL bash", "SHELL requires the arguments to be in JSON form", 2),
    bad("SHELL of nothing", "FROM a\nSHELL []", "SHELL requires at least one argument", 2),
    bad("HEALTHCHECK of an unknown kind", "FROM a\nHEALTHCHECK x", 'Unknown type "X" in HEALTHCHECK', 2),
    bad("HEALTHCHECK of nothing", "FROM a\nHEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD", 2),
    bad(
        "HEALTHCHECK NONE with words", "FROM a\nHEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments", 2
    ),
    bad("HEALTHCHECK too often", "FROM a\nHEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms", 2),
    bad("HEALTHCHECK without a unit", "FROM a\nHEALTHCHECK --interval=5 CMD x", "duration", 2),
    good("HEALTHCHECK", "FROM a\nHEALTHCHECK --interval=1m30.5s --retries=3 CMD x || exit 1", "a:latest"),
    bad("STOPSIGNAL of no signal", "FROM a\nSTOPSIGNAL SIGWHAT", "invalid signal: SIGWHAT", 2),
    bad("CMD with a flag", "FROM a\nCMD --x y", "unknown flag: --x", 2),
    bad("a mode that is none", "FROM a\nCOPY --chmod=999 b c", "invalid chmod parameter: '999'", 2),
    bad(
        "a checksum of a file",
        "FROM a\nADD --checksum=sha256:1 b c",
        "checksum requires HTTP(S) or Git sources",
        2,
    ),
    good("an error in a stage that nobody needs", "FROM a\nEXPOSE web\nFROM b", "b:latest"),
    bad("LABEL with an open quote", 'FROM a\nLABEL x="y', "looking for matching double-quote", 2),
    bad("a trap of the shell in WORKDIR", "FROM a\nWORKDIR ${x^}", "unsupported modifier (^)", 2),
)

ALL = (*LINES, *HEREDOCS, *FROM, *STAGES, *COPIES, *MOUNTS, *TRIGGERS, *OTHERS)
