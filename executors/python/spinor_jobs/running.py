"""What a job may know and say while it runs: itself, its progress, and whether it shall end.

Every function here does nothing outside of a job, so that the same code runs in both places.
"""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from typing import Any, Callable, Dict, Optional

from .outcomes import Cancelled
from .values import clean

#: Progress is passed on no more often.
_APART = 0.05


class Running:
    """The job that runs, as its consumer told."""

    def __init__(self, frame: Dict[str, Any], say: Callable[[Dict[str, Any]], None]) -> None:
        job = frame["job"]
        self.execution: str = frame["execution"]
        self.id: str = job.get("id", "")
        self.kind: str = job["kind"]
        self.queue: str = job.get("queue", "")
        self.args: Any = job.get("args")
        #: Counted from 1.
        self.attempt: int = job.get("attempt", 1)
        #: How often a person started it anew.
        self.replay: int = job.get("replay", 0)
        #: RFC 3339.
        self.created: str = job.get("created", "")
        self.correlation_id: Optional[str] = job.get("correlation_id")
        #: The run it belongs to.
        self.run: Optional[str] = job.get("run")
        self.headers: Dict[str, Any] = job.get("headers") or {}
        #: W3C traceparent.
        self.trace: Optional[str] = job.get("trace")
        #: Will a failure be followed by no other attempt?
        self.last_attempt: bool = bool(frame.get("last_attempt"))
        #: May an execution that left no report have happened before?
        self.maybe_rerun: bool = bool(frame.get("maybe_rerun"))
        self.soft_seconds: Optional[float] = frame.get("soft_seconds")
        self.hard_seconds: Optional[float] = frame.get("hard_seconds")
        #: Why it shall end, once it shall.
        self.wish: Optional[Cancelled] = None
        self._say = say
        self._started = time.monotonic()
        self._told = float("-inf")

    @property
    def of_celery(self) -> bool:
        """Did a client of Celery's publish it? These headers stay with every copy."""
        return "task" in self.headers and "id" in self.headers

    def seconds_left(self) -> Optional[float]:
        """How long until it is asked to end; `None` without a limit."""
        return None if self.soft_seconds is None else self.soft_seconds - (time.monotonic() - self._started)

    def progress(self, done: float, of: Optional[float], note: Optional[str]) -> None:
        """Passes progress on, unless it just was."""
        now = time.monotonic()
        if now - self._told < _APART and done != of:
            return
        self._told = now
        frame: Dict[str, Any] = {"type": "progress", "execution": self.execution, "done": float(done)}
        if of is not None:
            frame["of"] = float(of)
        if note is not None:
            frame["note"] = clean(str(note))
        if math.isfinite(frame["done"]) and math.isfinite(frame.get("of", 0)):
            self._say(frame)


#: The job of this context: of a task, or of an inline call.
current: ContextVar[Optional[Running]] = ContextVar("spinor_jobs_running", default=None)
#: The job of this process, which threads that a job starts see, too.
of_process: Optional[Running] = None


def current_job() -> Optional[Running]:
    """The job that runs here; `None` outside of one."""
    return current.get() or of_process


def progress(done: float, of: Optional[float] = None, note: Optional[str] = None) -> None:
    """Says how far the job is; lossy, so call it as often as you like. Raises `Cancelled` when the job shall end."""
    job = current_job()
    if job is not None:
        job.progress(done, of, note)
        check_cancelled()


def cancelled() -> bool:
    """Shall the job end?"""
    job = current_job()
    return job is not None and job.wish is not None


def check_cancelled() -> None:
    """Raises `Cancelled` when the job shall end: call it where a sync job can stop. Async jobs need it not."""
    job = current_job()
    if job is not None and job.wish is not None:
        raise job.wish
