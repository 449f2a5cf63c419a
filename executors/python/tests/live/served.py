"""Jobs of this package served by a consumer: ``tests.jobs`` as ``t.*``, in the Spinor whose data is ``SPINOR_DATA``."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any, Dict

from spinor_jobs import (AsyncClient, Client, JobFailed, Member, NewJob, Refused, RunFailed, chain, chord, group, previous,
                         value_of)


class Served(unittest.TestCase):
    def setUp(self) -> None:
        self.client = Client()
        self.addCleanup(self.client.close)

    def ends(self, kind: str, args: Any = None) -> Dict[str, Any]:
        return self.client.publish(kind, args).wait(60)

    def test_a_value_a_log_and_a_forking_job_arrive_as_they_are(self) -> None:
        size = {"size": {"width": 3}, "at": "2030-01-01T00:00:00Z", "names": ["ä"]}
        self.assertEqual(self.ends("t.typed", size)["value"], {"area": 30, "year": 2030, "names": ["ä"]})
        noise = self.ends("t.noise", {})
        self.assertEqual(noise["stdout"]["head"], "on stdout\nraw\n")
        self.assertIn("WARN careful: 7", noise["stderr"]["head"])
        self.assertEqual(self.ends("t.forks", {})["value"], 14)

    def test_each_ending_is_recorded_as_what_it_is(self) -> None:
        table = [("discard", "discarded", "withdrawn"), ("key", "discarded", "KeyError"), ("plain", "failed", "RuntimeError"),
                 ("exit", "failed", "sys.exit"), ("object", "failed", "carried"), ("huge", "failed", "at most")]
        for what, state, word in table:
            report = self.ends("t.raises", {"what": what})
            self.assertEqual(report["state"], state, what)
            self.assertIn(word, report["failure"]["message"])
        try:
            self.assertEqual(self.ends("t.sum", {"left": "x", "right": 2})["failure"]["cause"], "args")
        except Refused as refused:  # Once the schema is known, nobody publishes it.
            self.assertIn("left", f"{refused.field} {refused}")

    def test_sync_and_async_jobs_end_when_they_are_cancelled(self) -> None:
        for kind in ("t.async_forever", "t.swallows", "t.blocked"):
            handle = self.client.publish(kind, {})
            handle.cancel(why="wrong input")
            self.assertEqual(handle.wait(60)["state"], "cancelled", kind)

    def test_what_a_job_publishes_is_there_when_it_succeeded(self) -> None:
        id = self.client.publish("t.passes_on", {"number": 41}).result(60)
        self.assertEqual(self.client.result(id, 60), 42)

    def test_a_run_of_jobs_is_published_and_waited_for_with_the_values_of_its_members(self) -> None:
        def add(left: Any, right: Any) -> NewJob:
            return NewJob("t.sum", {"left": left, "right": right})

        plan = chord(group(add(1, 2), chain(add(3, 4), add(previous, 10))), NewJob("t.echo", {"parts": previous}))
        run = self.client.run(plan, name="sums", finally_=add(value_of("t.sum"), 0))
        self.assertEqual(run.results(60), {"t.sum": 3, "t.sum-2": 7, "t.sum-3": 17, "t.echo": {"parts": [3, 17]}})
        self.assertEqual((run.member("t.sum-3").result(60), run.member("finally").result(60)), (17, 3))
        failing = self.client.run([Member(NewJob("t.raises", {"what": "plain"}), "bad"), Member(add(1, 1), "good"),
                                   Member(add(value_of("bad"), 1), "after")], on_failure="go_on")
        with self.assertRaises(RunFailed) as failed:
            failing.results(60)
        self.assertEqual([one[:2] for one in failed.exception.failed], [("bad", "failed"), ("after", "skipped")])
        with self.assertRaises(JobFailed):
            failing.member("bad").result(60)
        failing.retry()
        self.assertEqual(failing.wait(60)["replay"], 1)  # Not the end before it.
        with self.assertRaises(Refused) as refused:
            self.client.run(chain(add(1, 1), NewJob("t.sum", queue="nowhere")))
        self.assertEqual(refused.exception.field, "members[1].queue")

        async def again() -> Any:
            run = await AsyncClient().run(chain(add(1, 1), add(previous, 1)))
            return await run.results(60), (await run.show())["succeeded"], await run.member("t.sum-2").result(60)

        self.assertEqual(asyncio.run(again()), ({"t.sum": 2, "t.sum-2": 3}, True, 3))
        long = self.client.run(chain(NewJob("t.async_forever"), add(1, 1)))
        long.cancel(why="enough")
        self.assertFalse(long.wait(60)["succeeded"])

    def test_many_jobs_run_in_warm_processes(self) -> None:
        handles = self.client.publish_batch([NewJob("t.sum", {"left": 1, "right": n}) for n in range(500)])
        self.assertEqual(set(self.client.wait_all(handles, 60).values()), {"succeeded"})
        self.assertEqual(self.client.gather(handles, 60), [1 + n for n in range(500)])


if __name__ == "__main__":
    unittest.main()
