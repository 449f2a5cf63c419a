"""Jobs for the tests, served by real processes: ``python -m spinor_jobs tests.jobs``."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, List

import spinor_jobs
from spinor_jobs import Cancelled, Discard, Retry, current_job, job, progress


@dataclass
class Size:
    width: int
    height: int = 10


@job("t.typed")
def typed(size: Size, at: datetime, names: List[str] = [], password: str = "") -> Dict[str, Any]:
    """Takes everything apart."""
    return {"area": size.width * size.height, "year": at.year, "names": names}


@job("t.who")
def who() -> Dict[str, Any]:
    seen: List[Any] = []
    thread = threading.Thread(target=lambda: seen.append(current_job().id))
    thread.start()
    thread.join()
    here = current_job()
    return {"attempt": here.attempt, "queue": here.queue, "in_thread": seen[0] == here.id, "last": here.last_attempt}


@job("t.sum")
async def add(left: int, right: int) -> int:
    await asyncio.sleep(0)
    return left + right


@job("t.echo")
def echo(**args: Any) -> Dict[str, Any]:
    return args


@job("t.async_forever")
async def async_forever() -> None:
    try:
        await asyncio.sleep(600)
    finally:
        print("cleaned up")


@job("t.blocked")
def blocked() -> None:
    try:
        time.sleep(600)
    except Cancelled as cancelled:
        print("cut:", cancelled)
        raise


@job("t.swallows")
def swallows() -> None:
    while True:
        try:
            progress(1)
            time.sleep(0.01)
        except Exception:
            pass


@job("t.raises", discard_on=[KeyError])
def raises(what: str) -> Any:
    if what == "key":
        raise KeyError("lost")
    if what == "retry":
        raise Retry("busy", after="1m")
    if what == "discard":
        raise Discard("withdrawn")
    if what == "exit":
        sys.exit(4)
    if what == "surrogate":
        raise ValueError("bad name \udcff")
    if what == "nan":
        return float("nan")
    if what == "object":
        return object()
    if what == "text":
        return "\udcff"
    if what == "huge":
        return "x" * (17 << 20)
    raise RuntimeError(what)


@job("t.noise")
def noise() -> int:
    print("on stdout")
    print("on stderr", file=sys.stderr)
    os.write(1, b"raw\n")
    logging.getLogger("deep.down").warning("careful: %s", 7)
    logging.debug("not shown")
    return 1


@job("t.forks")
def forks() -> int:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        total = sum(pool.map(_square, range(4)))
    if os.fork() == 0:
        progress(1)  # Goes nowhere.
        return -1  # And this comes back from the job in a child.
    os.wait()
    return total


def _square(number: int) -> int:
    logging.info("in a child")
    return number * number


@job("t.publishes")
def publishes(wait: float = 0) -> str:
    time.sleep(wait)
    spinor_jobs.publish("t.sum", {"left": 1, "right": 2}, delay="30s", unique="k")
    return typed.having(queue="images").publish(Size(1), at="2030-01-31T12:00:00Z").id


@job("t.group")
async def group() -> None:
    class Group(Exception):
        exceptions = (Retry("busy", after=2),)

    raise Group("one sub-exception")  # As asyncio's task groups do, from Python 3.11 on.


@job("t.progress")
def tells_progress() -> None:
    progress(float("nan"), 1)
    progress(1, 4, note="\udcff")
    for number in range(1000):
        progress(number, 4000)
    progress(4, 4)


@job("t.passes_on")
def passes_on(number: int) -> str:
    return add.publish(number, 1).id


@job("t.terminates_itself")
def terminates_itself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)
