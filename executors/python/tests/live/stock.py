"""A stock Celery application whose tasks are served by Spinor: ``tests.shop``, over the broker ``STOCK_BROKER``.

It knows nothing of Spinor. Its queue, ``STOCK_QUEUE``, is declared by its own first publish.
"""

from __future__ import annotations

import os
import time
import unittest
import uuid
from typing import Any, List

from celery import Celery, chain, group
from celery.exceptions import TaskRevokedError
from celery.result import ResultSet

PATIENCE = 120

app = Celery("shop", broker=os.environ["STOCK_BROKER"], backend="rpc://")
app.conf.task_default_queue = os.environ["STOCK_QUEUE"]


@app.task(name="shop.thumbnail")
def thumbnail(path: str, width: int = 10, day: Any = None) -> str:
    raise AssertionError("served elsewhere")


@app.task(name="shop.broken")
def broken(path: str) -> None:
    raise AssertionError("served elsewhere")


many: List[Any] = []


def setUpModule() -> None:
    many.extend(thumbnail.delay(f"{number}.png", width=number) for number in range(1000))
    print("published", flush=True)
    # All at once: a stock client that asks for one after the other waits a second for each that has come already.
    ResultSet(many).get(PATIENCE)


def tearDownModule() -> None:
    with app.connection_for_write() as connection:
        connection.default_channel.queue_delete(app.conf.task_default_queue)


class Stock(unittest.TestCase):
    def test_a_thousand_tasks_get_their_results(self) -> None:
        self.assertEqual([one.get(PATIENCE) for one in many], [f"{number}.png {number}" for number in range(1000)])

    def test_args_arrive_however_they_were_given(self) -> None:
        self.assertEqual(thumbnail.delay("a").get(PATIENCE), "a 10")
        self.assertEqual(thumbnail.delay(path="b", width=3).get(PATIENCE), "b 3")
        self.assertEqual(thumbnail.delay("ä", 4).get(PATIENCE), "ä 4")
        self.assertEqual(app.send_task("shop.busy").get(PATIENCE), 2)

    def test_what_fails_is_raised_with_its_class_text_and_traceback(self) -> None:
        failed = broken.delay("x.png")
        with self.assertRaisesRegex(ValueError, "no such file: x.png"):
            failed.get(PATIENCE)
        self.assertEqual(failed.state, "FAILURE")
        self.assertIn("in broken", failed.traceback)
        with self.assertRaises(Exception) as raised:
            broken.delay("paper").get(PATIENCE)
        self.assertEqual((type(raised.exception).__name__, str(raised.exception)), ("OutOfPaper", "tray 2"))
        with self.assertRaisesRegex(TypeError, "width"):
            thumbnail.delay("a", width="wide").get(PATIENCE)

    def test_a_task_waits_for_its_time_and_is_revoked_when_it_expired_before(self) -> None:
        since = time.monotonic()
        later = thumbnail.apply_async(("late",), countdown=1.5)
        # Given as `expires=`, the broker would count as well, and drop it unless it is delivered at once.
        revoked = thumbnail.apply_async(("never",), headers={"expires": "2020-01-31T12:00:00+01:00"})
        self.assertEqual(later.get(PATIENCE), "late 10")
        self.assertGreaterEqual(time.monotonic() - since, 1.5)
        with self.assertRaisesRegex(TaskRevokedError, "expired"):
            revoked.get(PATIENCE)
        self.assertEqual(revoked.state, "REVOKED")

    def test_a_group_is_joined_and_a_task_that_others_are_to_follow_fails_with_the_reason(self) -> None:
        joined = group(thumbnail.s(str(number)) for number in range(3))()
        self.assertEqual(joined.get(PATIENCE), ["0 10", "1 10", "2 10"])
        with self.assertRaisesRegex(Exception, "a chain is not honoured"):
            chain(thumbnail.s("a"), thumbnail.s()).apply_async().parent.get(PATIENCE)
        with self.assertRaisesRegex(Exception, "callbacks .* not honoured"):
            thumbnail.apply_async(("a",), link=thumbnail.s()).get(PATIENCE)

    def test_large_values_and_ids_of_any_form_come_back(self) -> None:
        self.assertEqual(len(app.send_task("shop.large", [1 << 20]).get(PATIENCE)), 1 << 20)
        id = f"order-{uuid.uuid4().hex}"
        self.assertEqual(thumbnail.apply_async(("a",), task_id=id).get(PATIENCE), "a 10")


if __name__ == "__main__":
    unittest.main()
