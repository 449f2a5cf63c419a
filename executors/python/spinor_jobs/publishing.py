"""Where a publish goes, and what the publisher holds afterwards.

Inside ``testing.inline()`` it runs at once; inside a job it leaves with the job's settle; else the default client
sends it. Refuses to know HTTP, AMQP and the executor protocol: they are publishers.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Dict, Optional, Protocol, Union

from .errors import SpinorError
from .newjob import NewJob, check_options
from .times import Time


class Publisher(Protocol):
    """Whoever takes a job."""

    def publish(self, job: NewJob, /) -> "Handle":
        """Takes the job, or raises why not."""


class Asks(Protocol):
    """Whoever can be asked about a job."""

    def wait(self, job: Any, timeout: Time = ...) -> Dict[str, Any]:
        """Waits for its end and gives the report."""

    def result(self, job: Any, timeout: Time = ...) -> Any:
        """Waits for its end and gives the value."""

    def cancel(self, job: Any, *, why: Optional[str] = ...) -> Dict[str, Any]:
        """Asks that it ends."""

    def show(self, job: Any) -> Dict[str, Any]:
        """What is recorded of it."""


class Handle:
    """A job that was published: its id, and whom to ask about it."""

    def __init__(self, id: str, queue: str = "default", asks: Optional[Asks] = None, existing: bool = False) -> None:
        self.id = id
        self.queue = queue
        #: It was there before: it has the unique key of the job that was to be published.
        self.existing = existing
        self._asks = asks

    def __repr__(self) -> str:
        return f"<job {self.id} on {self.queue}>"

    def _client(self) -> Asks:
        if self._asks is None:
            raise SpinorError(f"job {self.id} is published when the job that published it succeeds; ask a Client then")
        return self._asks

    def wait(self, timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for its end, however it went; the report. `WaitTimeout` when the time is over."""
        return self._client().wait(self, timeout)

    def result(self, timeout: Time = 3600) -> Any:
        """Waits for its value; `JobFailed` when it ended otherwise, `WaitTimeout` when the time is over."""
        return self._client().result(self, timeout)

    def cancel(self, why: Optional[str] = None) -> Dict[str, Any]:
        """Asks that it does not run, or ends."""
        return self._client().cancel(self, why=why)

    def show(self) -> Dict[str, Any]:
        """What is recorded of it."""
        return self._client().show(self)


#: Where publishes go now, when it is not the default client: a job's own publisher, or a test's.
current: ContextVar[Optional[Publisher]] = ContextVar("spinor_jobs_publisher", default=None)
#: The same for the threads a job starts, which have no context of their own.
of_process: Optional[Publisher] = None
_client: Optional[Publisher] = None


def use(client: Publisher) -> None:
    """Makes this client the one that ``publish`` uses outside of jobs; else it is ``Client()``."""
    global _client
    _client = client


def publish(kind: Union[str, NewJob, Any], args: Any = None, **options: Any) -> Handle:
    """Publishes a job: a `NewJob`, a kind or a ``@job`` function with its args, and options of `NewJob`."""
    return publisher().publish(as_job(kind, args, options))


def publish_run(run: Any) -> Any:
    """Publishes a run, by whoever takes a publish here and now."""
    here = publisher()
    take = getattr(here, "run", None)
    if take is None:
        raise SpinorError("a run cannot be published from here: inside a job, and straight to RabbitMQ, use a Client")
    return take(run)


def publisher() -> Publisher:
    """Whoever takes a publish here and now."""
    here = current.get() or of_process
    if here is not None:
        return here
    if _client is None:
        from .client import Client  # Nobody who only executes needs it.

        use(Client())
    assert _client is not None
    return _client


def as_job(kind: Union[str, NewJob, Any], args: Any, options: Dict[str, Any]) -> NewJob:
    """What was meant as a job, as one."""
    if isinstance(kind, NewJob):
        if args is not None:
            raise TypeError("args: a NewJob has its own")
        return kind.but(**options) if options else kind
    if isinstance(kind, str):
        check_options(options)
        return NewJob(kind, args, **options)
    made: NewJob = kind.having(**options).new(**(args or {}))
    return made
