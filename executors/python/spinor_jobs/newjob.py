"""A job to be published: what it does, and how it shall be treated.

Owns the fields and their JSON form, the one of ``POST /api/v1/jobs``. Each job has its id from the start, so that a
publish may be repeated: the same id again is the same job.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Dict, List, Optional, Union
from uuid import UUID

from .times import Time, instant, text
from .values import plain

RetryOption = Union[int, Dict[str, Any]]
TimeoutOption = Union[Time, Dict[str, Time]]


def new_id() -> str:
    """A UUIDv7: sorted by time, so that it is kind to databases."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    return str(UUID(int=number & ~(0x3 << 62) | 0x2 << 62))


@dataclass(frozen=True)
class NewJob:
    """A job as a publisher asks for it; what is absent gets its default. Times are seconds, timedeltas or text."""

    kind: str
    #: Anything that JSON knows.
    args: Any = None
    queue: Optional[str] = None
    #: A UUID; the same one again is the same job.
    id: str = field(default_factory=new_id)
    #: Not before this long from now.
    delay: Optional[Time] = None
    #: Not before this instant; with a time zone.
    at: Optional[datetime] = None
    #: Must have started within this time, or before this instant.
    expires: Union[None, Time, datetime] = None
    #: A time, or ``{"soft": ..., "hard": ...}``.
    timeout: Optional[TimeoutOption] = None
    #: How many retries, or ``{"max": 5, "first": "10s", "factor": 2.0, "jitter": 0.2}``.
    retry: Optional[RetryOption] = None
    #: 0 to 9.
    priority: Optional[int] = None
    #: A key no other job may have meanwhile, or ``{"key": ..., "for": ..., "until": ..., "on_conflict": ...}``.
    unique: Union[None, str, Dict[str, Any]] = None
    #: Limits it counts against, such as ``["mail", "tenant:blue"]``.
    limits: List[str] = field(default_factory=list)
    #: Headers of one's own: text, numbers, true and false.
    headers: Dict[str, Any] = field(default_factory=dict)
    correlation_id: Optional[str] = None
    reply_to: Optional[str] = None
    app_id: Optional[str] = None
    #: W3C ``traceparent``.
    trace: Optional[str] = None
    run: Optional[str] = None
    #: Its name within the run.
    member: Optional[str] = None

    def __post_init__(self) -> None:
        if self.at is not None and self.delay is not None:
            raise ValueError("at: give `at` or `delay`, not both")
        options_of(self)

    def json(self) -> Dict[str, Any]:
        """As the API reads it."""
        job: Dict[str, Any] = {"kind": self.kind, "id": str(self.id)}
        if self.args is not None:
            job["args"] = self.args
        for name in _AS_IS:
            value = getattr(self, name)
            if value is not None and value != [] and value != {}:
                job[name] = value
        job.update(options_of(self))
        plain_job: Dict[str, Any] = plain(job)
        return plain_job

    def but(self, **options: Any) -> "NewJob":
        """The same job with these options in place of its own."""
        check_options(options)
        return replace(self, **options)


_AS_IS = ("queue", "priority", "limits", "headers", "correlation_id", "reply_to", "app_id", "trace", "run", "member")
OPTIONS = frozenset(one.name for one in fields(NewJob)) - {"kind", "args"}


def check_options(options: Dict[str, Any]) -> None:
    """Refuses an option that no job has, by name."""
    for name in options:
        if name not in OPTIONS:
            raise TypeError(f"`{name}` is no option of a job; there are {', '.join(sorted(OPTIONS))}")


def options_of(job: NewJob) -> Dict[str, Any]:
    """The options that hold times, as the API reads them; `ValueError` names the one that is wrong."""
    options: Dict[str, Any] = {}
    if job.at is not None:
        options["at"] = instant("at", job.at).isoformat().replace("+00:00", "Z")
    elif job.delay is not None:
        options["delay"] = text("delay", job.delay)
    if isinstance(job.expires, datetime):
        options["expires"] = instant("expires", job.expires).isoformat().replace("+00:00", "Z")
    elif job.expires is not None:
        options["expires"] = text("expires", job.expires)
    if isinstance(job.timeout, dict):
        options["timeout"] = {name: text(f"timeout.{name}", one) for name, one in job.timeout.items()}
    elif job.timeout is not None:
        options["timeout"] = text("timeout", job.timeout)
    if job.retry is not None:
        options["retry"] = retry_of(job.retry)
    if isinstance(job.unique, str):
        options["unique"] = {"key": job.unique}
    elif job.unique is not None:
        unique = dict(job.unique)
        if "for" in unique:
            unique["for"] = text("unique.for", unique["for"])
        options["unique"] = unique
    return options


def retry_of(retry: RetryOption) -> Dict[str, Any]:
    """A retry policy as the API reads it."""
    policy = {"max": retry} if isinstance(retry, int) and not isinstance(retry, bool) else retry
    if not isinstance(policy, dict) or not isinstance(policy.get("max"), int) or policy["max"] < 0:
        raise ValueError('retry: expected how many, or {"max": 5, "first": "10s", "factor": 2.0, "jitter": 0.2}')
    for name in policy:
        if name not in ("max", "first", "factor", "jitter"):
            raise ValueError(f"retry.{name}: there is no such field; there are max, first, factor, jitter")
    return {**policy, "first": text("retry.first", policy["first"])} if "first" in policy else dict(policy)
