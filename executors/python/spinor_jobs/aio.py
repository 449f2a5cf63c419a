"""``AsyncClient``: what `Client` does, for programs with an event loop.

Speaks the little HTTP that the API needs over asyncio's streams, one connection for each call. A call that is
cancelled closes its connection.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

from . import calls, many
from .calls import Call
from .errors import BrokenAnswer, Refused, Unreachable
from .newjob import NewJob
from .publishing import as_job
from .runs import as_run, job_id
from .times import Time, seconds


class AsyncHandle:
    """A job that was published: its id, and what can be asked about it."""

    def __init__(self, id: str, queue: str, client: AsyncClient, existing: bool) -> None:
        self.id = id
        self.queue = queue
        #: It was there before: it has the unique key of the job that was to be published.
        self.existing = existing
        self._client = client

    async def wait(self, timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for its end, however it went; the report."""
        return await self._client.wait(self, timeout)

    async def result(self, timeout: Time = 3600) -> Any:
        """Waits for its value; `JobFailed` when it ended otherwise."""
        return await self._client.result(self, timeout)

    async def cancel(self, why: Optional[str] = None) -> Dict[str, Any]:
        """Asks that it does not run, or ends."""
        return await self._client.cancel(self, why=why)

    async def show(self) -> Dict[str, Any]:
        """What is recorded of it."""
        return await self._client.show(self)


