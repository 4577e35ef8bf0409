"""The registries, as the loop asks for them: an adapter of the registry client."""

from collections.abc import Callable, Iterator, Mapping

import msgspec

from imagechain.config import ConfigError
from imagechain.images.builder import INPUTS_LABEL, InputRecord
from imagechain.refs import Platform, ReferenceError, parse_reference
from imagechain.registry import AbsentError, Credential, RateLimitedError, RegistryClient, RegistryError
from imagechain.service.ports import ImageAbsent, ImageRead, ImageUnchecked

#: GitLab's registry takes any user name beside a token.
_LOGIN_NAME = "imagechain"
_decoder = msgspec.json.Decoder(dict[str, InputRecord])


class GitLabLogins(Mapping[str, Credential]):
    """The login for GitLab's own registry, where no auth file has one: GitLab's token, and for no other host.

    Args:
        host: tells that registry's host, as soon as it is known.
        token: reads the token, which may have been rotated.
    """

    def __init__(self, host: Callable[[], str | None], token: Callable[[], str]) -> None:
        self._host = host
        self._token = token

    def __getitem__(self, host: str) -> Credential:
        if host != self._host():
            raise KeyError(host)
        return Credential(_LOGIN_NAME, self._token())

    def __iter__(self) -> Iterator[str]:
        host = self._host()
        return iter(() if host is None else (host,))

    def __len__(self) -> int:
        return int(self._host() is not None)


class RegistryImages:
    """Reads images for one platform: its digest counts, not that of an index."""

    def __init__(self, client: RegistryClient, platform: Platform) -> None:
        self._client = client
        self._platform = platform

    async def read(self, reference: str) -> ImageRead | ImageAbsent | ImageUnchecked:
        """Tell what a reference names now; costs one HEAD while its digest stays. Raises nothing."""
        try:
            image = await self._client.image(parse_reference(reference), self._platform)
        except AbsentError:
            return ImageAbsent()
        except RateLimitedError as error:
            return ImageUnchecked(str(error), error.retry_after_seconds)
        except (RegistryError, ReferenceError, ConfigError) as error:
            # The token's file may be away for a moment, while it is rotated.
            return ImageUnchecked(str(error))
        return ImageRead(
            digest=image.index_digest,
            content=image.content_key,
            inputs=read_label(image.config.labels.get(INPUTS_LABEL)),
            diff_ids=image.config.diff_ids,
        )


def read_label(text: str | None) -> dict[str, str] | None:
    """Read what an image says it was built from; None where it says nothing that can be read."""
    if text is None:
        return None
    try:
        records = _decoder.decode(text)
        return {
            parse_reference(name).identity: record.content
            for name, record in records.items()
            if "@" not in name
        }
    except (msgspec.DecodeError, ReferenceError):
        return None
