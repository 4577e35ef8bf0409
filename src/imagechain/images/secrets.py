"""Keeps secrets out of build arguments, where everybody who pulls the image can read them. Pure.

A builder writes build arguments into the history of the image. What is refused: a name whose last word says
that it is a secret, a value that the environment holds under such a name (GitLab does not tell which of its
variables are masked), and a value that looks like a key or a token. For all of these there is `--secret`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS?|(?:ACCESS|API|PRIVATE|SECRET|SIGNING)_?KEY)$",
    re.IGNORECASE,
)
_VALUE = re.compile(
    # Keys; tokens of GitLab and GitHub; addresses with a password.
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(?:gl[a-z]{2,6}-[\w-]{16,}|gh[pousr]_\w{20,})|://[^/\s:@]+:[^/\s@]+@"
)
#: Shorter values of variables are words like any other.
_VALUE_CHARACTERS_MIN = 8
_FIELDS = frozenset({"id", "src", "source", "type"})


class SecretArgumentError(ValueError):
    """A secret was given in a way that shows it, or cannot be read; the message tells the right way."""


def check_arguments(arguments: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Refuse build arguments that are secrets.

    Raises:
        SecretArgumentError: one is. The message never holds its value.
    """
    known = {
        value: name
        for name, value in environ.items()
        if _NAME.search(name) and len(value) >= _VALUE_CHARACTERS_MIN
    }
    for name, value in arguments.items():
        if not value:
            continue
        if _NAME.search(name):
            why = "is a secret by its name"
        elif value in known:
            why = f"has the value of the variable {known[value]}, a secret by its name"
        elif _VALUE.search(value):
            why = "looks like a key, a token, or an address with a password"
        else:
            continue
        raise SecretArgumentError(
            f"the build argument {name} {why}, and everybody who pulls the image could read it; write it to "
            f"a file, give --secret id={name.lower()},src=FILE, and read it in the Containerfile with "
            f"RUN --mount=type=secret,id={name.lower()} (it is then in /run/secrets/{name.lower()})"
        )


def check_secrets(secrets: Sequence[str]) -> None:
    """Refuse secrets that no builder can take.

    Raises:
        SecretArgumentError: one is not of the form `id=NAME,src=FILE`, or its file is not there.
    """
    for secret in secrets:
        fields = dict(part.partition("=")[::2] for part in secret.split(","))
        file = fields.get("src") or fields.get("source") or ""
        if not fields.get("id") or not file or not fields.keys() <= _FIELDS:
            raise SecretArgumentError(
                f"--secret {secret}: write it as id=NAME,src=FILE; GitLab gives a secret as a file where its "
                "variable is of the type File"
            )
        if not Path(file).is_file():
            raise SecretArgumentError(f"--secret {secret}: there is no file {file}")
