"""What both databases say alike, but SQLAlchemy imports from two places."""

from collections.abc import Sequence

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

Insert = sqlite.Insert | postgresql.Insert


def insert_new(connection: Connection, table: Table, key: str) -> Insert:
    """Insert rows, but none whose key is there already."""
    statement: Insert = _insert(connection, table).on_conflict_do_nothing(index_elements=[key])
    return statement


def insert_or_replace(connection: Connection, table: Table, keys: Sequence[str]) -> Insert:
    """Insert rows; where one of the same keys is there, set all its columns that the new row has."""
    statement = _insert(connection, table)
    values = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in keys and not _is_counted(column.name, table)
    }
    upsert: Insert = statement.on_conflict_do_update(index_elements=list(keys), set_=values)
    return upsert


def _insert(connection: Connection, table: Table) -> Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _is_counted(name: str, table: Table) -> bool:
    """Tell whether the database numbers this column by itself."""
    return table.autoincrement_column is not None and table.autoincrement_column.name == name
