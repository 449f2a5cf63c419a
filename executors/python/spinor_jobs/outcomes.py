"""How a job ends itself early: exceptions that a job raises, each an outcome and not an error."""

from __future__ import annotations

from datetime import timedelta
from typing import Optional, Union

from .times import seconds


class Retry(Exception):
    """Run this job again, after this long, or as its policy says when no time is given.

    ``raise Retry("the printer is busy", after=30)``; a time is seconds, a timedelta or a text such as "5m".
    """

    def __init__(self, reason: str = "asked for another attempt", *, after: Union[None, float, str, timedelta] = None):
        super().__init__(reason)
        self.reason = reason
        self.after: Optional[float] = None if after is None else seconds("after", after)


class Discard(Exception):
    """Never run this job again: ``raise Discard("the order was withdrawn")``."""

    def __init__(self, reason: str = "discarded by the job") -> None:
        super().__init__(reason)
        self.reason = reason


class Cancelled(BaseException):
    """This job shall end: its time is over, somebody cancelled it, or its consumer drains.

    A `BaseException`, so that ``except Exception`` in a job does not swallow it. Clean up and let it pass.
    """

    def __init__(self, why: str = "cancelled", message: str = "") -> None:
        super().__init__(f"{why}: {message}" if message else why)
        #: `timeout`, `cancelled`, `drain`, or `signal` for a bare SIGTERM.
        self.why = why
        self.message = message
