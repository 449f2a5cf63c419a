"""The outbox: a job is published if, and only if, the caller's own database transaction commits.

``add`` writes a row into the table `spinor_outbox` of the caller's database, in the caller's transaction. Spinor's part
`recorder` publishes the rows and deletes what is confirmed; the table's contract is in ``docs/python.md``. Refuses to
commit, to connect, and to check what only a running Spinor knows.
"""

from __future__ import annotations

from typing import Any, Optional, Union

from .newjob import NewJob
from .publishing import as_job
from .values import dumps

TABLE = "spinor_outbox"

_DDL = {
    "sqlite": """CREATE TABLE IF NOT EXISTS {table} (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL,
    added TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    refused TEXT
)""",
    "mysql": """CREATE TABLE IF NOT EXISTS {table} (
    seq BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    job LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    added DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    refused TEXT CHARACTER SET utf8mb4 NULL,
    UNIQUE KEY id (id)
) ENGINE=InnoDB""",
}


def ddl(dialect: str, table: str = TABLE) -> str:
    """The statement that makes the table: for ``"mysql"`` (MariaDB, too) or ``"sqlite"``."""
    if dialect not in _DDL:
        raise ValueError(f"dialect: there is no `{dialect}`; there are {', '.join(sorted(_DDL))}")
    return _DDL[dialect].format(table=_name(table))


def add(cursor: Any, kind: Union[str, NewJob, Any], args: Any = None, *, table: str = TABLE,
        paramstyle: Optional[str] = None, **options: Any) -> str:
    """Adds a job to the outbox in the transaction of this cursor (DB-API, or Django's); the job's id.

    The forms and options are those of `spinor_jobs.publish`. ``paramstyle`` is ``"qmark"`` or ``"format"``, and found
    out for the cursors of sqlite3, of Django and of the MySQL drivers. ``unique`` is refused: a key that is taken
    would be found out after the transaction, when nobody can be told.
    """
    job = as_job(kind, args, options)
    if job.unique is not None:
        raise ValueError("unique: a job in an outbox cannot have a key; publish it through the API")
    style = paramstyle or ("qmark" if type(cursor).__module__.split(".")[0] in ("sqlite3", "_sqlite3") else "format")
    if style not in ("qmark", "format"):
        raise ValueError('paramstyle: expected "qmark" or "format"')
    mark = "?" if style == "qmark" else "%s"
    row = (job.id, dumps(job.json()).decode())
    cursor.execute(f"INSERT INTO {_name(table)} (id, job) VALUES ({mark}, {mark})", row)
    return job.id


def _name(table: str) -> str:
    if not all(part.isidentifier() and part.isascii() for part in table.split(".")):
        raise ValueError(f"table: `{table}` is no name of letters, digits and `_`, perhaps with a schema before a dot")
    return table
