"""Logins as podman and docker keep them: auth files, and the credential helpers that they name.

Sources: containers-auth.json(5); docker's `config.json` and credential helper protocol. Files are read again
after a while, so that a login on the machine, or a rotated secret, needs no restart.
"""

import asyncio
import base64
import contextlib
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from imagechain.refs import DEFAULT_DOMAIN
from imagechain.registry.cache import Cache
from imagechain.registry.errors import ConfigurationError

#: Largest auth file that is read.
FILE_BYTES_MAX = 1024 * 1024
#: A login is looked up again after this time.
REMEMBERED_SECONDS_MAX = 300.0
#: A credential helper that has not answered by then is stopped.
HELPER_SECONDS_MAX = 10.0
_HELPER_BYTES_MAX = 64 * 1024
_REMEMBERED_MAX = 10_000

_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = frozenset({"index.docker.io", "registry-1.docker.io"})
#: The name by which a credential helper says that the secret is an identity token.
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - a marker, no secret
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = b"credentials not found"


class Credential(msgspec.Struct, frozen=True):
    """A login. Its `repr` tells no secret."""

    username: str
    password: str = ""
    #: An OAuth2 refresh token, used instead of the password where there is one.
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credential(username={self.username!r})"


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _AuthFile(msgspec.Struct, frozen=True):
    auths: dict[str, _Entry] = {}
    cred_helpers: dict[str, str] = msgspec.field(default={}, name="credHelpers")
    creds_store: str = msgspec.field(default="", name="credsStore")


class _HelperAnswer(msgspec.Struct, frozen=True):
    username: str = msgspec.field(default="", name="Username")
    secret: str = msgspec.field(default="", name="Secret")


_file_decoder = msgspec.json.Decoder(_AuthFile)
_helper_decoder = msgspec.json.Decoder(_HelperAnswer)


def usual_auth_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """List the places where podman and docker keep logins, in the order in which they count."""
    home = Path(environ.get("HOME") or "/")
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = environ.get("REGISTRY_AUTH_FILE")
    runtime = environ.get("XDG_RUNTIME_DIR")
    docker = environ.get("DOCKER_CONFIG")
    places = (
        Path(named) if named else None,
        Path(runtime) / "containers/auth.json" if runtime else None,
        config / "containers/auth.json",
        Path(docker) / "config.json" if docker else None,
        home / ".docker/config.json",
    )
    return tuple(place for place in places if place is not None)


def login_hint(domain: str) -> str:
    """Say how a registry gets to know a login, for people and for jobs."""
    return f"run `podman login {domain}` (in a CI job: set DOCKER_AUTH_CONFIG)"


class Credentials:
    """Finds the login for a repository, and remembers it for a while."""

    def __init__(
        self,
        usual_files: Sequence[Path],
        *,
        own_files: Mapping[str, Path],
        fallbacks: Mapping[str, Credential],
        clock: Callable[[], float],
    ) -> None:
        self._usual_files = tuple(usual_files)
        #: By registry: files of the settings, which come before the usual ones.
        self._own_files = own_files
        #: By registry: what is used where no file has an entry.
        self._fallbacks = fallbacks
        # Looking up is wrapped in a tuple: that there is no login is remembered too.
        self._found: Cache[tuple[str, str], tuple[Credential | None]] = Cache(_REMEMBERED_MAX, clock)
        self._helped: Cache[tuple[str, str], tuple[Credential | None]] = Cache(_REMEMBERED_MAX, clock)

    async def find(self, domain: str, path: str) -> Credential | None:
        """Find the login for a repository; None: nobody logged in there.

        Raises:
            ConfigurationError: an auth file or a credential helper is wrong.
        """
        found = self._found.get((domain, path))
        if found is None:
            found = (await self._search(domain, path),)
            self._found.put((domain, path), found, seconds=REMEMBERED_SECONDS_MAX)
        return found[0]

    def forget(self, domain: str, path: str) -> None:
        """Look a login up again: it was refused."""
        self._found.drop((domain, path))

    async def _search(self, domain: str, path: str) -> Credential | None:
        own = self._own_files.get(domain)
        if own is not None and not own.exists():
            raise ConfigurationError(
                str(own),
                "the auth file of the settings does not exist",
                f"write it, or mend [registry.{domain!r}]",
            )
        for file in (*([own] if own is not None else []), *self._usual_files):
            content = _read(file)
            found = None if content is None else await self._search_file(file, content, domain, path)
            if found is not None:
                return found
        return self._fallbacks.get(domain)

    async def _search_file(self, file: Path, content: _AuthFile, domain: str, path: str) -> Credential | None:
        helpers = {_normalise(key): helper for key, helper in content.cred_helpers.items()}
        if domain in helpers:
            return await self._ask_helper(file, helpers[domain], domain)
        entries = {_normalise(key): entry for key, entry in content.auths.items()}
        for key in _keys(domain, path):
            found = _decode_entry(file, key, entries[key]) if key in entries else None
            if found is not None:
                return found
        return await self._ask_helper(file, content.creds_store, domain) if content.creds_store else None

    async def _ask_helper(self, file: Path, helper: str, domain: str) -> Credential | None:
        found = self._helped.get((helper, domain))
        if found is None:
            found = (await ask_helper(file, helper, domain),)
            self._helped.put((helper, domain), found, seconds=REMEMBERED_SECONDS_MAX)
        return found[0]


