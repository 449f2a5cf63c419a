"""The executor's end of the protocol while jobs run: who reads the socket, and what is answered at once.

One thread reads at a time. Between jobs that is the main thread, so that a short job costs no change of threads. A job
that is still running a moment later has a second thread, the watcher, take over: it answers pings, hears cancels, and
gives the socket back with the frame that the main thread waits for. Refuses to run jobs.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import Any, Callable, ContextManager, Deque, Dict, List, Optional

from .errors import SpinorError
from .wire import Wire, WireError

#: A job that runs this long, about, has the watcher read.
TICK = 0.1
#: So many ticks without a job let the watcher sleep.
QUIET = 20

Frame = Dict[str, Any]


class Link:
    """Frames in and out, from any thread."""

    def __init__(self, wire: Wire, shield: Callable[[], ContextManager[None]], on_cancel: Callable[[Frame], None]) -> None:
        self._wire = wire
        self._shield = shield
        self._on_cancel = on_cancel
        self._cond = threading.Condition()
        self._wake = threading.Event()
        self._reader: Optional[str] = None
        self._running: Optional[object] = None
        self._inbox: Deque[Optional[Frame]] = deque()
        self._answers: Dict[int, Frame] = {}
        self._asked = 0
        self._watcher: Optional[threading.Thread] = None
        self._dead = False

    def next(self) -> Optional[Frame]:
        """The next frame that is for the main thread: `run`, `bye`, or `None` when the consumer is gone."""
        with self._cond:
            while self._reader is not None and not self._inbox:
                self._cond.wait()
            if self._inbox:
                return self._inbox.popleft()
            self._reader = "main"
        try:
            return self._read_on(lambda: False)
        finally:
            self._give_up()

    def write(self, frame: Frame) -> None:
        """Sends a frame; into nothing once the consumer is gone, or in a child that the job forked."""
        if self._dead:
            return
        with self._shield():
            try:
                self._wire.write(frame)
            except OSError:
                self._dead = True

    def job_starts(self) -> None:
        """A job runs from now on, and the watcher looks whether it lasts."""
        with self._cond:
            self._running = object()
            if not self._wake.is_set():
                self._wake.set()
                if self._watcher is None:
                    self._watcher = threading.Thread(target=self._watch, name="spinor-watcher", daemon=True)
                    self._watcher.start()

    def job_ended(self) -> None:
        """No job runs."""
        with self._cond:
            self._running = None

    def publish(self, execution: str, jobs: List[Dict[str, Any]]) -> Frame:
        """Hands jobs to the consumer, to be published with the settle; its answer."""
        if self._dead:
            raise SpinorError("there is no consumer to publish by: it is gone, or this is a child that the job forked")
        with self._cond:
            self._asked += 1
            number = self._asked
        self.write({"type": "publish", "execution": execution, "number": number, "jobs": jobs})
        with self._shield():
            answer = self._answer(number)
        if answer is None:
            raise SpinorError("the consumer did not take the jobs to publish: it is gone or does not answer")
        return answer

    def forget(self) -> None:
        """In a forked child: the socket, the locks and the frames are the parent's."""
        self._dead = True
        self._cond = threading.Condition()
        self._wire.close()

    def _answer(self, number: int) -> Optional[Frame]:
        if threading.current_thread() is threading.main_thread():
            with self._cond:
                mine = self._reader is None
                if mine:
                    self._reader = "main"
            if mine:
                try:
                    other = self._read_on(lambda: number in self._answers)
                finally:
                    self._give_up()
                if number not in self._answers:
                    self._inbox.append(other)
        with self._cond:
            self._cond.wait_for(lambda: number in self._answers or self._inbox or self._dead, 60)
            return self._answers.pop(number, None)

    def _give_up(self) -> None:
        with self._cond:
            self._reader = None
            self._cond.notify_all()

    def _read_on(self, done: Callable[[], bool]) -> Optional[Frame]:
        """Reads and answers, until it is done or there is something for the main thread."""
        while not done():
            frame = self._wire.read()
            if frame is None or frame["type"] in ("run", "bye"):
                return frame
            self._handle(frame)
        return None

    def _handle(self, frame: Frame) -> None:
        if frame["type"] == "ping":
            self.write({"type": "pong", "n": frame.get("n")})
        elif frame["type"] == "cancel":
            self._on_cancel(frame)
        elif frame["type"] == "published":
            with self._cond:
                self._answers[frame.get("number", 0)] = frame
                self._cond.notify_all()

    def _watch(self) -> None:
        while self._wake.wait():
            seen: Optional[object] = None
            quiet = 0
            while quiet < QUIET:
                time.sleep(TICK)
                with self._cond:
                    now = self._running
                    take = now is not None and now is seen and self._reader is None and not self._inbox
                    seen, quiet = now, 0 if now is not None else quiet + 1
                    if take:
                        self._reader = "watcher"
                    elif quiet == QUIET:
                        self._wake.clear()
                if take:
                    self._read_for_main()

    def _read_for_main(self) -> None:
        frame: Optional[Frame] = None
        try:
            frame = self._read_on(lambda: False)
        except WireError as error:
            print(f"spinor_jobs: {error}; the consumer is taken as gone", file=sys.stderr, flush=True)
        with self._cond:
            self._inbox.append(frame)
            self._reader = None
            self._cond.notify_all()
            running = self._running is not None
        if running and (frame is None or frame["type"] == "bye"):
            self._on_cancel({"why": "drain", "message": "the consumer is gone", "gone": True})
