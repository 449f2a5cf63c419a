"""The executor over a real process, seen from the consumer's end of its socket."""

from __future__ import annotations

import os
import sys
import unittest
from typing import Any, Dict, List, Tuple

from spinor_jobs.conformance.program import Program

HERE = [sys.executable, "-m", "spinor_jobs", "tests.jobs"]


def program() -> Program:
    return Program(HERE, 20.0)


class Executor(unittest.TestCase):
    def frames(self, served: Program, execution: str) -> Tuple[List[Dict[str, Any]], Dict[str, Any]]:
        before = []
        while True:
            frame = served.read()
            if frame["type"] == "result":
                self.assertEqual(frame["execution"], execution)
                return before, frame
            before.append(frame)

    def test_hello_names_the_kinds_with_their_schemas(self) -> None:
        with program() as served:
            about = {one["kind"]: one for one in served.about["kinds"]}
            self.assertEqual(about["t.typed"]["description"], "Takes everything apart.")
            self.assertEqual(about["t.sum"]["schema"]["required"], ["left", "right"])
            self.assertEqual((served.about["program"], served.about["language"]), ("tests.jobs", "python"))

    def test_typed_jobs_sync_and_async_run_and_wrong_args_name_their_field(self) -> None:
        with program() as served:
            args = {"size": {"width": 3}, "at": "2030-01-31T12:00:00Z", "names": ["ä"]}
            self.assertEqual(served.run("t.typed", args)["value"], {"area": 30, "year": 2030, "names": ["ä"]})
            self.assertEqual(served.run("t.sum", {"left": 1, "right": 2})["value"], 3)
            wrong = served.run("t.typed", {**args, "size": {"width": "3"}})
            self.assertEqual((wrong["outcome"], wrong["cause"]), ("failed", "args"))
            self.assertEqual(wrong["message"], "`size.width`: expected a whole number, got text")
            who = served.run("t.who")
            self.assertEqual(who["value"], {"attempt": 1, "queue": "default", "in_thread": True, "last": True})

    def test_each_way_to_end_is_an_outcome(self) -> None:
        with program() as served:
            def run(what: str) -> Dict[str, Any]:
                return served.run("t.raises", {"what": what})
            retry = run("retry")
            self.assertEqual((retry["outcome"], retry["after"], retry["reason"]), ("retry", 60, "busy"))
            self.assertEqual((run("discard")["reason"], run("key")["reason"]), ("withdrawn", "KeyError: 'lost'"))
            failed = run("plain")
            self.assertEqual((failed["outcome"], failed["message"]), ("failed", "RuntimeError: plain"))
            self.assertIn('raise RuntimeError(what)', failed["detail"])
            self.assertNotIn("spinor_jobs", failed["detail"], "our own frames are of no use to a reader")
            grouped = served.run("t.group")
            self.assertEqual((grouped["outcome"], grouped["after"]), ("retry", 2))
            table = [("exit", "sys.exit"), ("surrogate", "udcff"), ("nan", "carried"), ("object", "carried"),
                     ("text", "no UTF-8"), ("huge", "at most")]
            for what, word in table:
                result = run(what)
                self.assertEqual(result["outcome"], "failed", what)
                self.assertIn(word, result["message"])
            self.assertEqual(served.run("t.sum", {"left": 2, "right": 2})["value"], 4)

    def test_progress_is_thinned_out_and_what_is_no_number_is_left_out(self) -> None:
        with program() as served:
            before, result = self.frames(served, served.start("t.progress"))
            self.assertEqual((result["outcome"], before[-1]["done"]), ("succeeded", 4))
            self.assertLess(len(before), 200)

    def test_prints_are_the_log_and_log_records_are_frames(self) -> None:
        with program() as served:
            before, result = self.frames(served, served.start("t.noise"))
            self.assertEqual(result["value"], 1)
            logs = [(frame["level"], frame["text"]) for frame in before if frame["type"] == "log"]
            self.assertEqual(logs, [("warn", "careful: 7")])
            served.ping()
            self.assertEqual(served.wrote("stdout", b"raw\n").decode(), "on stdout\nraw\n")
            self.assertIn(b"on stderr", served.wrote("stderr", b"on stderr"))

    def test_an_async_job_is_cancelled_at_its_await_and_cleans_up(self) -> None:
        with program() as served:
            execution = served.start("t.async_forever")
            served.ping()
            served.send({"type": "cancel", "execution": execution, "why": "timeout", "message": "4 min"})
            result = served.result(execution)
            self.assertEqual((result["outcome"], result["message"]), ("failed", "cancelled: timeout: 4 min"))
            self.assertEqual(served.wrote("stdout", b"up\n"), b"cleaned up\n")
            self.assertEqual(served.run("t.sum", {"left": 1, "right": 1})["value"], 2)

    def test_a_sync_job_is_cut_by_its_checks_or_by_sigterm_and_the_process_lives_on(self) -> None:
        with program() as served:
            execution = served.start("t.swallows")
            served.send({"type": "cancel", "execution": execution, "why": "cancelled", "message": ""})
            self.assertEqual(served.result(execution)["message"], "cancelled: cancelled")
            execution = served.start("t.blocked")
            served.ping()
            served.send({"type": "cancel", "execution": execution, "why": "drain", "message": "deploy"})
            served.ping()  # It heard, and blocks on.
            os.kill(served.process.pid, 15)
            self.assertEqual(served.result(execution)["message"], "cancelled: drain: deploy")
            self.assertEqual(served.run("t.terminates_itself")["message"], "cancelled: signal: SIGTERM")
            self.assertEqual(served.run("t.sum", {"left": 1, "right": 1})["value"], 2)

    def test_a_job_that_forks_sends_one_result_and_its_children_none(self) -> None:
        with program() as served:
            execution = served.start("t.forks")
            before, result = self.frames(served, execution)
            self.assertEqual(result["value"], 14)
            self.assertFalse([frame for frame in before if frame["type"] == "progress"])
            served.ping()
            served.send({"type": "bye"})
            self.assertIsNone(served.next())
            self.assertEqual(served.exits(20), 0)

    def test_what_a_job_publishes_is_asked_for_early_and_late_and_a_refusal_is_an_error(self) -> None:
        with program() as served:
            for wait in (0, 0.5):  # Before and after the watcher reads.
                execution = served.start("t.publishes", {"wait": wait})
                first = served.until("publish")
                self.assertEqual(first["jobs"][0]["delay"], "30000ms")
                self.assertEqual(first["jobs"][0]["unique"], {"key": "k"})
                served.send({"type": "ping", "n": 1})
                self.assertEqual(served.until("pong")["n"], 1)
                served.send({"type": "published", "execution": execution, "number": first["number"], "ids": ["a"]})
                second = served.until("publish")
                self.assertEqual((second["jobs"][0]["queue"], second["number"]), ("images", first["number"] + 1))
                served.send({"type": "published", "execution": execution, "number": second["number"], "ids": ["b"]})
                self.assertEqual(served.result(execution)["value"], "b")
            execution = served.start("t.passes_on", {"number": 41})
            frame = served.until("publish")
            self.assertEqual(frame["jobs"][0]["args"], {"left": 41, "right": 1})
            served.send({"type": "published", "execution": execution, "number": frame["number"], "ids": ["c"]})
            self.assertEqual(served.result(execution)["value"], "c")
            execution = served.start("t.publishes")
            number = served.until("publish")["number"]
            served.send({"type": "published", "execution": execution, "number": number, "error": "`[0].unique.key`: is empty"})
            refused = served.result(execution)
            self.assertEqual((refused["outcome"], refused["message"]), ("failed", "ArgsError: `unique.key`: is empty"))
