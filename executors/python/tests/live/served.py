"""Jobs of this package served by a consumer: ``tests.jobs`` as ``t.*``, in the Spinor whose data is ``SPINOR_DATA``."""

from __future__ import annotations

import unittest
from typing import Any, Dict

from spinor_jobs import Client, NewJob, Refused


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

    def test_many_jobs_run_in_warm_processes(self) -> None:
        handles = self.client.publish_batch([NewJob("t.sum", {"left": 1, "right": n}) for n in range(500)])
        self.assertEqual(set(self.client.wait_all(handles, 60).values()), {"succeeded"})


if __name__ == "__main__":
    unittest.main()
