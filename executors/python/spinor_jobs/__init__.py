"""Write jobs for Spinor in Python, publish them, and wait for their results.

A job is a function::

    from spinor_jobs import job

    @job("image.resize", retry=3)
    def resize(path: str, width: int = 800) -> dict:
        return {"path": path, "width": width}

A consumer runs it in processes that it starts (``run = ["python", "-m", "spinor_jobs", "images"]``); a program
publishes it: ``resize.publish("a.png").result()``. `testing` runs jobs inline, `outbox` publishes from inside a
database transaction, `conformance` checks executor programs in any language.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    ArgsError,
    BatchRefused,
    BrokenAnswer,
    JobFailed,
    NeedsApi,
    Refused,
    RunFailed,
    SpinorError,
    Unreachable,
    WaitTimeout,
)
from .executor import run
from .inputs import previous, state_of, value_of
from .job import Job, job
from .newjob import NewJob
from .outcomes import Cancelled, Discard, Retry
from .publishing import Handle, publish, use
from .runs import Member, NewRun, chain, chord, group
from .running import Running, cancelled, check_cancelled, current_job, progress

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .client import Client
    from .rabbit import RabbitClient

__version__ = "0.1.0"

__all__ = [
    "ArgsError",
    "AsyncClient",
    "BatchRefused",
    "BrokenAnswer",
    "Cancelled",
    "Client",
    "Discard",
    "Handle",
    "Job",
    "JobFailed",
    "Member",
    "NeedsApi",
    "NewJob",
    "NewRun",
    "RabbitClient",
    "Refused",
    "Retry",
    "RunFailed",
    "Running",
    "SpinorError",
    "Unreachable",
    "WaitTimeout",
    "cancelled",
    "chain",
    "check_cancelled",
    "chord",
    "current_job",
    "group",
    "job",
    "previous",
    "progress",
    "publish",
    "run",
    "state_of",
    "use",
    "value_of",
]

_LAZY = {"AsyncClient": "aio", "Client": "client", "RabbitClient": "rabbit"}


def __getattr__(name: str) -> Any:
    """Clients bring HTTP and TLS with them, so that an executor process does not load them unless it publishes."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
