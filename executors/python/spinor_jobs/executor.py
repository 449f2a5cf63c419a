"""The executor process: says hello, runs one job at a time, and ends when told to.

Owns the order of things; frames and threads are `link`'s, endings `attempt`'s, SIGTERM `term`'s. A job's `print` is its
log, for the protocol has a descriptor of its own, which children do not inherit.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Dict, Optional

from . import publishing, running
from .attempt import Outcome, attempt
from .errors import ArgsError
from .job import Job, jobs
from .link import Frame, Link
from .newjob import NewJob
from .outcomes import Cancelled
from .running import Running
from .term import Term
from .values import clean
from .wire import Wire, WireError

if TYPE_CHECKING:
    from .tasks import Tasks

PROTOCOL = 1
DESCRIPTOR = "SPINOR_EXECUTOR_FD"
#: After a `bye`, or when the consumer is gone, a job that does not end takes the process with it.
PATIENCE = 4.0
_LONGEST_LOG = 64 << 10


class Executor:
    """This process at work for a consumer, over one socket."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._name = name
        self._term = Term(_why_cut)
        self._wire = Wire(sock)
        self._link = Link(self._wire, self._term.shield, self._on_cancel)
        self._tasks: Optional[Tasks] = None
        self._pid = os.getpid()

    def serve(self) -> int:
        """Runs jobs until the consumer says bye or is gone; the exit code."""
        self._term.install()
        os.register_at_fork(before=self._term.hold, after_in_parent=self._term.let_go, after_in_child=self._forked)
        self._link.write(hello(self._name))
        try:
            while True:
                frame = self._link.next()
                if frame is None or frame["type"] == "bye":
                    return 0
                self._run(frame)
        except WireError as error:
            print(f"spinor_jobs: {error}; the consumer is taken as gone", file=sys.stderr, flush=True)
            return 1

    def _run(self, frame: Frame) -> None:
        try:
            job = Running(frame, self._link.write)
        except (KeyError, TypeError, AttributeError) as error:
            raise WireError(f"a run frame lacks {error}") from None
        self._term.busy = True
        running.of_process = job
        publishing.of_process = _WithSettle(self._link, job)
        self._link.job_starts()
        try:
            outcome = attempt(jobs.get(job.kind), job.kind, job.args, self._call, job.of_celery)
        except Cancelled as cut:
            outcome = {"outcome": "failed", "cause": "error", "message": f"cancelled: {cut}"}
        finally:
            self._term.disarm()
        if os.getpid() != self._pid:
            _flush()
            os._exit(0)  # A child that the job forked came back from the job's function.
        with self._term.shield():
            _flush()
            self._link.job_ended()
            running.of_process = publishing.of_process = None
            self._send(job, outcome)
        self._term.settled()

    def _call(self, job: Job[Any], values: Dict[str, Any]) -> Any:
        if not job.is_async:
            self._term.arm()
            try:
                return job.function(**values)
            finally:
                self._term.disarm()
        if self._tasks is None:
            from .tasks import Tasks  # Which brings asyncio: nothing for programs without async jobs.

            self._tasks = Tasks(self._term)
        return self._tasks.run(job.function(**values))

    def _on_cancel(self, frame: Frame) -> None:
        job = running.of_process
        if job is None or frame.get("execution", job.execution) != job.execution:
            return
        job.wish = Cancelled(str(frame.get("why", "cancelled")), str(frame.get("message") or ""))
        cancel_task = self._term.cancel_task
        if cancel_task is not None:
            cancel_task()
        if frame.get("gone"):
            threading.Thread(target=_end_later, args=(job,), daemon=True).start()

    def _send(self, job: Running, outcome: Outcome) -> None:
        if outcome.get("value", ...) is None:
            del outcome["value"]
        head = {"type": "result", "execution": job.execution}
        try:
            self._link.write({**head, **outcome})
        except (ValueError, TypeError) as error:
            message = f"it succeeded, and what it returned cannot be carried: {error}"
            self._link.write({**head, "outcome": "failed", "cause": "error", "message": message})

    def _forked(self) -> None:
        if os.getpid() != self._pid:
            self._term.forget()
            self._link.forget()


class _WithSettle:
    """Publishes with the settle of the job that runs: not at all unless it succeeds."""

    def __init__(self, link: Link, job: Running) -> None:
        self._link = link
        self._job = job

    def publish(self, job: NewJob) -> publishing.Handle:
        answer = self._link.publish(self._job.execution, [job.json()])
        if "error" in answer:
            field, _, why = str(answer["error"]).partition(": ")
            field = field.strip("`")
            field = field[4:] if field.startswith("[0].") else field  # There is but one.
            raise ArgsError(field if why else "", why or field)
        ids = answer.get("ids") or [job.id]
        return publishing.Handle(ids[0], job.queue or "default")


class LogFrames(logging.Handler):
    """Log records of a job as frames of its log; between jobs on standard error."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = clean(self.format(record))[:_LONGEST_LOG]
            job = running.of_process
            if job is None:
                print(f"{record.levelname} {text}", file=sys.stderr, flush=True)
                return
            level = "error" if record.levelno >= 40 else "warn" if record.levelno >= 30 else record.levelname.lower()
            self._link.write({"type": "log", "execution": job.execution, "level": level, "text": text})
        except Exception:
            self.handleError(record)


def hello(name: str) -> Frame:
    """The first frame: who this is and which kinds it serves."""
    about = [job.hello() for job in jobs.values()]
    return {"type": "hello", "protocol": PROTOCOL, "program": name, "language": "python", "kinds": about,
            "answers_pings_while_running": True}


def run(name: Optional[str] = None, level: Optional[int] = logging.INFO) -> None:
    """Serves the jobs of this process for the consumer that started it, to the end of the process.

    ``level`` is the least severe that goes to a job's log, unless the root logger has one; `None` leaves it alone.
    """
    descriptor = os.environ.pop(DESCRIPTOR, "")
    os.environ.pop("SPINOR_EXECUTOR_PROTOCOL", None)
    if not descriptor.isdigit():
        sys.exit(f"spinor_jobs: {DESCRIPTOR} is not set: a consumer starts this program, by `run = [...]` of its kinds;"
                 " `python -m spinor_jobs --kinds MODULE` shows what it would serve")
    if not jobs:
        sys.exit("spinor_jobs: there is no @job here; name the modules that have them")
    os.set_inheritable(int(descriptor), False)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    executor = Executor(socket.socket(fileno=int(descriptor)), name or os.path.basename(sys.argv[0]) or "python")
    root = logging.getLogger()
    root.addHandler(LogFrames(executor._link))
    if level is not None and root.level in (logging.NOTSET, logging.WARNING):
        root.setLevel(level)
    code = executor.serve()
    _flush()
    sys.exit(code)


def _why_cut() -> Cancelled:
    """What a job that a signal cuts is told."""
    job = running.of_process
    return job.wish if job is not None and job.wish is not None else Cancelled("signal", "SIGTERM")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # The job closed it.


def _end_later(job: Running) -> None:
    time.sleep(PATIENCE)
    if running.of_process is job:
        os._exit(1)
