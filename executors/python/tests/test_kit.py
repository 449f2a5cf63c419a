"""The conformance kit passes what is right, and each of its checks fails a program that breaks it."""

from __future__ import annotations

import os
import sys
import unittest
from pathlib import Path

from spinor_jobs.conformance import CHECKS, examine

HERE = Path(__file__).parent
BROKEN = [sys.executable, str(HERE / "broken.py")]


class Kit(unittest.TestCase):
    def setUp(self) -> None:
        before = dict(os.environ)
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ["PYTHONPATH"] = str(HERE.parent)

    def test_the_reference_executor_passes_every_check(self) -> None:
        findings = examine([sys.executable, str(HERE.parent.parent / "examples" / "executor.py")], 20.0)
        self.assertEqual([(one.name, one.detail) for one in findings if one.verdict != "ok"], [])
        self.assertGreater(len(findings), 25)

    def test_each_check_fails_a_program_that_breaks_it(self) -> None:
        self.assertTrue(examine(BROKEN, 20.0, ["hello"])[0].verdict == "ok")
        for one in CHECKS:
            with self.subTest(check=one.name):
                os.environ["BREAKS"] = one.name
                [finding] = examine(BROKEN, 0.5, [one.name])
                self.assertEqual(finding.verdict, "fail" if one.word == "MUST" else "warn", finding)
