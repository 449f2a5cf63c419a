"""Inline tests: jobs run at once, endings are values."""

from __future__ import annotations

import unittest
from typing import List

import spinor_jobs
from spinor_jobs import Discard, JobFailed, Retry, WaitTimeout, current_job, job, progress, publishing
from spinor_jobs.testing import inline


@job("i.flaky", retry=2)
def flaky(good_at: int) -> int:
    progress(1, 2)
    if current_job().attempt < good_at:
        raise Retry("not yet", after=5)
    double.publish(21)
    return current_job().attempt


@job("i.double")
async def double(number: int) -> int:
    return number * 2


@job("i.picky")
def picky(what: str) -> List[str]:
    double.publish(1)
    if what == "discard":
        raise Discard("no use")
    raise ValueError(what)


class Inline(unittest.TestCase):
    def test_a_publish_runs_the_job_and_its_retries_and_what_it_publishes(self) -> None:
        with inline() as published:
            handle = flaky.publish(3)
            self.assertEqual((handle.result(), handle.state), (3, "succeeded"))
            self.assertEqual([one["outcome"] for one in handle.attempts], ["retry", "retry", "succeeded"])
            self.assertEqual(handle.attempts[0]["after"], 5)
            self.assertEqual([one.value for one in published.of("i.double")], [42])
            self.assertEqual(handle.progress[0]["of"], 2)

    def test_failures_are_values_and_drop_what_was_published(self) -> None:
        with inline() as published:
            self.assertEqual((flaky.delay(9).state, flaky.publish(9).outcome), ("failed", "retry"))
            self.assertEqual((picky.publish("discard").state, picky.publish("x").message), ("discarded", "ValueError: x"))
            wrong = spinor_jobs.publish("i.double", {"number": "x"})
            self.assertEqual((wrong.state, wrong.attempts[0]["cause"]), ("failed", "args"))
            self.assertEqual(len(published.of("i.double")), 1)
            with self.assertRaises(JobFailed):
                wrong.result()

    def test_a_kind_of_another_program_is_noted_and_not_run(self) -> None:
        with inline() as published:
            handle = spinor_jobs.publish("elsewhere", {"a": 1}, queue="q", delay="5m")
            self.assertEqual((handle.state, handle.queue, published[0].args), ("queued", "q", {"a": 1}))
            with self.assertRaises(WaitTimeout):
                handle.result()

    def test_a_plain_call_and_call_need_nothing(self) -> None:
        self.assertEqual((double.call(2), double.call(number=3)), (4, 6))
        with self.assertRaises(Discard), inline():
            picky("discard")

    def test_it_ends_with_its_block(self) -> None:
        with inline():
            pass
        self.assertIsNone(publishing.current.get() or publishing.of_process)

