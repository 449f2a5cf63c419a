"""``Client``: publish, wait, cancel and look, through the API of a running Spinor.

Over its Unix socket (the default: the one of this machine and user) or HTTP with a token. One connection for each
thread is kept. A call on a kept connection that broke is sent once more: each job has its id, so nothing runs twice.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import time
from typing import Any, Dict, Iterable, List, Optional, Union

from . import calls, many
from .calls import Call, Place
from .errors import BrokenAnswer, Refused, Unreachable
from .newjob import NewJob
from .publishing import Handle, as_job
from .runs import as_run, job_id
from .times import Time, seconds


class Client:
    """A running Spinor, as a program sees it; may be used from any thread.

    ``url``: ``unix:/path/spinor.sock``, ``http://127.0.0.1:7070`` or ``https://...``; ``token``: what ``api.token``
    is there; ``tls``: for an authority of one's own.
    """

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, tls: Optional[ssl.SSLContext] = None) -> None:
        self._place = calls.place_of(url)
        self._token = token if token is not None else calls.usual_token()
        self._tls = tls
        self._local = threading.local()

    def publish(self, kind: Union[str, NewJob, Any], args: Any = None, **options: Any) -> Handle:
        """Publishes one job; returns once the broker has it on disk. See `spinor_jobs.publish` for the forms."""
        return calls.handle(self._ask(calls.publish(as_job(kind, args, options))), Handle, self)

    def publish_batch(self, jobs: Iterable[NewJob]) -> List[Handle]:
        """Publishes many, in order; `BatchRefused` names those that were not accepted. A wrong field refuses all."""
        todo = list(jobs)
        accepted: List[Handle] = []
        refused: List[Any] = []
        for at in range(0, len(todo), calls.MOST_JOBS):
            answer = self._ask(calls.publish_many(todo[at : at + calls.MOST_JOBS]))
            some, others = calls.handles(answer, Handle, self, at)
            accepted += some
            refused += others
        return calls.all_of(accepted, refused)

    def wait(self, job: Union[str, Handle], timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for a job's end, however it went; its last report. `WaitTimeout` when the time is over."""
        report: Dict[str, Any] = self._waited(job, timeout)["report"]
        return report

    def wait_all(self, jobs: Iterable[Union[str, Handle]], timeout: Time = 3600) -> Dict[str, str]:
        """Waits until all of these jobs have ended, or the time is over; the states of those that have, by id."""
        return self._talk(many.states(jobs, timeout))

    def gather(self, jobs: Iterable[Union[str, Handle]], timeout: Time = 3600) -> List[Any]:
        """Waits for the values of all these jobs, in their order; `JobFailed` of the first that ended otherwise."""
        return self._talk(many.values(jobs, timeout))

    def result(self, job: Union[str, Handle], timeout: Time = 3600) -> Any:
        """Waits for a job's value; `JobFailed` when it ended otherwise."""
        answer = self._waited(job, timeout)
        return calls.value_of(job, answer["report"], answer.get("unread"))

    def cancel(self, job: Union[str, Handle], *, why: Optional[str] = None, by: Optional[str] = None) -> Dict[str, Any]:
        """Asks that a job does not run, or ends; `Refused` with status 409 when it has ended."""
        wish: Dict[str, Any] = self._ask(calls.cancel(job, why, by))
        return wish

    def show(self, job: Union[str, Handle]) -> Dict[str, Any]:
        """What is recorded of a job, with its executions."""
        record: Dict[str, Any] = self._ask(calls.show(job))
        return record

    def run(self, what: Any, **options: Any) -> "RunHandle":
        """Publishes a run of jobs; returns once the broker has all of it on disk.

        ``what``: a `chain`, `group` or `chord`, a list of `Member`, or a `NewRun`; options are those of `NewRun`.
        """
        return RunHandle(str(self._ask(calls.run(as_run(what, options)))["run"]), self)

    def show_run(self, run: Union[str, "RunHandle"]) -> Dict[str, Any]:
        """What is recorded of a run, with its members."""
        record: Dict[str, Any] = self._ask(calls.show_run(run))
        return record

    def wait_run(self, run: Union[str, "RunHandle"], timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for a run's end, however it went; its record. `WaitTimeout` when the time is over."""
        pauses = calls.pauses(run, timeout)
        while True:
            try:
                record = self.show_run(run)
                if calls.has_ended(run, record):
                    return record
            except Refused as refused:
                if not calls.is_coming(refused):
                    raise
            time.sleep(next(pauses))

    def results(self, run: Union[str, "RunHandle"], timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for the values of all members, by name; `RunFailed` when the run did not succeed."""
        members = calls.values_of(run, self.wait_run(run, timeout))
        values = self.gather([job for _, job in members], calls.TAKEN)
        return {name: value for (name, _), value in zip(members, values)}

    def cancel_run(self, run: Union[str, "RunHandle"], *, why: Optional[str] = None, by: Optional[str] = None) -> Dict[str, Any]:
        """Asks that a run ends: nothing more is started, and what runs is ended."""
        wish: Dict[str, Any] = self._ask(calls.cancel_run(run, why, by))
        return wish

    def retry_run(self, run: Union[str, "RunHandle"]) -> Dict[str, Any]:
        """Does again what did not succeed in a run that has ended."""
        order: Dict[str, Any] = self._ask(calls.retry_run(run))
        if not isinstance(run, str):
            run.replay = int(order["replay"])
        return order

    def close(self) -> None:
        """Closes the connection of this thread; the next call opens another."""
        connection = getattr(self._local, "connection", None)
        if connection is not None and self._local.pid == os.getpid():
            connection.close()
            self._local.connection = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _waited(self, job: Union[str, Handle], timeout: Time) -> Dict[str, Any]:
        end = time.monotonic() + seconds("timeout", timeout)
        while True:
            answer: Dict[str, Any] = self._ask(calls.wait(job, max(end - time.monotonic(), 0)))
            if answer["ended"]:
                return answer
            if time.monotonic() >= end:
                raise calls.timed_out(job, timeout)

    def _talk(self, talk: "many.Talk[many.R]") -> "many.R":
        answer: Any = None
        while True:
            try:
                call = talk.send(answer)
            except StopIteration as end:
                result: many.R = end.value
                return result
            answer = self._ask(call)

    def _ask(self, call: Call) -> Any:
        headers = {"Content-Type": "application/json"} if call.body is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.connection, self._local.pid = None, os.getpid()  # A fork's connection is its parent's.
        kept = self._local.connection
        for connection in ([kept] if kept is not None else []) + [None]:
            fresh = connection is None
            try:
                if connection is None:
                    connection = self._local.connection = _connect(self._place, self._tls)
                if connection.sock is None:
                    connection.connect()  # The server closed it after its last answer.
                connection.sock.settimeout(call.timeout)
                connection.request(call.method, f"{self._place.base}/api/v1{call.path}", call.body, headers)
                response = connection.getresponse()
                return calls.read(response.status, response.read(), self._place)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if isinstance(error, (TimeoutError, socket.timeout)) or fresh:
                    raise self._error(error) from None
        raise AssertionError("the last of these connections is fresh")

    def _error(self, error: Exception) -> Exception:
        name = self._place.name
        if isinstance(error, (TimeoutError, socket.timeout)):
            return Unreachable(f"no answer from {name} in time; while it waits for its broker its log says so")
        if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
            return BrokenAnswer(f"{name} did not answer as expected: {error!r}")
        return Unreachable(f"no Spinor answers at {name} ({error}); start one with `spinor up`")


class RunHandle:
    """A run that was published: its id, and what can be asked about it."""

    def __init__(self, id: str, client: Client) -> None:
        self.id = id
        #: How often it was retried by this handle's word; an end before that is not waited for.
        self.replay = 0
        self._client = client

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def member(self, name: str) -> Handle:
        """The job of a member, whether it was published yet or not."""
        return Handle(job_id(self.id, name), asks=self._client)

    def wait(self, timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for its end, however it went; the record."""
        return self._client.wait_run(self, timeout)

    def results(self, timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for the values of all members, by name; `RunFailed` when it did not succeed."""
        return self._client.results(self, timeout)

    def show(self) -> Dict[str, Any]:
        """What is recorded of it."""
        return self._client.show_run(self)

    def cancel(self, why: Optional[str] = None) -> Dict[str, Any]:
        """Asks that it ends."""
        return self._client.cancel_run(self, why=why)

    def retry(self) -> Dict[str, Any]:
        """Does again what did not succeed."""
        return self._client.retry_run(self)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connect(place: Place, tls: Optional[ssl.SSLContext]) -> http.client.HTTPConnection:
    connection: http.client.HTTPConnection
    if place.scheme == "unix":
        connection = _UnixConnection(place.socket)
    elif place.scheme == "https":
        connection = http.client.HTTPSConnection(place.host, place.port, context=tls or ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(place.host, place.port)
    connection.timeout = calls.ANSWER
    try:
        connection.connect()
    except OSError:
        connection.close()
        raise
    return connection
