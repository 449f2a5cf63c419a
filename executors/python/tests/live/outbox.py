"""Writes an outbox as a program does. ``sqlite FILE``: a thousand and more rows in transactions, every fifth undone.

``rows N``: N rows as a driver would get them, with the statement that makes the table. Prints JSON.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any, List

from spinor_jobs import outbox


def sqlite(path: str) -> Any:
    connection = sqlite3.connect(path)
    connection.execute(outbox.ddl("sqlite"))
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, job TEXT)")
    connection.commit()
    ids: dict = {"committed": [], "undone": []}
    for number in range(125):
        cursor, some = connection.cursor(), []
        for _ in range(10):
            some.append(outbox.add(cursor, "noop", {"order": number}))
            cursor.execute("INSERT INTO orders (job) VALUES (?)", (some[-1],))
        undone = number % 5 == 4
        connection.rollback() if undone else connection.commit()
        ids["undone" if undone else "committed"] += some
    connection.close()
    return ids


def rows(count: int) -> Any:
    written: List[Any] = []

    class Cursor:
        def execute(self, sql: str, row: Any) -> None:
            written.append(row)

    for number in range(count):
        outbox.add(Cursor(), "noop", {"order": number})
    return {"ddl": outbox.ddl("mysql"), "rows": written}


if __name__ == "__main__":
    print(json.dumps(sqlite(sys.argv[2]) if sys.argv[1] == "sqlite" else rows(int(sys.argv[2]))))
