"""A PostgreSQL server for tests: its own data folder, reached by a Unix socket only."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

_START_SECONDS_MAX = 20


def _program(name: str) -> str:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)]))
    if path is None:
        pytest.skip(f"PostgreSQL's program {name} is not installed")
    return path


class Server:
    """Starts and stops the server; `database()` gives its one database, emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._prefix: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
            self._prefix = self._as_other_user()
        self._call(
            [_program("initdb"), "-D", str(self._data), "-U", "tests", "-A", "trust", "-N", "-E", "UTF8"]
        )

    def _as_other_user(self) -> list[str]:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("PostgreSQL refuses root, and setpriv is not installed")
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            user = pwd.getpwnam("nobody")
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def _call(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            [*self._prefix, *command],
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c max_connections=40"
        self._call(
            [
                *(_program("pg_ctl"), "-D", str(self._data), "-o", options, "-w"),
                *("-t", str(_START_SECONDS_MAX), "-l", str(self.folder / "log"), "start"),
            ]
        )

    def stop(self) -> None:
        self._call([_program("pg_ctl"), "-D", str(self._data), "-m", "immediate", "-w", "stop"])

    def url(self, database: str) -> str:
        return f"postgresql://tests@/{database}?host={self.folder}"

    def database(self) -> str:
        """Empty the database, and give its URL. (To make a new one each time takes many thousand files.)"""
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url("postgres")

    def execute(self, statement: str) -> None:
        engine = create_engine(self.url("postgres").replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement))
        engine.dispose()


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
