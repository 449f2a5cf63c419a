"""``RabbitClient``: publishes straight to RabbitMQ, for programs that reach the broker and no API.

Needs the extra ``spinor-jobs[rabbitmq]`` (pika). Persistent, mandatory, confirmed, with an id, so that a publish over
a connection that broke is repeated. What a broker alone cannot do (cancel, unique, delay, looking) raises `NeedsApi`.
One connection, guarded by a lock; heartbeats are answered while a call is under way.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Iterable, List, Optional, Set, Union

from . import calls
from .errors import NeedsApi, Refused, SpinorError, Unreachable
from .newjob import NewJob
from .publishing import Handle, as_job
from .times import Time, instant, seconds
from .values import dumps, loads

#: What a message may have.
MOST = 8 << 20


class RabbitClient:
    """A broker, as a publisher sees it. ``prefix``: what ``broker_prefix`` is there."""

    def __init__(self, url: str = "amqp://guest:guest@localhost/", prefix: str = "spinor") -> None:
        try:
            import pika  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise SpinorError("RabbitClient needs pika: pip install 'spinor-jobs[rabbitmq]'") from None
        self._pika = pika
        self._url = url
        self._prefix = prefix
        self._lock = threading.RLock()
        self._connection: Any = None
        self._channel: Any = None
        self._replies: Optional[str] = None
        self._waiting: Dict[str, Optional[Dict[str, Any]]] = {}
        self._lost: Set[str] = set()

    def publish(self, kind: Union[str, NewJob, Any], args: Any = None, *, reply: bool = False, **options: Any) -> Handle:
        """Publishes one job; returns once the broker has it on disk. With ``reply`` its end can be waited for."""
        job = as_job(kind, args, options)
        body, properties = self._message(job)
        queue = job.queue or "default"
        key = f"{self._prefix}.jobs.{queue}"
        lane = "" if job.priority is None or 2 < job.priority < 7 else ".high" if job.priority > 2 else ".low"
        with self._lock:
            for last in (False, True):
                try:
                    self._open()
                    if reply:
                        properties.reply_to = self._reply_queue()
                        self._waiting.setdefault(job.id, None)
                        self._lost.discard(job.id)
                    if not lane or not self._send(key + lane, body, properties):
                        if not self._send(key, body, properties):
                            raise Refused({"title": "No such queue", "field": "queue", "status": 422,
                                           "detail": f"the broker has no queue `{key}`"})
                    return Handle(job.id, queue, self)
                except (self._pika.exceptions.AMQPConnectionError, self._pika.exceptions.ChannelClosed) as error:
                    self._forget()
                    if last:
                        raise self._unreachable(error) from None
        raise AssertionError("the second try returns or raises")

    def publish_batch(self, jobs: Iterable[NewJob], *, reply: bool = False) -> List[Handle]:
        """Publishes many, one after the other; stops at the first that is refused."""
        return [self.publish(job, reply=reply) for job in jobs]

    def wait(self, job: Union[str, Handle], timeout: Time = 3600) -> Dict[str, Any]:
        """Waits for the reply: the job's last report. Only for what this client published with ``reply=True``."""
        id = calls.id_of(job)
        end = time.monotonic() + seconds("timeout", timeout)
        while True:
            with self._lock:
                if id in self._lost:
                    raise Unreachable(f"the connection that the reply of job {id} was to come by is gone; ask Client")
                if id not in self._waiting:
                    raise NeedsApi(f"job {id} was not published by this client with reply=True; wait for it with Client")
                report = self._waiting[id]
                if report is not None:
                    del self._waiting[id]
                    return report
                left = end - time.monotonic()
                if left <= 0:
                    raise calls.timed_out(id, timeout)
                try:
                    # Not for long at once: another thread may want to publish.
                    self._connection.process_data_events(time_limit=min(left, 0.1))
                except self._pika.exceptions.AMQPConnectionError:
                    self._forget()

    def result(self, job: Union[str, Handle], timeout: Time = 3600) -> Any:
        """Waits for the reply and gives the value; `JobFailed` when the job ended otherwise."""
        report = self.wait(job, timeout)
        if report.get("value_ref"):
            raise NeedsApi(f"the value of job {calls.id_of(job)} is large and lies elsewhere; ask Client for it")
        return calls.value_of(job, report)

    def cancel(self, job: Any, *, why: Optional[str] = None) -> Dict[str, Any]:
        """Needs the API."""
        raise NeedsApi("cancel: a broker alone cannot cancel a job; use Client")

    def show(self, job: Any) -> Dict[str, Any]:
        """Needs the API."""
        raise NeedsApi("show: the record is read through the API; use Client")

    def close(self) -> None:
        """Closes the connection; replies that have not come are gone with it."""
        with self._lock:
            if self._connection is not None and self._connection.is_open:
                try:
                    self._connection.close()
                except self._pika.exceptions.AMQPError:
                    pass  # It broke before.
            self._forget()

    def __enter__(self) -> "RabbitClient":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _open(self) -> None:
        if self._connection is not None and self._connection.is_open and self._channel.is_open:
            return
        self._connection = self._pika.BlockingConnection(self._pika.URLParameters(self._url))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def _forget(self) -> None:
        """The connection is gone, and with it the replies that have not come."""
        self._connection = self._channel = self._replies = None
        gone = [id for id, report in self._waiting.items() if report is None]
        self._lost.update(gone)
        for id in gone:
            del self._waiting[id]

    def _send(self, key: str, body: bytes, properties: Any) -> bool:
        """Is there a queue for it? An answer of the broker's that is no yes is an error."""
        try:
            self._channel.basic_publish("", key, body, properties, mandatory=True)
            return True
        except self._pika.exceptions.UnroutableError:
            return False
        except self._pika.exceptions.NackError:
            raise Refused({"title": "Not accepted now", "status": 503,
                           "detail": "the broker refused it (is the queue full?); nothing was stored, try again"}) from None

    def _reply_queue(self) -> str:
        if self._replies is None:
            self._replies = self._channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
            self._channel.basic_consume(self._replies, self._on_reply, auto_ack=True)
        return self._replies

    def _on_reply(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        id = properties.message_id
        try:
            report = loads(body)
        except ValueError:
            report = None
        if id in self._waiting and isinstance(report, dict):
            self._waiting[id] = report

    def _message(self, job: NewJob) -> Any:
        fields = job.json()
        for name in ("unique", "delay", "at"):
            if name in fields:
                raise NeedsApi(f"{name}: a broker alone cannot do that; publish with Client")
        body = dumps(fields.get("args"))
        if len(body) > MOST:
            raise NeedsApi(f"args: they have {len(body)} bytes, at most {MOST} travel in a message; publish with Client")
        now = datetime.now(timezone.utc)
        headers = {**job.headers, "spinor-created": _micros(now), **_headers(job, fields, now)}
        properties = self._pika.BasicProperties(
            type=job.kind, message_id=job.id, delivery_mode=2, content_type="application/json", headers=headers,
            correlation_id=job.correlation_id, reply_to=job.reply_to, priority=job.priority, app_id=job.app_id,
            timestamp=int(now.timestamp()))
        return body, properties

    def _unreachable(self, error: Exception) -> Unreachable:
        host = self._pika.URLParameters(self._url).host
        return Unreachable(f"no RabbitMQ answers at {host} ({error!r})")


def _headers(job: NewJob, fields: Dict[str, Any], now: datetime) -> Dict[str, Any]:
    headers: Dict[str, Any] = {}
    if isinstance(job.expires, datetime):
        headers["spinor-expires-at"] = _micros(instant("expires", job.expires))
    elif job.expires is not None:
        headers["spinor-expires-at"] = _micros(now + timedelta(seconds=seconds("expires", job.expires)))
    if job.timeout is not None:
        both = job.timeout if isinstance(job.timeout, dict) else {"soft": job.timeout, "hard": job.timeout}
        millis = {f"{name}_ms": round(seconds(f"timeout.{name}", one) * 1000) for name, one in both.items()}
        headers["spinor-timeout"] = json.dumps(millis)
    if "retry" in fields:
        retry = dict(fields["retry"])
        if "first" in retry:
            retry["first_ms"] = round(seconds("retry.first", retry.pop("first")) * 1000)
        headers["spinor-retry"] = json.dumps(retry)
    if job.limits:
        headers["spinor-limits"] = json.dumps(job.limits)
    for name, value in (("spinor-run", job.run), ("spinor-member", job.member), ("traceparent", job.trace)):
        if value is not None:
            headers[name] = value
    return headers


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)
