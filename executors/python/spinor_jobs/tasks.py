"""Async jobs: one event loop for all of a process, so that a client which a module keeps works in every job.

Owns the task of the job that runs and its cancellation. Tasks that a job leaves behind go on while the next one runs.
"""

from __future__ import annotations

import asyncio
from typing import Any, Coroutine

from . import running
from .term import Term


class Tasks:
    """The loop, and how a job's task is cancelled from elsewhere."""

    def __init__(self, term: Term) -> None:
        self._term = term
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

    def run(self, job: Coroutine[Any, Any, Any]) -> Any:
        """Runs it to its end; `Cancelled` when it was cancelled."""
        return self._loop.run_until_complete(self._supervise(job))

    async def _supervise(self, job: Coroutine[Any, Any, Any]) -> Any:
        task = self._loop.create_task(job)
        cut = False

        def cancel() -> None:
            nonlocal cut
            cut = True
            self._loop.call_soon_threadsafe(task.cancel)

        self._term.cancel_task = cancel
        here = running.of_process
        if self._term.pending or (here is not None and here.wish is not None):
            self._term.pending = False
            cancel()
        try:
            return await task
        except asyncio.CancelledError:
            if not cut:
                raise
            raise self._term.why() from None
        finally:
            self._term.cancel_task = None
