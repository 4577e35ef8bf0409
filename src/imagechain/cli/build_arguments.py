"""Build arguments, as commands that build or read Containerfiles take them."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from cyclopts import Parameter

from imagechain.cli.errors import UsageError

BuildArguments = Annotated[
    tuple[str, ...], Parameter(name="--build-arg", negative=(), consume_multiple=False)
]


def parse_build_arguments(arguments: Sequence[str]) -> Mapping[str, str]:
    """Split `NAME=VALUE` arguments.

    Raises:
        UsageError: one of them is of another form.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise UsageError(f"--build-arg {argument}: write it as NAME=VALUE")
        values[name] = value
    return values
