"""Runs: the shapes make the plan that the API reads, and run inline by the same policies."""

from __future__ import annotations

import unittest
from typing import Any, Dict, List

from spinor_jobs import (ArgsError, Member, NewJob, RunFailed, WaitTimeout, chain, chord, group, job, previous, state_of,
                         value_of)
from spinor_jobs.runs import new_run
from spinor_jobs.testing import inline

DONE: List[str] = []


@job("r.fetch")
def fetch(day: str) -> int:
    DONE.append(f"fetch {day}")
    return len(day)


@job("r.double")
def double(number: int, fail: bool = False) -> int:
    DONE.append(f"double {number}")
    if fail:
        raise ValueError("no")
    return number * 2


@job("r.sum")
def total(numbers: List[int]) -> int:
    return sum(numbers)


@job("r.note")
def note(**what: Any) -> Dict[str, Any]:
    DONE.append("note")
    return what


@job("r.publishes")
def publishes() -> None:
    chain(fetch.new("a"), double.new(previous)).publish()


class Runs(unittest.TestCase):
    def setUp(self) -> None:
        DONE.clear()

    def test_the_shapes_become_members_with_names_needs_and_places_for_values(self) -> None:
        parts = [fetch.new("mon"), chain(fetch.having(member="tue").new("tue"), double.new(previous))]
        made = new_run(chord(parts, total.new(previous)), name="n", then=note.new(sum=value_of("r.sum"))).json()
        self.assertEqual([(one["name"], one.get("needs"), one["args"]) for one in made["members"]], [
            ("r.fetch", None, {"day": "mon"}),
            ("tue", None, {"day": "tue"}),
            ("r.double", ["tue"], {"number": {"$from": "tue"}}),
            ("r.sum", ["r.fetch", "r.double"], {"numbers": {"$from": ["r.fetch", "r.double"]}}),
        ])
        self.assertTrue(all("id" not in one and "member" not in one for one in made["members"]))
        self.assertEqual((made["then"]["args"], made["on_failure"]), ({"sum": {"$from": "r.sum"}}, "stop"))

    def test_a_chord_runs_inline_and_gives_each_value(self) -> None:
        with inline() as published:
            run = chord(group(fetch.new("a"), fetch.new("bb")), total.new(previous)).publish(finally_=NewJob("r.note"))
            self.assertEqual(run.results(), {"r.fetch": 1, "r.fetch-2": 2, "r.sum": 3})
            self.assertEqual((run.succeeded, run.member("r.sum").job.run, len(published)), (True, run.id, 4))
            self.assertEqual(run.jobs["finally"].value["members"]["r.sum"], {"state": "succeeded", "value": 3})

    def test_each_policy_says_what_a_failure_means_for_the_others(self) -> None:
        undo = note.new(value=value_of("a"))
        members = [Member(fetch.new("x"), "a", compensate=undo), Member(double.new(1, fail=True), "b", needs=["a"]),
                   Member(double.new(value_of("b")), "c"), Member(double.new(7), "d", needs=["a"]),
                   Member(note.new(of=state_of("a")), "e")]
        found = {}
        for policy in ("stop", "go_on", "compensate"):
            with inline() as published:
                run = published.run(members, on_failure=policy, then=note.new(), finally_=note.new(states=state_of("*")))
                found[policy] = (list(run.states.values()), run.succeeded, sorted(set(run.jobs) - set(run.states)))
                with self.assertRaises(RunFailed) as failed:
                    run.results()
                self.assertEqual(failed.exception.failed[0], ("b", "failed", "ValueError: no"))
                self.assertEqual(run.jobs["finally"].value["states"], run.states)
        stopped = ["succeeded", "failed", "skipped", "skipped", "skipped"]
        self.assertEqual(found["stop"], (stopped, False, ["finally"]))
        self.assertEqual(found["go_on"], (["succeeded", "failed", "skipped", "succeeded", "succeeded"], False, ["finally"]))
        self.assertEqual(found["compensate"], (stopped, False, ["compensate:a", "finally"]))

    def test_a_job_cannot_publish_a_run_with_its_own_end_and_says_what_to_use(self) -> None:
        with inline() as published:
            handle = published.publish(NewJob("r.publishes"))
            self.assertEqual(handle.state, "failed")
            self.assertIn("use a Client", str(handle.message))

    def test_a_member_of_another_program_leaves_the_run_open(self) -> None:
        with inline():
            run = chain(NewJob("elsewhere"), double.new(previous)).publish()
        self.assertEqual(run.states, {"elsewhere": "queued", "r.double": "waiting"})
        with self.assertRaisesRegex(WaitTimeout, "elsewhere"):
            run.wait()

    def test_what_cannot_be_a_run_is_refused_with_the_member_named(self) -> None:
        for make, word in (
            (lambda: new_run(double.new(previous)), "r.double.*previous"),
            (lambda: new_run([Member(NewJob("k"), "a"), Member(NewJob("k"), "a")]), "`a`.*two"),
            (lambda: new_run([Member(NewJob("k"), "a", needs=["z"])]), "`a`.*`z`"),
            (lambda: new_run(chain(NewJob("k", unique="x"))), "`k`.*unique"),
            (lambda: new_run(NewJob("k"), on_failure="shrug"), "shrug"),
            (lambda: new_run(NewJob("k"), then=note.new(x=previous)), "then.*previous"),
            (lambda: chain("k"), "chain.*str"),
            (lambda: group(), "group"),
            (lambda: double.new(previous, fail="x"), "fail"),
        ):
            with self.assertRaisesRegex((ValueError, TypeError, ArgsError), word):
                make()
