import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

import imagechain.store.migrate
from imagechain.chain import BuildStarted, VersionRead
from imagechain.store import Hint, StoreLostError, StoreSetupError, open_store
from imagechain.store.database import Database, open_database
from imagechain.store.migrate import migrate
from imagechain.store.tables import metadata

SEEDS = Path(__file__).with_name("seeds")


def _revisions() -> list[str]:
    config = Config()
    folder = Path(imagechain.store.migrate.__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    return [script.revision for script in scripts][::-1]


def _seed(connection: Connection, revision: str) -> None:
    for statement in (SEEDS / f"{revision}.sql").read_text().splitlines():
        connection.exec_driver_sql(statement)


def _tables(database: Database) -> set[str]:
    with database.writing.begin() as connection:
        return set(inspect(connection).get_table_names())


def test_the_migrations_make_the_tables_that_the_store_uses(url: str) -> None:
    database = open_database(url)
    with database.writing.begin() as connection:
        migrate(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_every_revision_has_rows_to_migrate() -> None:
    assert [path.stem for path in sorted(SEEDS.glob("*.sql"))] == _revisions()


def test_rows_of_every_revision_are_read_by_this_version(url: str) -> None:
    database = open_database(url)
    for revision in _revisions():
        with database.writing.begin() as connection:
            migrate(connection, revision)
            _seed(connection, revision)
    database.close()

    store = open_store(url)
    memory = asyncio.run(store.load())
    (hint,) = asyncio.run(store.hints(9))
    assert (hint.hint, hint.received_at) == (
        Hint(kind="pipeline", project_id=7, pipeline_id=31),
        1_700_000_000.25,
    )
    assert [type(seen) for seen in memory.observations] == [VersionRead, BuildStarted]
    assert [(intent.id, intent.source, intent.project_id) for intent in memory.intents] == [
        ("i2", "images/web", 7)
    ]
    assert memory.watermarks == {"pipelines": 1_700_000_000.0}
    assert [(errand.id, errand.is_done) for errand in memory.errands] == [("1-2-3", False)]
    assert [(host.name, host.heard_at) for host in asyncio.run(store.hosts())] == [("web1", 1_700_000_005.5)]
    assert [(way.source, way.moved_at, way.is_done) for way in asyncio.run(store.ways())] == [
        ("images/base", 1_700_000_002.5, True)
    ]
    assert [build.cascade for build in asyncio.run(store.builds(9))] == ["i0"]
    lease = asyncio.run(store.take_lease("new", 30, 1_700_000_031.0))
    assert lease is not None
    assert lease.number == 5
    store.close()


def test_migrating_again_changes_nothing(url: str) -> None:
    open_store(url).close()
    database = open_database(url)
    before = _tables(database)
    database.close()
    open_store(url).close()
    database = open_database(url)
    assert _tables(database) == before
    database.close()


def test_a_migration_that_fails_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("the power went out")

    monkeypatch.setattr(Operations, "bulk_insert", fail)
    with pytest.raises(RuntimeError, match="power"):
        open_store(url)
    database = open_database(url)
    assert _tables(database) == set()
    database.close()
    monkeypatch.undo()
    open_store(url).close()


def test_a_database_of_a_newer_version_is_refused_and_not_touched(url: str) -> None:
    open_store(url).close()
    database = open_database(url)
    with database.writing.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StoreSetupError, match=r"newer imagechain.*9999"):
        open_store(url)
    database = open_database(url)
    with database.writing.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
    database.close()


def test_tables_of_another_program_are_left_alone(url: str) -> None:
    database = open_database(url)
    with database.writing.begin() as connection:
        connection.execute(text("CREATE TABLE hints (colour TEXT)"))
    database.close()
    with pytest.raises(StoreLostError, match="another program"):
        open_store(url)


def test_an_entry_of_another_version_is_told_apart(url: str) -> None:
    open_store(url).close()
    database = open_database(url)
    with database.writing.begin() as connection:
        connection.execute(text("""INSERT INTO observations (body) VALUES ('{"type":"DigestGuessed"}')"""))
    database.close()
    store = open_store(url)
    with pytest.raises(StoreLostError, match="DigestGuessed"):
        asyncio.run(store.load())
    store.close()
