"""The clients over a running Spinor: ``SPINOR_DATA`` has its socket, ``SPINOR_TEST_ADDRESS`` and ``_TOKEN`` its TCP."""

from __future__ import annotations

import asyncio
import os
import time
import unittest
from datetime import datetime, timedelta, timezone

import spinor_jobs
from spinor_jobs import (AsyncClient, BatchRefused, Client, JobFailed, NewJob, Refused, Unreachable, WaitTimeout)

ADDRESS, TOKEN = os.environ["SPINOR_TEST_ADDRESS"], os.environ["SPINOR_TEST_TOKEN"]


class Api(unittest.TestCase):
    def test_a_job_is_published_waited_for_and_shown_over_each_road(self) -> None:
        for client in (Client(), Client(ADDRESS, TOKEN)):
            with client:
                handle = client.publish("command", {"argv": ["echo", "ä"]})
                report = handle.wait(30)
                self.assertEqual((report["state"], report["job"]), ("succeeded", handle.id))
                self.assertEqual(handle.show()["id"], handle.id)
                self.assertEqual(client.publish("http", {"url": "x"}).wait(30)["failure"]["cause"], "args")
        spinor_jobs.use(Client())
        self.assertIsNone(spinor_jobs.publish("noop").result(30))

    def test_a_failure_is_an_error_with_its_reason_and_a_wait_ends_in_time(self) -> None:
        client = Client()
        with self.assertRaises(JobFailed) as failed:
            client.publish("command", {"argv": ["sh", "-c", "echo no >&2; exit 7"]}).result(30)
        self.assertEqual((failed.exception.state, failed.exception.cause), ("failed", "exit"))
        self.assertIn("7", failed.exception.message)
        later = client.publish("noop", delay="1h")
        with self.assertRaises(WaitTimeout):
            client.wait(later, 0.2)
        self.assertEqual(later.cancel("not needed")["cancel_requested"]["why"], "not needed")
        with self.assertRaises(Refused) as refused:
            client.cancel("00000000-0000-7000-8000-000000000000")
        self.assertEqual(refused.exception.status, 404)

    def test_a_running_job_is_cancelled(self) -> None:
        handle = Client().publish("wait", {"seconds": 600})
        handle.cancel(why="wrong input")
        self.assertEqual(handle.wait(30)["state"], "cancelled")

    def test_a_batch_is_answered_job_by_job_and_a_repeat_is_the_same_job(self) -> None:
        client = Client()
        handles = client.publish_batch([NewJob("noop") for _ in range(200)])
        ended = client.wait_all(handles, 30)
        self.assertEqual((len(ended), set(ended.values())), (200, {"succeeded"}))
        with self.assertRaises(BatchRefused) as caught:
            client.publish_batch([NewJob("noop"), NewJob("noop", queue="nowhere")])
        [(place, problem)] = caught.exception.refused
        self.assertEqual((place, problem.field, len(caught.exception.accepted)), (1, "queue", 1))
        self.assertIn("default", problem.known)
        job = NewJob("noop")
        self.assertEqual(client.publish(job).id, client.publish(job).id)

    def test_later_unique_and_wrong_fields(self) -> None:
        client = Client()
        at = datetime.now(timezone.utc) + timedelta(seconds=1)
        self.assertGreaterEqual(client.publish("noop", at=at).wait(30)["started"], at.isoformat()[:19])
        first = client.publish("wait", {"seconds": 600}, unique="order-7")
        with self.assertRaises(Refused) as taken:
            client.publish("noop", unique="order-7")
        self.assertEqual((taken.exception.status, taken.exception.job), (409, first.id))
        same = client.publish("noop", unique={"key": "order-7", "on_conflict": "return"})
        self.assertEqual((same.id, same.existing), (first.id, True))
        first.cancel()
        with self.assertRaises(Refused) as wrong:
            client.publish("noop", priority=11)
        self.assertEqual(wrong.exception.field, "priority")

    def test_a_kept_connection_that_broke_is_replaced_and_a_wrong_place_is_named(self) -> None:
        client = Client()
        client.publish("noop")
        client._local.connection.sock.close()
        self.assertIsNone(client.publish("noop").result(30))
        for url, token in (("unix:/nowhere/spinor.sock", None), ("http://127.0.0.1:9", None)):
            with self.assertRaisesRegex(Unreachable, "spinor up"):
                Client(url, token).publish("noop")
        with self.assertRaises(Refused) as refused:
            Client(ADDRESS, "wrong").publish("noop")
        self.assertEqual(refused.exception.status, 401)
        with self.assertRaises(ValueError):
            Client("ftp://x")

    def test_the_async_client_does_the_same(self) -> None:
        async def all_of_it() -> None:
            for client in (AsyncClient(), AsyncClient(ADDRESS, TOKEN)):
                handle = await client.publish("command", {"argv": ["true"]})
                self.assertEqual((await handle.wait(30))["state"], "succeeded")
                self.assertIsNone(await client.result(handle, 30))
            many = await client.publish_batch([NewJob("noop", args={"n": n}) for n in range(20)])
            self.assertEqual(len(await asyncio.gather(*(one.wait(30) for one in many))), 20)
            self.assertEqual(set((await client.wait_all(many, 30)).values()), {"succeeded"})
            self.assertEqual(await client.gather(many, 30), [None] * 20)
            long = await client.publish("wait", {"seconds": 600})
            await long.cancel(why="enough")
            self.assertEqual((await long.wait(30))["state"], "cancelled")
            begun = time.monotonic()
            with self.assertRaises(WaitTimeout):
                await client.wait(await client.publish("noop", delay=3600), 0.2)
            self.assertLess(time.monotonic() - begun, 20)
            with self.assertRaises(Refused) as refused:
                await client.publish("noop", queue="nowhere")
            self.assertEqual(refused.exception.field, "queue")
            with self.assertRaises(Unreachable):
                await AsyncClient("unix:/nowhere/spinor.sock").publish("noop")

        asyncio.run(all_of_it())


if __name__ == "__main__":
    unittest.main()
