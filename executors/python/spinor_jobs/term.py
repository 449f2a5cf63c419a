"""What SIGTERM does to an executor process: idle, it ends; in a job, the job is cancelled.

A sync job is cut by `Cancelled`, raised in the main thread wherever Python code runs next, once; an async job has its
task cancelled. Refuses to cut in the middle of a frame: a shield holds the exception back until the frame is whole.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional

from .outcomes import Cancelled


class Term:
    """The handler, and the state that decides what it does."""

    def __init__(self, why: Callable[[], Cancelled]) -> None:
        self.why = why
        self.busy = False
        #: Cancels the task of an async job.
        self.cancel_task: Optional[Callable[[], None]] = None
        self._cuts = False
        #: A signal came and has cut nothing yet.
        self.pending = False
        self._shields = 0
        #: The signals that a thread had blocked before it forked.
        self._held = threading.local()

    def install(self) -> None:
        """Takes SIGTERM; main thread only."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def hold(self) -> None:
        """Before a fork: what is meant for the child waits until it has forgotten the handler; Python would drop it."""
        self._held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def let_go(self) -> None:
        """After a fork, in the parent."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._held.mask)

    def forget(self) -> None:
        """In a forked child, SIGTERM is what it was before."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.let_go()

    def arm(self) -> None:
        """From now on a signal cuts the sync job that runs."""
        self._cuts = True
        self._raise_pending()

    def disarm(self) -> None:
        """The job is over."""
        self._cuts = False

    @contextmanager
    def shield(self) -> Iterator[None]:
        """What is done inside is done whole."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
            self._raise_pending()

    def settled(self) -> None:
        """The job's result is sent; a signal that came too late for it ends the process."""
        self.busy = False
        if self.pending:
            raise SystemExit(143)

    def _raise_pending(self) -> None:
        if self.pending and self._cuts and not self._shields:
            self.pending = self._cuts = False
            raise self.why()

    def _on_signal(self, *_: Any) -> None:
        if not self.busy:
            raise SystemExit(143)
        if self.cancel_task is not None:
            self.cancel_task()
            return
        self.pending = True
        self._raise_pending()
