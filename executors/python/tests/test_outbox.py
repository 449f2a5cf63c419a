"""The outbox holds a job if, and only if, the transaction commits."""

from __future__ import annotations

import json
import sqlite3
import unittest

from spinor_jobs import outbox


class Outbox(unittest.TestCase):
    def test_a_job_is_there_when_the_transaction_commits_and_not_when_it_does_not(self) -> None:
        connection = sqlite3.connect(":memory:")
        self.addCleanup(connection.close)
        connection.execute(outbox.ddl("sqlite"))
        connection.execute(outbox.ddl("sqlite"))
        outbox.add(connection.cursor(), "mail.send", {"to": "x"})
        connection.rollback()
        id = outbox.add(connection.cursor(), "mail.send", {"to": "ä"}, queue="mail", delay=60)
        connection.commit()
        rows = connection.execute("SELECT id, job, refused FROM spinor_outbox ORDER BY seq").fetchall()
        self.assertEqual([(row[0], row[2]) for row in rows], [(id, None)])
        self.assertEqual(json.loads(rows[0][1]), {"kind": "mail.send", "id": id, "args": {"to": "ä"}, "queue": "mail",
                                                  "delay": "60000ms"})

    def test_other_drivers_get_their_own_marks_and_wrong_names_are_refused(self) -> None:
        class Cursor:
            def execute(self, sql: str, row: tuple) -> None:
                self.sql = sql
        cursor = Cursor()
        outbox.add(cursor, "k", table="shop.jobs_out")
        self.assertEqual(cursor.sql, "INSERT INTO shop.jobs_out (id, job) VALUES (%s, %s)")
        self.assertIn("AUTO_INCREMENT", outbox.ddl("mysql"))
        for call in (lambda: outbox.ddl("oracle"), lambda: outbox.ddl("mysql", "a; DROP"),
                     lambda: outbox.add(cursor, "k", table="a b"), lambda: outbox.add(cursor, "k", unique="order-7")):
            self.assertRaises(ValueError, call)
