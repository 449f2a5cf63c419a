"""Waits for many jobs: what is asked, in which order, and what the answers make; the same for both clients.

Each is a generator of calls that is sent their answers and returns the result. Refuses to send: a transport does.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Dict, Generator, Iterable, List, TypeVar

from . import calls
from .times import Time, seconds

R = TypeVar("R")
Talk = Generator[calls.Call, Any, R]

#: At most so many jobs in one wait, and in one that brings their reports.
MOST_WAITS, MOST_REPORTS = 1000, 200


def states(jobs: Iterable[Any], timeout: Time) -> "Talk[Dict[str, str]]":
    """The states of those that have ended when all have or the time is over, by id as it was given."""
    given = {_plain(job): calls.id_of(job) for job in jobs}
    ended = yield from _ended(list(given), MOST_WAITS, seconds("timeout", timeout))
    return {given[id]: one["state"] for id, one in ended.items()}


def values(jobs: Iterable[Any], timeout: Time) -> "Talk[List[Any]]":
    """The values of all, in order; the error of the first that ended otherwise, or has not."""
    todo = list(jobs)
    end = time.monotonic() + seconds("timeout", timeout)
    ended = yield from _ended(list(dict.fromkeys(map(_plain, todo))), MOST_REPORTS, seconds("timeout", timeout))
    found = []
    for job in todo:
        one = ended.get(_plain(job))
        if one is None:
            raise calls.timed_out(job, timeout)
        report, unread = one.get("report"), None
        if report is None or "value_ref" in report:  # Too large to come with others.
            answer = yield calls.wait(calls.id_of(job), max(end - time.monotonic(), 0))
            if not answer["ended"]:  # Done again meanwhile.
                raise calls.timed_out(job, timeout)
            report, unread = answer["report"], answer.get("unread")
        found.append(calls.value_of(job, report, unread))
    return found


def _ended(going: List[str], most: int, timeout: float) -> "Talk[Dict[str, Any]]":
    ended: Dict[str, Any] = {}
    end = time.monotonic() + timeout
    while going:
        # Once the time is over each that is left is looked at once.
        over = time.monotonic() >= end
        some, going = going[:most], going[most:]
        answer = yield calls.wait_many(some, max(end - time.monotonic(), 0), most == MOST_REPORTS)
        ended.update({one["id"]: one for one in answer["ended"]})
        missing = [id for id in some if id not in ended]
        if not over and time.monotonic() < end:
            going = missing + going
    return ended


def _plain(job: Any) -> str:
    """An id as the server writes it."""
    id = calls.id_of(job)
    try:
        return str(uuid.UUID(id))
    except ValueError:
        raise ValueError(f"{id!r} is no job: expected an id or a handle") from None
