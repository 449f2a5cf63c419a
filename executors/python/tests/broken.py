"""An executor program for the kit's own test: right in everything but what ``BREAKS`` names. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time

BREAKS = os.environ.get("BREAKS", "")
FD = 3 if BREAKS == "descriptor" else int(os.environ["SPINOR_EXECUTOR_FD"])
SOCKET = socket.socket(fileno=FD)
os.set_inheritable(SOCKET.fileno(), BREAKS in ("close-on-exec", "children"))
STREAM = SOCKET.makefile("rb", buffering=0)


def send(**frame: object) -> None:
    body = json.dumps(frame, ensure_ascii=BREAKS != "utf8").encode()
    length = len(body.decode()) if BREAKS == "utf8" else len(body)
    SOCKET.sendall(b"%d\n%b" % (length, body))


def read() -> dict:
    if BREAKS == "pieces":
        data = SOCKET.recv(1 << 21)  # Takes what comes for one frame.
        return json.loads(data.partition(b"\n")[2] or "{}") if data else {"type": "bye"}
    length = STREAM.readline()
    if not length:
        if BREAKS == "end-of-stream":
            time.sleep(600)
        sys.exit(0)
    if BREAKS == "big" and len(length) > 6:
        sys.exit("too big")
    body = b""
    while len(body) < int(length):
        body += STREAM.read(int(length) - len(body))
    return json.loads(body)


def run(frame: dict) -> None:
    execution, job = frame["execution"], frame["job"]
    kind, args = job["kind"], job.get("args")
    if BREAKS == "unknown" and "later" in frame:
        raise KeyError("later")
    if BREAKS == "order" and next(iter(frame)) != "type":
        sys.exit("the type comes first")
    done = {"type": "result", "execution": execution, "outcome": "succeeded"}
    if kind == "kit.echo":
        value = None if BREAKS == "values" and args.get("it") == 1.5 else args
        send(**done, value=value)
        if BREAKS == "one-result" and args.get("n") == 40:
            send(**done, value=value)
    elif kind == "kit.sleep":
        sleep(args["seconds"], execution, done)
    elif kind == "kit.print":
        print(args.get("text", "hello"), flush=True, file=open(os.devnull, "w") if BREAKS == "flushed" else sys.stdout)
        if BREAKS == "noise":
            SOCKET.sendall(b"hello\n")
        send(**done)
    elif kind == "kit.retry":
        send(**{**done, "outcome": "retry"}, **({} if BREAKS == "endings" else {"reason": "not yet"}))
    elif kind == "kit.discard":
        send(**{**done, "outcome": "discard"}, reason="no use")
    elif kind == "kit.child":
        if os.fork() == 0:
            if BREAKS != "children":
                SOCKET.close()
                STREAM.close()
            os.execlp("sleep", "sleep", "60")
        send(**done)
    elif kind == "kit.publish":
        send(**{**done, **publish(execution)})
    elif BREAKS == "fails":
        sys.exit("it went wrong")
    elif BREAKS == "other-kind" and kind != "kit.fail":
        send(**done)  # Whatever it may be.
    else:
        send(**{**done, "outcome": "failed"}, message="it went wrong")


def publish(execution: str) -> dict:
    send(type="publish", execution=execution, number=1, jobs=[{"kind": "kit.echo"}])
    if BREAKS == "publishes":
        return {}  # Without an answer.
    while True:
        frame = read()
        if frame["type"] == "published":
            return {"outcome": "failed", "message": frame["error"]} if "error" in frame else {}


def sleep(seconds: float, execution: str, done: dict) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        SOCKET.settimeout(max(end - time.monotonic(), 0.001))
        try:
            waiting = SOCKET.recv(1, socket.MSG_PEEK)
        except (TimeoutError, socket.timeout):
            break
        SOCKET.settimeout(None)
        if not waiting:
            time.sleep(600 if BREAKS == "end-while-running" else 0)
            sys.exit(1)
        frame = read()
        if frame["type"] == "ping" and BREAKS not in ("ping-running", "ping-late"):
            send(type="pong", n=frame["n"])
        elif frame["type"] == "cancel" and (frame["execution"] == execution or BREAKS == "cancel-other"):
            if BREAKS not in ("cancel", "terminated"):
                return send(**{**done, "outcome": "failed"}, message="cancelled")
    SOCKET.settimeout(None)
    send(**done)


def main() -> None:
    if BREAKS in ("terminated", "terminated-idle"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kinds = [{"kind": f"kit.{name}"} for name in ("echo", "fail", "sleep", "print", "retry", "discard", "child", "publish")]
    if BREAKS == "hello":
        send(type="heartbeat")
    send(type="hello", protocol=1, program="broken", kinds=kinds, answers_pings_while_running=BREAKS != "ping-late")
    while True:
        frame = read()
        if frame["type"] == "run":
            run(frame)
        elif frame["type"] == "ping":
            send(type="pong", n=0 if BREAKS == "ping-idle" else frame["n"])
        elif frame["type"] == "bye":
            sys.exit(1 if BREAKS == "bye" else 0)
        elif BREAKS == "unknown" and frame["type"] not in ("cancel",):
            sys.exit("what is this")


main()
