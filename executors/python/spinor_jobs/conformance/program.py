"""A program under examination: started as a consumer starts it, spoken to over its socket, ended with its group.

Owns the process and the reading of frames, each of which is checked for its form. Refuses to judge anything else.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from typing import Any, Dict, List, Optional, Tuple
from uuid import uuid4

from ..executor import DESCRIPTOR
from ..values import dumps
from ..wire import Wire, WireError

Frame = Dict[str, Any]
TEXT, NUMBER, TRUTH = (str,), (int, float), (bool,)
#: What each frame must have, and may have.
FORMS: Dict[str, Dict[str, Tuple[type, ...]]] = {
    "hello": {"protocol": NUMBER, "program": TEXT, "language?": TEXT, "kinds": (list,), "answers_pings_while_running?": TRUTH},
    "result": {"execution": TEXT, "outcome": TEXT, "message?": TEXT, "cause?": TEXT, "detail?": TEXT, "after?": NUMBER,
               "reason?": TEXT},
    "progress": {"execution": TEXT, "done": NUMBER, "of?": NUMBER, "note?": TEXT},
    "log": {"execution": TEXT, "level": TEXT, "text": TEXT},
    "publish": {"execution": TEXT, "number": NUMBER, "jobs": (list,)},
    "pong": {"n": NUMBER},
    "heartbeat": {},
    "bye": {},
}


class Broken(Exception):
    """The program does not do what the protocol says."""


class Program:
    """One run of the program."""

    def __init__(self, argv: List[str], patience: float, other: bool = False) -> None:
        ours, theirs = socket.socketpair()
        #: It waits so long for one answer, in seconds.
        self.patience = patience
        #: So soon it does what it MUST do promptly (5 s, on a machine with nothing else to do), and what it SHOULD.
        self.prompt, self.soon = patience / 2, patience / 3
        environment = {**os.environ, "SPINOR_EXECUTOR_PROTOCOL": "1"}
        # The number is 3, as a consumer gives it; `other` gives another one. A shell names descriptors by one digit.
        #: What the kernel calls the program's end.
        self.inode = os.fstat(theirs.fileno()).st_ino
        number = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 5)
        theirs.close()
        self.descriptor = number if other else 3
        move = f"exec 3<&{number} {number}<&-; exec \"$@\""
        start = argv if other else ["/bin/sh", "-c", move, "sh", *argv]
        environment[DESCRIPTOR] = str(self.descriptor)
        try:
            self.process = subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                            pass_fds=(number,), env=environment, start_new_session=True)
        finally:
            os.close(number)
        self.sock = ours
        self.wire = Wire(ours)
        self.said: Dict[str, bytes] = {"stdout": b"", "stderr": b""}
        for name in self.said:
            threading.Thread(target=self._drain, args=(name,), daemon=True).start()
        self.about: Frame = {}

    def __enter__(self) -> "Program":
        try:
            self.about = self.read(30.0)
            if self.about["type"] != "hello":
                raise Broken(f"the first frame is `{self.about['type']}`, not `hello`")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()

    @property
    def kinds(self) -> List[str]:
        """What it serves."""
        return [str(one.get("kind")) for one in self.about["kinds"] if isinstance(one, dict)]

    def send(self, frame: Frame) -> None:
        """One frame."""
        body = dumps(frame)
        self.send_bytes(b"%d\n%b" % (len(body), body))

    def send_bytes(self, data: bytes) -> None:
        """Anything."""
        self.sock.settimeout(self.patience)
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Broken(f"it does not read ({error}){self._last_words()}") from None

    def next(self, within: Optional[float] = None) -> Optional[Frame]:
        """The next frame, of the right form; `None` at the end of the stream."""
        within = self.patience if within is None else within
        self.sock.settimeout(max(within, 0.001))
        try:
            frame = self.wire.read()
        except (TimeoutError, socket.timeout):
            raise Broken(f"no frame within {within:.3g} s{self._last_words()}") from None
        except WireError as error:
            raise Broken(f"not a frame: {error}") from None
        if frame is not None:
            check_form(frame)
        return frame

    def read(self, within: Optional[float] = None) -> Frame:
        """The next frame; the end of the stream is a fault."""
        frame = self.next(within)
        if frame is None:
            raise Broken(f"it closed the stream{self._last_words()}")
        return frame

    def until(self, kind: str, within: Optional[float] = None) -> Frame:
        """The next frame of a type; others but results are passed over."""
        end = time.monotonic() + (self.patience if within is None else within)
        while True:
            frame = self.read(end - time.monotonic())
            if frame["type"] == kind:
                return frame
            if frame["type"] in ("result", "hello", "bye"):
                raise Broken(f"`{frame['type']}` came where `{kind}` was due")

    def start(self, kind: str, args: Any = None, **more: Any) -> str:
        """Sends a `run`; the execution's id."""
        execution = str(uuid4())
        job = {"id": str(uuid4()), "kind": kind, "queue": "default", "args": args, "attempt": 1, "replay": 0,
               "created": "2030-01-31T12:00:00Z", "headers": {}}
        self.send({"type": "run", "execution": execution, "job": job, "last_attempt": True, "maybe_rerun": False,
                   "soft_seconds": 60.0, "hard_seconds": 90.0, **more})
        return execution

    def result(self, execution: str, within: Optional[float] = None) -> Frame:
        """The result of an execution."""
        frame = self.until("result", within)
        if frame["execution"] != execution:
            raise Broken(f"a result for execution {frame['execution']}, which does not run")
        return frame

    def run(self, kind: str, args: Any = None, **more: Any) -> Frame:
        """Runs a job to its result."""
        return self.result(self.start(kind, args, **more))

    def ping(self, number: int = 7) -> None:
        """Asks, and expects the answer: with it nothing else is on its way."""
        self.send({"type": "ping", "n": number})
        answer = self.until("pong")
        if answer["n"] != number:
            raise Broken(f"a pong with n = {answer['n']} for a ping with n = {number}")

    def exits(self, within: float) -> Optional[int]:
        """Its exit code, once it ends."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def wrote(self, stream: str, part: bytes) -> bytes:
        """All it wrote to `stdout` or `stderr`, once this is in it; what there is when it does not come soon."""
        end = time.monotonic() + self.soon
        while part not in self.said[stream] and time.monotonic() < end:
            time.sleep(0.005)
        return self.said[stream]

    def signal(self, number: int) -> None:
        """To its group."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def end(self) -> None:
        """Ends it, with its group."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.sock.close()

    def _drain(self, name: str) -> None:
        stream = getattr(self.process, name)
        with stream:
            while True:
                data = os.read(stream.fileno(), 65536)
                if not data:
                    return
                self.said[name] = (self.said[name] + data)[-(1 << 20):]

    def _last_words(self) -> str:
        code = self.exits(0.5)
        said = self.said["stderr"].decode("utf-8", "replace").strip().splitlines()
        ended = "" if code is None else f"; it ended with {code}"
        return ended + (f"; standard error ends: {said[-1][:200]}" if said else "")


def check_form(frame: Frame) -> None:
    """Has the frame what its type asks for?"""
    form = FORMS.get(frame["type"])
    if form is None:
        raise Broken(f"a frame of the type `{frame['type'][:40]}`, which the protocol does not have")
    for name, types in form.items():
        field = name.rstrip("?")
        if field not in frame:
            if name == field:
                raise Broken(f"`{frame['type']}` without `{field}`")
        elif not isinstance(frame[field], types) or (isinstance(frame[field], bool) and types is not TRUTH):
            raise Broken(f"`{frame['type']}` with a wrong `{field}`")
    needed = {"failed": "message", "retry": "reason", "discard": "reason"}
    if frame["type"] == "result":
        if frame["outcome"] not in ("succeeded", *needed):
            raise Broken(f"a result with the outcome `{frame['outcome'][:40]}`")
        if not frame.get(needed.get(frame["outcome"], "outcome")):
            raise Broken(f"a result `{frame['outcome']}` without `{needed[frame['outcome']]}`")