class AsyncRunHandle:
    """A run that was published: its id, and what can be asked about it."""

    def __init__(self, id: str, client: AsyncClient) -> None:
        self.id = id
        #: How often it was retried by this handle's word; an end before that is not waited for.
        self.replay = 0
        self._client = client

    def member(self, name: str) -> AsyncHandle:
        """The job of a member, whether it was published yet or not."""
        return AsyncHandle(job_id(self.id, name), "", self._client, False)

    async def wait(self, timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for its end, however it went; the record."""
        return await self._client.wait_run(self, timeout)

    async def results(self, timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for the values of all members, by name; `RunFailed` when it did not succeed."""
        return await self._client.results(self, timeout)

    async def show(self) -> Dict[str, Any]:
        """What is recorded of it."""
        return await self._client.show_run(self)

    async def cancel(self, why: Optional[str] = None) -> Dict[str, Any]:
        """Asks that it ends."""
        return await self._client.cancel_run(self, why=why)

    async def retry(self) -> Dict[str, Any]:
        """Does again what did not succeed."""
        return await self._client.retry_run(self)


class AsyncClient:
    """A running Spinor, as an async program sees it."""

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, tls: Optional[ssl.SSLContext] = None) -> None:
        self._place = calls.place_of(url)
        self._token = token if token is not None else calls.usual_token()
        self._tls = tls

    async def publish(self, kind: Union[str, NewJob, Any], args: Any = None, **options: Any) -> AsyncHandle:
        """Publishes one job; returns once the broker has it on disk."""
        return calls.handle(await self._ask(calls.publish(as_job(kind, args, options))), AsyncHandle, self)

    async def publish_batch(self, jobs: Iterable[NewJob]) -> List[AsyncHandle]:
        """Publishes many, in order; `BatchRefused` names those that were not accepted."""
        todo = list(jobs)
        accepted: List[AsyncHandle] = []
        refused: List[Any] = []
        for at in range(0, len(todo), calls.MOST_JOBS):
            answer = await self._ask(calls.publish_many(todo[at : at + calls.MOST_JOBS]))
            some, others = calls.handles(answer, AsyncHandle, self, at)
            accepted += some
            refused += others
        return calls.all_of(accepted, refused)

    async def wait(self, job: Union[str, AsyncHandle], timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for a job's end, however it went; its last report. `WaitTimeout` when the time is over."""
        report: Dict[str, Any] = (await self._waited(job, timeout))["report"]
        return report

    async def wait_all(self, jobs: Iterable[Union[str, AsyncHandle]], timeout: Time = 3600) -> Dict[str, str]:
        """Waits until all of these jobs have ended, or the time is over; the states of those that have, by id."""
        return await self._talk(many.states(jobs, timeout))

    async def gather(self, jobs: Iterable[Union[str, AsyncHandle]], timeout: Time = 3600) -> List[Any]:
        """Waits for the values of all these jobs, in their order; `JobFailed` of the first that ended otherwise."""
        return await self._talk(many.values(jobs, timeout))

    async def result(self, job: Union[str, AsyncHandle], timeout: Time = 3600) -> Any:
        """Waits for a job's value; `JobFailed` when it ended otherwise."""
        answer = await self._waited(job, timeout)
        return calls.value_of(job, answer["report"], answer.get("unread"))

    async def cancel(self, job: Union[str, AsyncHandle], *, why: Optional[str] = None, by: Optional[str] = None) -> Dict[str, Any]:
        """Asks that a job does not run, or ends."""
        wish: Dict[str, Any] = await self._ask(calls.cancel(job, why, by))
        return wish

    async def show(self, job: Union[str, AsyncHandle]) -> Dict[str, Any]:
        """What is recorded of a job, with its executions."""
        record: Dict[str, Any] = await self._ask(calls.show(job))
        return record

    async def run(self, what: Any, **options: Any) -> "AsyncRunHandle":
        """Publishes a run of jobs; returns once the broker has all of it on disk. See `Client.run`."""
        return AsyncRunHandle(str((await self._ask(calls.run(as_run(what, options))))["run"]), self)

    async def show_run(self, run: Union[str, "AsyncRunHandle"]) -> Dict[str, Any]:
        """What is recorded of a run, with its members."""
        record: Dict[str, Any] = await self._ask(calls.show_run(run))
        return record

    async def wait_run(self, run: Union[str, "AsyncRunHandle"], timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for a run's end, however it went; its record. `WaitTimeout` when the time is over."""
        pauses = calls.pauses(run, timeout)
        while True:
            try:
                record = await self.show_run(run)
                if calls.has_ended(run, record):
                    return record
            except Refused as refused:
                if not calls.is_coming(refused):
                    raise
            await asyncio.sleep(next(pauses))

    async def results(self, run: Union[str, "AsyncRunHandle"], timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for the values of all members, by name; `RunFailed` when the run did not succeed."""
        members = calls.values_of(run, await self.wait_run(run, timeout))
        values = await self.gather([job for _, job in members], calls.TAKEN)
        return {name: value for (name, _), value in zip(members, values)}

    async def cancel_run(self, run: Union[str, "AsyncRunHandle"], *, why: Optional[str] = None,
                         by: Optional[str] = None) -> Dict[str, Any]:
        """Asks that a run ends: nothing more is started, and what runs is ended."""
        wish: Dict[str, Any] = await self._ask(calls.cancel_run(run, why, by))
        return wish

    async def retry_run(self, run: Union[str, "AsyncRunHandle"]) -> Dict[str, Any]:
        """Does again what did not succeed in a run that has ended."""
        order: Dict[str, Any] = await self._ask(calls.retry_run(run))
        if not isinstance(run, str):
            run.replay = int(order["replay"])
        return order

    async def _waited(self, job: Union[str, AsyncHandle], timeout: Time) -> Dict[str, Any]:
        end = time.monotonic() + seconds("timeout", timeout)
        while True:
            answer: Dict[str, Any] = await self._ask(calls.wait(job, max(end - time.monotonic(), 0)))
            if answer["ended"]:
                return answer
            if time.monotonic() >= end:
                raise calls.timed_out(job, timeout)

    async def _talk(self, talk: "many.Talk[many.R]") -> "many.R":
        answer: Any = None
        while True:
            try:
                call = talk.send(answer)
            except StopIteration as end:
                result: many.R = end.value
                return result
            answer = await self._ask(call)

    async def _ask(self, call: Call) -> Any:
        name = self._place.name
        try:
            status, body = await asyncio.wait_for(self._exchange(call), call.timeout)
        except (asyncio.TimeoutError, TimeoutError):
            raise Unreachable(f"no answer from {name} in time; while it waits for its broker its log says so") from None
        except (asyncio.IncompleteReadError, ValueError) as error:
            raise BrokenAnswer(f"{name} did not answer as expected: {error}") from None
        except OSError as error:
            raise Unreachable(f"no Spinor answers at {name} ({error}); start one with `spinor up`") from None
        return calls.read(status, body, self._place)

    async def _exchange(self, call: Call) -> Tuple[int, bytes]:
        place = self._place
        if place.scheme == "unix":
            reader, writer = await asyncio.open_unix_connection(place.socket)
        else:
            tls = (self._tls or ssl.create_default_context()) if place.scheme == "https" else None
            reader, writer = await asyncio.open_connection(place.host, place.port, ssl=tls)
        try:
            host = "localhost" if place.scheme == "unix" else f"{place.host}:{place.port}"
            lines = [f"{call.method} {place.base}/api/v1{call.path} HTTP/1.1", f"Host: {host}", "Connection: close"]
            if self._token:
                lines.append(f"Authorization: Bearer {self._token}")
            body = call.body or b""
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
            writer.write("\r\n".join(lines).encode("latin-1") + body)
            await writer.drain()
            return await _answer(reader)
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> Tuple[int, bytes]:
    first = (await reader.readline()).split()
    if len(first) < 2 or not first[0].startswith(b"HTTP/1."):
        raise ValueError("no HTTP answer" if first else "it closed the connection")
    status = int(first[1])
    headers: Dict[str, str] = {}
    while True:
        line = (await reader.readline()).decode("latin-1").strip()
        if not line:
            break
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "content-length" in headers:
        return status, await reader.readexactly(int(headers["content-length"]))
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return status, await reader.read()
    body = b""
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        chunk = await reader.readexactly(size + 2)
        if size == 0:
            return status, body
        body += chunk[:-2]
