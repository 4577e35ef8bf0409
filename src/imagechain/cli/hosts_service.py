"""`imagechain hosts token` and `hosts forget`: which hosts may report to the service."""

from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from imagechain.cli.output import print_lines
from imagechain.cli.remote import Config, Server, TokenFile, find_service, read_api_token
from imagechain.cli.settings import need_service_settings
from imagechain.cli.wiring import named_secret
from imagechain.config import ConfigError
from imagechain.service.host_tokens import HostTokens

Name = Annotated[str, Parameter(name="NAME")]


def token(host: Name, /, *, config: Config = None) -> int:
    """Make the token that a host reports to the service with; it may do nothing else, and for no other host.

    The same name gives the same token again, as long as the service's hook key stays.

    Args:
        host: The name that the host is to be known by.
        config: The settings of the service; by default imagechain.toml here, or in /etc/imagechain.
    """
    key = named_secret(need_service_settings(config).server.hook_key_file, "server.hook_key_file")
    try:
        print_lines([HostTokens(key.encode()).token(host)])
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return 0


def forget(
    host: Name, /, *, server: Server = None, config: Config = None, api_token_file: TokenFile = None
) -> int:
    """Tell the service that there is a host no more; it is known again as soon as it reports.

    Args:
        host: The name that its token was made for.
        server: Address of the service; by default that of the settings.
        config: The settings of the service.
        api_token_file: The API token.
    """
    service = find_service(server, config)
    service.delete(f"hosts/{quote(host, safe='')}", read_api_token(api_token_file, config))
    print_lines([f"{host} is forgotten"])
    return 0
