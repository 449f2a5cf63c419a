"""``python -m spinor_jobs MODULE...``: an executor process that serves the jobs of these modules."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from typing import List, Optional

from . import executor
from .job import jobs


def main(argv: Optional[List[str]] = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m spinor_jobs",
        description="Serves the @job functions of modules. A consumer starts it, by its configuration:\n\n"
        '  [kinds."image.*"]\n  run = ["python", "-m", "spinor_jobs", "images.jobs"]',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="See what modules serve, with the schemas of the args:\n  python -m spinor_jobs --kinds images.jobs\n"
        "Check any executor program against the protocol:\n  python -m spinor_jobs.conformance -- PROGRAM ARGS",
    )
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="imported in this order")
    parser.add_argument("--name", help="what the consumer calls this program [default: the first module]")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"],
                        help="the least severe level that goes to a job's log [default: info]")
    parser.add_argument("--kinds", action="store_true", help="print the kinds as JSON and end")
    asked = parser.parse_args(argv)
    logging.getLogger().setLevel(asked.log_level.upper())
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    for module in asked.modules:
        importlib.import_module(module)
    if asked.kinds:
        print(json.dumps([job.hello() for job in jobs.values()], indent=2, ensure_ascii=False))
        return
    executor.run(asked.name or asked.modules[0], level=None)


if __name__ == "__main__":
    main()
