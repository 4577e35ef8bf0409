"""One user's podman, by its command line; decides nothing.

`Podman` is the port: the tests have a stateful twin of it in memory, and the same tests run on both. Another
user's podman is run as that user, with the runtime folder that systemd made for them.
"""

import os
import pwd
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from imagechain.hosts.command_line import Grammar, read_help
from imagechain.hosts.values import Container, Image, decode_containers, decode_images
from imagechain.images.process import Completed, ProgramError, ending, run

#: Pulling may take long; everything else is quick, but for `stop`, which has a time of its own.
_PULL_SECONDS_MAX = 3_600.0
_CALL_SECONDS_MAX = 120.0
#: How long podman may take to stop a container, besides the container's own time.
_STOP_MORE_SECONDS = 60.0
#: Of a container that did not pass: the end of what it said.
_LOG_LINES = 10
_LOG_CHARACTERS_MAX = 2_000
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Of our own environment, what podman needs to find its store, its configuration, logins and proxies.
_KEPT_VARIABLE = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|LANG|LC_.*|XDG_.*|CONTAINERS?_.*|STORAGE_.*|REGISTRY_AUTH_FILE"
    r"|SSL_CERT_.*|DBUS_SESSION_BUS_ADDRESS|.*_PROXY|.*_proxy"
)
_NONE_FOUND = re.compile(r"no such|image not known", re.IGNORECASE)


class PodmanError(Exception):
    """podman could not do it; the message says what it said."""


class User(msgspec.Struct, frozen=True):
    """Whose containers."""

    name: str
    #: Begins every command; empty for the user who runs this.
    prefix: tuple[str, ...]
    environment: dict[str, str]

    @property
    def is_self(self) -> bool:
        """Whether it is the user who runs this."""
        return not self.prefix


class Podman(Protocol):
    """What is asked of podman. Every method raises `PodmanError` where it fails."""

    async def pods(self) -> Mapping[str, str]:
        """List all containers: the name of its pod by the id of each."""
        ...

    async def containers(self, ids: Sequence[str]) -> list[Container]:
        """Inspect containers by id or name; those that do not exist are left out."""
        ...

    async def images(self, names: Sequence[str]) -> list[Image]:
        """Inspect images by id or name; those that do not exist are left out."""
        ...

    async def kept(self, repository: str) -> list[str]:
        """List the names of the images of a repository."""
        ...

    async def grammar(self) -> Grammar:
        """Tell the options of `podman create`."""
        ...

    async def pull(self, reference: str, auth_file: str) -> None:
        """Fetch an image."""
        ...

    async def tag(self, image: str, reference: str) -> None:
        """Give an image one more name, which another one may have had."""
        ...

    async def untag(self, reference: str) -> None:
        """Take a name from an image, and remove it if it has no other and nothing uses it."""
        ...

    async def create(self, argv: Sequence[str], environment: Mapping[str, str]) -> str:
        """Make a container; return its id."""
        ...

    async def rename(self, id: str, name: str) -> None:
        """Give a container another name."""
        ...

    async def start(self, id: str) -> None:
        """Start a container."""
        ...

    async def stop(self, id: str) -> None:
        """Stop a container as it wants to be stopped; no error if it is gone then."""
        ...

    async def remove(self, id: str) -> None:
        """Stop and remove a container, but none of its volumes; no error if there is none."""
        ...

    async def is_healthy(self, id: str) -> bool:
        """Run a container's health check once."""
        ...

    async def last_words(self, id: str) -> str:
        """Read the end of a container's log."""
        ...


