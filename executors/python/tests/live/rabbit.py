"""`RabbitClient` over a real broker with a Spinor on it: ``SPINOR_TEST_BROKER`` and ``SPINOR_TEST_PREFIX`` name them."""

from __future__ import annotations

import os
import socket
import unittest

from spinor_jobs import JobFailed, NeedsApi, NewJob, RabbitClient, Refused, Unreachable, WaitTimeout

BROKER, PREFIX = os.environ["SPINOR_TEST_BROKER"], os.environ["SPINOR_TEST_PREFIX"]


class Rabbit(unittest.TestCase):
    def setUp(self) -> None:
        self.client = RabbitClient(BROKER, PREFIX)
        self.addCleanup(self.client.close)

    def test_a_job_is_confirmed_and_its_reply_is_waited_for(self) -> None:
        client = self.client
        handle = client.publish("command", {"argv": ["echo", "hello"]}, reply=True, timeout="1m", retry={"max": 1, "first": 1},
                                expires="5m", headers={"tenant": "blue"}, priority=9)
        self.assertEqual(handle.wait(60)["stdout"]["head"], "hello\n")
        with self.assertRaises(JobFailed) as failed:
            client.publish("command", {"argv": ["false"]}, reply=True).result(60)
        self.assertEqual(failed.exception.cause, "exit")
        handles = client.publish_batch([NewJob("noop") for _ in range(3)], reply=True)
        self.assertEqual([one.wait(60)["state"] for one in handles], ["succeeded"] * 3)

    def test_a_queue_that_is_not_there_is_named(self) -> None:
        with self.assertRaises(Refused) as refused:
            self.client.publish("noop", queue="nowhere")
        self.assertEqual(refused.exception.field, "queue")

    def test_what_needs_the_api_says_so(self) -> None:
        handle = self.client.publish("noop")
        for call in (handle.cancel, handle.show, lambda: handle.wait(1), lambda: self.client.publish("noop", unique="k"),
                     lambda: self.client.publish("noop", delay=5), lambda: self.client.publish("noop", "x" * (9 << 20))):
            with self.assertRaisesRegex(NeedsApi, "Client"):
                call()

    def test_a_connection_that_broke_is_replaced_and_lost_replies_are_told(self) -> None:
        waits = self.client.publish("wait", {"seconds": 15}, reply=True)
        with self.assertRaises(WaitTimeout):
            waits.wait(0.2)
        self.client._connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        self.assertEqual(self.client.publish("noop", reply=True).wait(60)["state"], "succeeded")
        with self.assertRaisesRegex(Unreachable, "gone"):
            waits.wait(5)
        with self.assertRaises(Unreachable):
            RabbitClient("amqp://guest:guest@127.0.0.1:9/").publish("noop")


if __name__ == "__main__":
    unittest.main()
