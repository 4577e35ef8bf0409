"""Files made of the tokens that matter, for hypothesis: most are wrong in some way, many are right."""

from hypothesis import strategies as st

NAMES = ("X", "Y", "_a", "TARGETARCH")
WORD_TOKENS = (
    *"$:-+?#%/\\`\"' ab1.*@}[(|^",
    *(
        "${",
        "$X",
        "${X",
        "${X}",
        "${Y:-",
        "${X#",
        "${X%%",
        "${X//",
        "${X/",
        "X",
        "_a",
        "<<",
        "é",
        "\\}",
        "\\*",
        "\\$",
        "\t",
    ),
)
LINE_TOKENS = (
    *(
        "FROM ",
        "from ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ARG ",
        "ENV ",
        "ONBUILD ",
        "LABEL ",
        "CMD ",
        "WORKDIR ",
        "HEALTHCHECK ",
    ),
    *(
        "--from=",
        "--mount=",
        "--platform=",
        "--link",
        "-- ",
        "type=cache,",
        "from=",
        "target=/x",
        "AS ",
        "scratch",
        "alpine:3",
    ),
    *(
        "a",
        "b",
        "X",
        "X=1",
        "=",
        "${X}",
        "$Y",
        "${X:-",
        "}",
        '"',
        "'",
        "\\",
        "`",
        "\\\n",
        "\n",
        "\n",
        "\n",
        "\r\n",
        " ",
        "\t",
    ),
    *(
        "<<E",
        "<<-'E'",
        "\nE\n",
        "# ",
        "# escape=`\n",
        "# syntax=a/b\n",
        '["a", "b"]',
        "[",
        "]",
        "0",
        "1",
        ".",
        "/",
        "é",
        ",",
    ),
)

words = st.lists(st.sampled_from(WORD_TOKENS), max_size=10).map("".join)
environments = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(("", "a", "aba", "a.b-a/b*", "\\")))
files = st.lists(st.sampled_from(LINE_TOKENS), max_size=40).map("".join)

_bases = st.sampled_from(
    ("alpine:3", "a", "b", "scratch", "$X", "${X:-busybox}", "quay.io/x/y@sha256:" + "0" * 64)
)
_sources = st.sampled_from(("a", "b", "B", "0", "1", "2", "busybox:1", "scratch", "reg:5000/x"))
_instructions = st.one_of(
    st.builds("FROM {}{}".format, _bases, st.sampled_from(("", " AS a", " AS b", " as B"))),
    st.builds("COPY --from={} x y".format, _sources),
    st.builds("RUN --mount=type=bind,from={},target=/x y".format, _sources),
    st.builds("ONBUILD COPY --from={} x y".format, _sources),
    st.builds("ONBUILD RUN --mount=from={},target=/x y".format, _sources),
    st.sampled_from(
        (
            "ARG X=b",
            "ENV X=$Y",
            "COPY src/ $X /d",
            "RUN <<E\nFROM evil\nE",
            "# c",
            "",
            "RUN a \\\n# c\n  b",
            'LABEL a="b c" d=$X',
            "COPY <<-'E' <<F /d/\n\tx\n\tE\n$X\nF",
            "ENV A b c",
            "ARG X Y=1",
            'CMD ["a", "b"]',
        )
    ),
)
#: Files that are nearly right.
sensible_files = st.builds(
    lambda head, first, rest, end: "\n".join((*head, first, *rest)) + end,
    st.lists(st.sampled_from(("ARG X=a", "ARG X", "ARG Y=$X-z", "# syntax=a/b:1", "")), max_size=3),
    st.builds("FROM {}".format, _bases),
    st.lists(_instructions, max_size=12),
    st.sampled_from(("", "\n")),
)
