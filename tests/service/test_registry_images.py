"""What the loop is told of registries: their limits, and whatever goes wrong on this machine, are no news."""

import asyncio
from typing import Any

import pytest

from imagechain.cli.wiring import NoCache
from imagechain.config import ConfigError
from imagechain.refs import Platform
from imagechain.registry import DownError, RateLimitedError, ServerFailedError
from imagechain.service.ports import ImageUnchecked
from imagechain.service.published import Published
from imagechain.service.registry_images import RegistryImages

PLATFORM = Platform(os="linux", architecture="amd64")


class Failing:
    """A registry client that cannot tell."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def head(self, *_: object) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RateLimitedError("r.io/a", "too many requests", 90.0), 90.0),
        (DownError("r.io/a", "it failed ten times in a row", 40.0), 40.0),
        (ServerFailedError("r.io/a", "it answered 500", "see its log"), None),
        (ConfigError("cannot read the secret file gitlab-token"), None),
    ],
)
def test_what_could_not_be_read_is_unchecked_and_says_for_how_long(
    error: Exception, seconds: float | None
) -> None:
    images = RegistryImages(Failing(error), [PLATFORM], NoCache())  # type: ignore[arg-type]
    read = asyncio.run(images.read("r.io/a:latest"))
    assert isinstance(read, ImageUnchecked)
    assert read.retry_after_seconds == seconds
    # In the log, several stand beside each other.
    assert read.message.startswith("r.io/a")
    assert str(error) in read.message


def test_the_longest_wait_of_the_images_of_a_project_counts() -> None:
    readings = {"a": ImageUnchecked("x", 30.0), "b": ImageUnchecked("y"), "c": ImageUnchecked("z", 90.0)}
    assert Published(0.0, readings).retry_after_seconds == 90.0
    assert Published(0.0, {"b": ImageUnchecked("y")}).retry_after_seconds == 0.0