class PodmanProgram:
    """The real one."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._grammar: Grammar | None = None

    async def pods(self) -> Mapping[str, str]:
        """List all containers: the name of its pod by the id of each."""
        done = await self._run("ps", "--all", "--pod", "--no-trunc", "--format=json")
        return {listed.id: listed.pod_name for listed in _decode(done, list[_Listed])}

    async def containers(self, ids: Sequence[str]) -> list[Container]:
        """Inspect containers by id or name; those that do not exist are left out."""
        found = decode_containers(await self._inspect("container", ids))
        # Where no container is called `db`, podman gives one whose id begins with `db`.
        return [one for one in found if one.id in ids or one.name in ids]

    async def images(self, names: Sequence[str]) -> list[Image]:
        """Inspect images by id or name; those that do not exist are left out."""
        return decode_images(await self._inspect("image", names))

    async def kept(self, repository: str) -> list[str]:
        """List the names of the images of a repository."""
        done = await self._run(
            "images", "--format={{.Repository}}:{{.Tag}}", f"--filter=reference={repository}"
        )
        return done.output.decode().split()

    async def grammar(self) -> Grammar:
        """Tell the options of `podman create`."""
        if self._grammar is None:
            self._grammar = read_help((await self._run("create", "--help")).output.decode())
        return self._grammar

    async def pull(self, reference: str, auth_file: str) -> None:
        """Fetch an image."""
        login = [f"--authfile={auth_file}"] if auth_file else []
        await self._run("pull", "--quiet", *login, reference, timeout_seconds=_PULL_SECONDS_MAX)

    async def tag(self, image: str, reference: str) -> None:
        """Give an image one more name, which another one may have had."""
        await self._run("tag", image, reference)

    async def untag(self, reference: str) -> None:
        """Take a name from an image, and remove it if it has no other and nothing uses it."""
        try:
            await self._run("rmi", reference)
        except PodmanError:
            if await self.images([reference]):
                await self._run("untag", reference)

    async def create(self, argv: Sequence[str], environment: Mapping[str, str]) -> str:
        """Make a container; return its id."""
        # Proxies are those of the container, never those of whoever runs this.
        own = {
            key: text for key, text in self._user.environment.items() if not key.lower().endswith("_proxy")
        }
        done = await self._run(*argv, environment={**environment, **own})
        return done.output.decode().split()[-1]

    async def rename(self, id: str, name: str) -> None:
        """Give a container another name."""
        await self._run("rename", id, name)

    async def start(self, id: str) -> None:
        """Start a container."""
        await self._run("start", id)

    async def stop(self, id: str) -> None:
        """Stop a container as it wants to be stopped; no error if it is gone then."""
        await self._run("stop", "--ignore", id, timeout_seconds=_PULL_SECONDS_MAX)

    async def remove(self, id: str) -> None:
        """Stop and remove a container, but none of its volumes; no error if there is none."""
        if await self.containers([id]):
            await self._run("rm", "--force", "--ignore", id, timeout_seconds=_PULL_SECONDS_MAX)

    async def is_healthy(self, id: str) -> bool:
        """Run a container's health check once."""
        done = await self._call(["healthcheck", "run", id])
        return done.exit_code == 0

    async def last_words(self, id: str) -> str:
        """Read the end of a container's log."""
        done = await self._call(["logs", f"--tail={_LOG_LINES}", id])
        return (done.output.decode(errors="replace") + done.error)[-_LOG_CHARACTERS_MAX:].strip()

    async def _inspect(self, kind: str, names: Sequence[str]) -> bytes:
        if not names:
            return b"[]"
        done = await self._call([kind, "inspect", *names])
        # What does not exist is told on standard error; the others are printed all the same.
        if done.exit_code != 0 and not _NONE_FOUND.search(done.error):
            raise PodmanError(_failure(done))
        return done.output.strip() or b"[]"

    async def _run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = _CALL_SECONDS_MAX,
    ) -> Completed:
        done = await self._call(arguments, environment=environment, timeout_seconds=timeout_seconds)
        if done.exit_code != 0:
            raise PodmanError(_failure(done))
        return done

    async def _call(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = _CALL_SECONDS_MAX,
    ) -> Completed:
        try:
            return await run(
                (*self._user.prefix, "podman", *arguments),
                timeout_seconds=timeout_seconds,
                environment=environment or self._user.environment,
            )
        except ProgramError as error:
            raise PodmanError(str(error)) from error


class _Listed(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    pod_name: str = ""


def _decode(done: Completed, kind: type[list[_Listed]]) -> list[_Listed]:
    try:
        return msgspec.json.decode(done.output.strip() or b"[]", type=kind)
    except msgspec.DecodeError as error:
        raise PodmanError(f"podman ps: its answer cannot be read: {error}") from error


def _failure(done: Completed) -> str:
    """Tell what failed, without arguments: they may hold secrets."""
    words = [word for word in done.argv if not word.startswith("-")]
    verb = words[words.index("podman") + 1] if "podman" in words else words[0]
    said = [line for line in done.error.splitlines() if "level=warning" not in line]
    return f"podman {verb}: {' '.join(said).removeprefix('Error: ').strip() or ending(done.exit_code)}"


class NoUserError(Exception):
    """There is no such user, or this process may not act for them; the message says what to do."""


def find_user(name: str, environ: Mapping[str, str]) -> User:
    """Tell how to run podman for a user; an empty name: for the one who runs this.

    Raises:
        NoUserError: there is no such user, they have no runtime folder, or root would be needed.
    """
    kept = {key: text for key, text in environ.items() if _KEPT_VARIABLE.fullmatch(key)}
    me = _own_name()
    if name in {"", me}:
        return User(me, (), {"PATH": _SEARCH_PATH, "HOME": str(Path.home()), **kept})
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise NoUserError(f"hosts.users: there is no user {name!r} on this host") from error
    if os.geteuid() != 0:
        raise NoUserError(
            f"hosts.users: {me} cannot look after containers of {name}; run this as root or as {name}"
        )
    runtime = Path(f"/run/user/{entry.pw_uid}")
    if not runtime.is_dir():
        raise NoUserError(
            f"hosts.users: {name} has no {runtime}; `loginctl enable-linger {name}` makes it at each boot"
        )
    environment = {
        "PATH": _SEARCH_PATH,
        "HOME": entry.pw_dir,
        "USER": name,
        "LOGNAME": name,
        "XDG_RUNTIME_DIR": str(runtime),
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus",
    }
    proxies = {key: text for key, text in kept.items() if key.lower().endswith("_proxy")}
    prefix = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups", "--")
    return User(name, (*prefix, "env", "--chdir=/"), {**environment, **proxies})


def _own_name() -> str:
    """Name of the user who runs this; their number, where no name is known."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
