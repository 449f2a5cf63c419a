"""``python -m spinor_jobs.conformance -- PROGRAM ARGS``: checks a program and prints a table."""

from __future__ import annotations

import argparse
import json
import sys
from typing import List, Optional

from .checks import Finding, examine


def main(argv: Optional[List[str]] = None) -> int:
    """The command; 0 when every MUST holds, 1 when one does not, 2 for a wrong call."""
    parser = argparse.ArgumentParser(
        prog="python -m spinor_jobs.conformance",
        description="Runs an executor program as a consumer would, and checks what the protocol asks of it.",
        epilog="example: python -m spinor_jobs.conformance -- node executor.mjs",
    )
    parser.add_argument("program", nargs="+", metavar="PROGRAM", help="the program and its arguments, after `--`")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", action="append", default=[], metavar="CHECK", help="only this check; may be repeated")
    parser.add_argument("--patience", type=float, default=10.0, metavar="SECONDS", help="for one answer; more on a busy machine [default: 10]")
    asked = parser.parse_args(argv)
    try:
        findings = examine(asked.program, asked.patience, asked.only, (lambda _: None) if asked.json else _line)
    except OSError as error:
        print(f"{asked.program[0]}: {error.strerror or error}", file=sys.stderr)
        return 2
    if not findings:
        print(f"there is no check {', '.join(asked.only)}", file=sys.stderr)
        return 2
    count = {word: sum(finding.verdict == word for finding in findings) for word in ("ok", "fail", "warn", "skip")}
    if asked.json:
        document = {"program": asked.program, "passed": not count["fail"], "count": count,
                    "checks": [finding._asdict() for finding in findings]}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print(f"{count['ok']} hold, {count['fail']} do not, {count['warn']} SHOULD not heeded, {count['skip']} not checked")
    return 1 if count["fail"] else 0


def _line(finding: Finding) -> None:
    print(f"{finding.verdict:4}  {finding.word:6}  {finding.name:17}  {finding.sentence}", flush=True)
    if finding.detail:
        print(f"{'':33}{finding.detail}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
