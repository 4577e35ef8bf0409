"""Brings the tables up to this version, in one transaction: all of it, or nothing.

Migrations go forwards only. A database that a newer imagechain has changed is refused, not guessed at.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from imagechain.store.errors import StoreLostError, StoreSetupError

_FOLDER = Path(__file__).with_name("migrations")
#: Of replicas that start at the same moment, one migrates and the others wait: any number, but always this.
_POSTGRESQL_LOCK = 0x696D6167


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that the database has not seen; the caller's transaction decides whether they stay.

    Raises:
        StoreSetupError: the database was changed by a newer version.
        StoreLostError: the tables there are none of ours.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRESQL_LOCK})")
    config = _config()
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in known:
        raise StoreSetupError(
            f"the database was changed by a newer imagechain (revision {present}): start that version, "
            "or give this one another store.url"
        )
    if present is None and connection.dialect.has_table(connection, "hints"):
        raise StoreLostError("the database has tables of another program: give imagechain one of its own")
    command.upgrade(config, revision)


def newest_revision() -> str:
    """Name the revision that `migrate` leads to."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
