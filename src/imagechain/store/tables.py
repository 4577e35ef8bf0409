"""The tables, as the newest migration leaves them. A change here needs a migration (`migrations/versions`).

What is only read back whole is one JSON column, in the encoding of its value; what is asked for by a
condition has a column of its own.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData()

#: SQLite counts rows by itself only for the type INTEGER.
_Number = BigInteger().with_variant(Integer(), "sqlite")

#: The inbox. What was followed up stays for a while, so that doubled deliveries are known by their key.
hints = Table(
    "hints",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("received_at", Float(53), nullable=False),
    Column("is_done", Boolean, nullable=False, server_default=false()),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index(
    "hints_waiting",
    hints.c.id,
    sqlite_where=text("is_done = 0"),
    postgresql_where=text("NOT is_done"),
)

#: What was observed since the snapshot, in order.
observations = Table(
    "observations",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)

#: At most one row: what all earlier observations came to.
snapshots = Table(
    "snapshots",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

#: Builds that were decided, and of which it is not known whether they were started.
intents = Table(
    "intents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("body", Text, nullable=False),
    # One at a time for each source: whatever goes wrong above, no build is decided twice. That of a project
    # which left may be open still when another one has its path.
    UniqueConstraint("project_id", "source", name="intents_by_source"),
)

#: The history, for people to look at.
builds = Table(
    "builds",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("source", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("cascade", Text, nullable=True),
    Column("started_at", Float(53), nullable=True),
    Column("finished_at", Float(53), nullable=True),
    Index("builds_of_source", "source", "id", unique=True),
    Index("builds_of_cascade", "cascade"),
    sqlite_autoincrement=True,
)

#: What the bots do, and did lately: none is done twice.
errands = Table(
    "errands",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("is_done", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Index("errands_by_time", "at"),
)

#: Times up to which something was read.
watermarks = Table(
    "watermarks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", Float(53), nullable=False),
)

#: What can be read again at a cost, such as files by their blob ids.
cache = Table(
    "cache",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("cache_by_key", "kind", "key", unique=True),
    sqlite_autoincrement=True,
)

#: What each host runs, as it said last. Of another encoding all rows are deleted: hosts say it again soon.
hosts = Table(
    "hosts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("heard_at", Float(53), nullable=False),
    Column("body", Text, nullable=False),
)

#: How far moves of images have come on the hosts: what is known now would tell it wrongly later.
ways = Table(
    "ways",
    metadata,
    Column("source", Text, primary_key=True),
    Column("moved_at", Float(53), primary_key=True),
    Column("is_done", Boolean, nullable=False),
    Column("body", Text, nullable=False),
)

#: One row: who acts.
leases = Table(
    "leases",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("expires_at", Float(53), nullable=False),
)
