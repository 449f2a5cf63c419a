"""Tests without a broker: inside ``inline()`` a publish runs its job at once, in the same thread.

Endings are values: a job that fails, asks for a retry or discards itself raises nothing at the publish; its handle
tells. Next attempts follow at once, without waiting, as often as the job's ``retry`` grants. What a job publishes runs
after it succeeded, and is dropped otherwise, as in production. Kinds without a ``@job`` here are noted, not run.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Optional

from . import publishing, running
from .attempt import Outcome, attempt
from .errors import JobFailed, SpinorError, WaitTimeout
from .inline_run import InlineRun
from .job import Job, jobs
from .newjob import NewJob, retry_of
from .runs import as_run
from .times import Time
from .values import plain

#: A job that asks for another attempt without a policy gets so many, as from a consumer.
_ASKED = 20


class InlineHandle(publishing.Handle):
    """A job that ran inline: how each attempt ended, and what it said."""

    def __init__(self, job: NewJob) -> None:
        super().__init__(job.id, job.queue or "default")
        self.job = job
        self.kind = job.kind
        self.args = job.json().get("args")
        #: The outcome of each attempt, as the executor protocol writes it: ``{"outcome": "retry", "after": 5.0, ...}``.
        self.attempts: List[Outcome] = []
        #: Each call of ``progress``.
        self.progress: List[Dict[str, Any]] = []
        #: `queued` (nobody serves the kind here), `succeeded`, `failed` or `discarded`.
        self.state = "queued"

    @property
    def outcome(self) -> Optional[str]:
        """How its last attempt ended: `succeeded`, `failed`, `retry` or `discard`."""
        return self.attempts[-1]["outcome"] if self.attempts else None

    @property
    def value(self) -> Any:
        """What it returned, as it comes out at the other end."""
        return self.attempts[-1].get("value") if self.attempts else None

    @property
    def message(self) -> Optional[str]:
        """Why it did not succeed."""
        last = self.attempts[-1] if self.attempts else {}
        return last.get("message", last.get("reason"))

    def wait(self, timeout: Time = 3600) -> Dict[str, Any]:
        """The report, as far as there is one."""
        if self.state == "queued":
            raise WaitTimeout(f"kind `{self.kind}` has no @job here, so job {self.id} stays queued")
        failure = {"cause": self.attempts[-1].get("cause", "error"), "message": self.message}
        ending = {"value": self.value} if self.state == "succeeded" else {"failure": failure}
        return {"job": self.id, "kind": self.kind, "state": self.state, "attempt": len(self.attempts), **ending}

    def result(self, timeout: Time = 3600) -> Any:
        """The value, or `JobFailed`."""
        report = self.wait(timeout)
        if self.state != "succeeded":
            raise JobFailed(self.id, self.state, report)
        return self.value

    def show(self) -> Dict[str, Any]:
        """The same as `wait`."""
        return self.wait()

    def cancel(self, why: Optional[str] = None) -> Dict[str, Any]:
        """Too late, always: it has run."""
        raise SpinorError(f"job {self.id} has {self.state} already")


class Inline(List[InlineHandle]):
    """Every job that was published, in order; a publisher itself."""

    def publish(self, job: NewJob) -> InlineHandle:
        handle = InlineHandle(job)
        self.append(handle)
        function = jobs.get(job.kind)
        if function is not None:
            self._run(function, handle)
        return handle

    def run(self, what: Any, **options: Any) -> InlineRun:
        """Runs a run at once, as `Client.run` publishes one."""
        return InlineRun(as_run(what, options), self)

    def of(self, kind: str) -> List[InlineHandle]:
        """Those of one kind."""
        return [handle for handle in self if handle.kind == kind]

    def _run(self, function: Job[Any], handle: InlineHandle) -> None:
        granted = retry_of(handle.job.retry)["max"] if handle.job.retry is not None else 0
        while True:
            number = len(handle.attempts) + 1
            kept = _Kept()
            outcome = self._once(function, handle, number, granted, kept)
            handle.attempts.append(outcome)
            kind = outcome["outcome"]
            more = granted if granted or kind == "failed" else _ASKED
            if kind in ("succeeded", "discard") or outcome.get("cause") == "args" or number > more:
                break
        handle.state = {"succeeded": "succeeded", "discard": "discarded"}.get(kind, "failed")
        if handle.state == "succeeded":
            for job in kept.jobs:
                self.publish(job)

    def _once(self, function: Job[Any], handle: InlineHandle, number: int, granted: int, kept: "_Kept") -> Outcome:
        job = {"id": handle.id, "kind": handle.kind, "queue": handle.queue, "args": handle.args, "attempt": number,
               "created": datetime.now(timezone.utc).isoformat(), "headers": handle.job.headers,
               "correlation_id": handle.job.correlation_id, "run": handle.job.run, "trace": handle.job.trace}
        frame = {"execution": handle.id, "job": job, "last_attempt": number > granted, "maybe_rerun": False}
        tokens = running.current.set(running.Running(frame, handle.progress.append)), publishing.current.set(kept)
        try:
            outcome = attempt(function, handle.kind, handle.args, _call)
            if "value" in outcome:
                outcome["value"] = plain(outcome["value"])
            return outcome
        except (TypeError, ValueError) as error:
            return {"outcome": "failed", "cause": "error",
                    "message": f"it succeeded, and what it returned cannot be carried: {error}"}
        finally:
            running.current.reset(tokens[0])
            publishing.current.reset(tokens[1])


class _Kept:
    """What a job publishes, kept until it succeeds."""

    def __init__(self) -> None:
        self.jobs: List[NewJob] = []

    def publish(self, job: NewJob) -> publishing.Handle:
        self.jobs.append(job)
        return publishing.Handle(job.id, job.queue or "default")


def _call(job: Job[Any], values: Dict[str, Any]) -> Any:
    if not job.is_async:
        return job.function(**values)
    import asyncio
    import contextvars
    from concurrent.futures import ThreadPoolExecutor

    # A loop of its own in a thread of its own: the test may be async itself.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, job.function(**values)).result()


@contextmanager
def inline() -> Iterator[Inline]:
    """Publishes inside the block run their jobs at once; gives the list of them."""
    published = Inline()
    token, before = publishing.current.set(published), publishing.of_process
    publishing.of_process = published  # For the threads of the test.
    try:
        yield published
    finally:
        publishing.of_process = before
        publishing.current.reset(token)