def _read(file: Path) -> _AuthFile | None:
    try:
        with file.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(
            str(file), f"cannot be read: {error.strerror}", "give read access"
        ) from error
    if not data.strip():
        return None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigurationError(str(file), f"is larger than {FILE_BYTES_MAX} bytes", "is it an auth file?")
    try:
        return _file_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(
            str(file), f"is no auth file: {error}", "write it with `podman login`"
        ) from error


def _normalise(key: str) -> str:
    """Bring the key of an entry to `host` or `host/path`; docker writes URLs."""
    key = key.partition("://")[2] or key
    host, _, path = key.rstrip("/").partition("/")
    if host in _DOCKER_HUB_HOSTS:
        host = DEFAULT_DOMAIN
    return f"{host}/{path}" if path and path not in {"v1", "v2"} else host


def _keys(domain: str, path: str) -> list[str]:
    """List the keys that can be about a repository, the longest first."""
    parts = [domain, *path.split("/")]
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _decode_entry(file: Path, key: str, entry: _Entry) -> Credential | None:
    username, password = entry.username, entry.password
    if entry.auth:
        try:
            username, colon, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if not colon:
            # The text itself is a secret, so it is not shown.
            raise ConfigurationError(
                str(file),
                f"the entry for {key} is not the base64 of user:password",
                f"`podman login {key}` again",
            )
        password = password.strip("\0")
    if not username and not entry.identitytoken:
        return None
    return Credential(username, password, entry.identitytoken)


async def ask_helper(file: Path, helper: str, domain: str) -> Credential | None:
    """Ask `docker-credential-<helper>` for the login at a registry; None: it has none.

    Raises:
        ConfigurationError: the helper is missing, hangs, fails, or answers nonsense.
    """
    program = f"docker-credential-{helper}"
    if not _HELPER_NAME.fullmatch(helper):
        raise ConfigurationError(str(file), f"{helper!r} is no name of a credential helper", "mend it")
    server = _DOCKER_HUB_KEY if domain == DEFAULT_DOMAIN else domain
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigurationError(
            str(file),
            f"{program} cannot be started: {error.strerror}",
            "install it, or take it out of the file",
        ) from error
    try:
        async with asyncio.timeout(HELPER_SECONDS_MAX):
            output = await _talk(process.stdin, process.stdout, server.encode())
            await process.wait()
    except TimeoutError:
        problem = f"{program} has not answered within {HELPER_SECONDS_MAX:g} s"
        raise ConfigurationError(str(file), problem, f"try `echo {server} | {program} get`") from None
    finally:
        await _stop(process)
    if process.returncode != 0 and _NOT_FOUND in output.lower():
        return None
    try:
        answer = _helper_decoder.decode(output) if process.returncode == 0 else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = None
    if answer is None:
        problem = f"{program} did not answer as a credential helper does (exit code {process.returncode})"
        raise ConfigurationError(str(file), problem, f"try `echo {server} | {program} get`")
    if answer.username == _IDENTITY_TOKEN_USER:
        return Credential(answer.username, identity_token=answer.secret)
    return Credential(answer.username, answer.secret) if answer.username else None


async def _talk(
    stdin: asyncio.StreamWriter | None, stdout: asyncio.StreamReader | None, question: bytes
) -> bytes:
    output = bytearray()
    if stdin is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(question)
            await stdin.drain()
            stdin.close()
    while stdout is not None and (chunk := await stdout.read(_HELPER_BYTES_MAX)):
        output += chunk[: _HELPER_BYTES_MAX - len(output)]
    return bytes(output)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End a helper and what it started: it leads a process group of its own."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
