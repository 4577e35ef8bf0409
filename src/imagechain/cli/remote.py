"""What a running service is asked, and told, over its HTTP API."""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec
from cyclopts import Parameter

from imagechain.cli.errors import UnavailableError, UsageError
from imagechain.cli.settings import read_service_settings
from imagechain.config import ConfigError, read_secret, secret_path

Server = Annotated[str | None, Parameter(name="--server")]
Config = Annotated[Path | None, Parameter(name="--config")]
TokenFile = Annotated[Path | None, Parameter(name="--api-token-file")]

ANSWER_SECONDS_MAX = 30.0
_NOT_FOUND = 404
_UNAUTHORIZED = 401
_FAILED = 500

T = TypeVar("T")


class _Error(msgspec.Struct, frozen=True):
    error: str


class Told(msgspec.Struct, frozen=True):
    """What the service answers to a command."""

    #: The projects for which it does something.
    ids: tuple[str, ...]
    #: What a person should know besides.
    notes: tuple[str, ...] = ()


class RemoteService:
    """A running service."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> bytes:
        """Fetch a page of it, such as `/metrics`.

        Raises:
            UnavailableError: it does not answer.
        """
        return _request("GET", f"{self.url}{path}")

    def ask(self, path: str, answer: type[T], params: Mapping[str, str] | None = None) -> T:
        """Ask it something.

        Raises:
            UsageError: it knows no such source.
            UnavailableError: it does not answer.
        """
        url = f"{self.url}/api/v1/{path}"
        return _read(url, _request("GET", url, params=params), answer)

    def tell(self, command: str, body: Mapping[str, object], token: str) -> Told:
        """Tell it to do something; gives for which projects it does so.

        Raises:
            UsageError: it knows no such source.
            ConfigError: the token is not the service's.
            UnavailableError: it does not answer.
        """
        url = f"{self.url}/api/v1/{command}"
        data = _request("POST", url, body=msgspec.json.encode(body), token=token)
        return _read(url, data, Told)

    def delete(self, path: str, token: str) -> None:
        """Tell it to forget something.

        Raises:
            UsageError: it knows no such thing.
            ConfigError: the token is not the service's.
            UnavailableError: it does not answer.
        """
        _request("DELETE", f"{self.url}/api/v1/{path}", token=token)


def find_service(server: str | None, config: Path | None) -> RemoteService:
    """Find the service: as named, or as its settings say.

    Raises:
        UsageError: what is named is no address.
        ConfigError: the settings are wrong.
    """
    if server is not None:
        if not server.startswith(("http://", "https://")):
            raise UsageError(f"--server {server!r} is no address; write one like http://127.0.0.1:8080")
        return RemoteService(server.rstrip("/"))
    settings = read_service_settings(config).server
    return RemoteService((settings.url or f"http://{settings.listen}").rstrip("/"))


def read_api_token(token_file: Path | None, config: Path | None) -> str:
    """Read the API token from the file that is named, or that the settings name.

    Raises:
        ConfigError: there is none.
    """
    if token_file is not None:
        return read_secret(token_file)
    name = read_service_settings(config).server.api_token_file
    if not name:
        raise ConfigError("what changes something needs the API token; give --api-token-file FILE")
    return read_secret(secret_path(name, os.environ))


def is_here(url: str) -> bool:
    """Tell whether an address is one of this machine only (loopback)."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _request(
    method: str,
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    body: bytes | None = None,
    token: str = "",
) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx2.request(
            method,
            url,
            params=params,
            content=body,
            headers=headers,
            timeout=ANSWER_SECONDS_MAX,
            # No proxy reaches this machine, whatever HTTP_PROXY says.
            trust_env=not is_here(url),
        )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UnavailableError(
            f"no service answers at {url}: {error}; is `imagechain serve` running there?"
        ) from error
    if answer.is_success:
        return answer.content
    try:
        why = msgspec.json.decode(answer.content, type=_Error).error
    except msgspec.DecodeError:
        # A proxy, or another program altogether.
        raise _stranger(url, f"HTTP {answer.status_code}") from None
    if answer.status_code == _UNAUTHORIZED:
        raise ConfigError(
            f"the service at {url} does not take this API token; give the one that its "
            "server.api_token_file names"
        )
    if answer.status_code < _FAILED:
        raise UsageError(why)
    raise UnavailableError(f"the service at {url} cannot answer now: {why}")


def _read(url: str, data: bytes, answer: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=answer)
    except msgspec.DecodeError as error:
        raise _stranger(url, str(error)) from error


def _stranger(url: str, answer: str) -> UnavailableError:
    return UnavailableError(
        f"what answers at {url} is no imagechain service, or a proxy before one ({answer}); "
        "check --server or server.url"
    )
