"""A deliberately rude executor program: each of its kinds breaks the protocol, or its host, in its own way.

What a consumer must survive. Standard library only. The variable RUDE makes the start rude, too: `mute` (no hello),
`dead` (exits with 3 before it), `garbage` (no frame), `half` (half a hello), `future` (protocol 99), `deaf` (answers no
ping while idle); `once FILE` is dead at the first start and polite from the second on.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

SOCKET = socket.socket(fileno=int(os.environ["SPINOR_EXECUTOR_FD"]))
STREAM = SOCKET.makefile("rb")
MOOD = os.environ.get("RUDE", "")
HOARD = []


def raw(data):
    SOCKET.sendall(data)


def send(frame):
    body = json.dumps(frame).encode()
    raw(b"%d\n%b" % (len(body), body))


def result(execution, **more):
    send({"type": "result", "execution": execution, "outcome": "succeeded", **more})


def flood(args):
    """Writes without end to both outputs, as far as `mib` goes."""
    block = b"x" * 65536
    for _ in range(int(args.get("mib", 64)) * 16):
        os.write(1, block)
        os.write(2, block)


def hang(args):
    """Does not end, whatever it is told short of SIGKILL."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("hanging", flush=True)
    while True:
        time.sleep(3600)


def fork(args):
    """Leaves children: one in its group that holds the outputs and the socket, one in a session of its own."""
    os.set_inheritable(SOCKET.fileno(), True)
    subprocess.Popen(["sleep", "600"], close_fds=False)
    subprocess.Popen(["sleep", "600"], close_fds=False, start_new_session=True)


def leak(args):
    """Keeps memory, `mib` more with each job."""
    HOARD.append(b"\x01" * (int(args.get("mib", 64)) << 20))


def leave(args):
    """Exits in the middle of the job, with words on standard error."""
    print("out of cheese", file=sys.stderr, flush=True)
    os._exit(int(args.get("code", 3)))


def die(args):
    """Dies of a signal in the middle of the job."""
    os.kill(os.getpid(), signal.SIGKILL)


def shut(args):
    """Closes the socket and lives on."""
    SOCKET.shutdown(socket.SHUT_RDWR)
    hang(args)


#: Kinds that do something and then answer as they should, if they come to it.
DEEDS = {"rude.flood": flood, "rude.hang": hang, "rude.fork": fork, "rude.leak": leak, "rude.exit": leave,
         "rude.die": die, "rude.shut": shut, "rude.polite": lambda args: None}
#: Kinds whose answer is no answer: bytes for the socket, with the execution in the place of %s.
WORDS = {
    "rude.half": b'100\n{"type":"result","execution":"%s"',
    "rude.nolength": b'{"type":"result","execution":"%s","outcome":"succeeded"}\n',
    "rude.long": b"99999999\n{}",
    "rude.zeros": b'0002\n{}',
    "rude.nojson": b"5\n{]{]{",
    "rude.noutf8": b'4\n"\xff\xfe"',
    "rude.list": b"2\n[]",
    "rude.untyped": b"2\n{}",
}


def frames(execution, kind):
    """Frames that are whole and wrong."""
    if kind == "rude.twice":
        result(execution)
        result(execution)
    elif kind == "rude.stranger":
        result("00000000-0000-7000-8000-000000000000")
    elif kind == "rude.outcome":
        send({"type": "result", "execution": execution, "outcome": "splendid"})
    elif kind == "rude.mute":
        send({"type": "result", "execution": execution, "outcome": "failed"})
    elif kind == "rude.publish":
        send({"type": "publish", "execution": execution, "number": 1, "jobs": [{"kind": "", "queue": 7}, 5]})
        result(execution)
    elif kind == "rude.chatter":
        for number in range(100_000):
            send({"type": "log", "execution": execution, "level": "info", "text": "y" * 1000})
            send({"type": "progress", "execution": execution, "done": number})
        result(execution)
    elif kind == "rude.bye":
        send({"type": "bye"})


FRAMES = ["rude.twice", "rude.stranger", "rude.outcome", "rude.mute", "rude.publish", "rude.chatter", "rude.bye"]


def read():
    length = STREAM.readline()
    return json.loads(STREAM.read(int(length))) if length else sys.exit(0)


def hello():
    if MOOD.startswith("once "):
        path = MOOD.split(" ", 1)[1]
        if not os.path.exists(path):
            open(path, "w").close()
            leave({})
    if MOOD == "dead":
        leave({})
    if MOOD == "mute":
        hang({})
    if MOOD == "garbage":
        raw(b"\x00\x01\x02 what is this")
        hang({})
    if MOOD == "half":
        raw(b'200\n{"type":"hello","proto')
        hang({})
    kinds = [{"kind": kind} for kind in (*DEEDS, *WORDS, *FRAMES)]
    send({"type": "hello", "protocol": 99 if MOOD == "future" else 1, "program": "rude 1.0", "kinds": kinds})


def main():
    hello()
    print("noise between jobs", flush=True)
    while True:
        frame = read()
        if frame["type"] == "ping" and MOOD != "deaf":
            send({"type": "pong", "n": frame["n"]})
        elif frame["type"] == "bye":
            sys.exit(0)
        elif frame["type"] == "run":
            execution, job = frame["execution"], frame["job"]
            kind, args = job["kind"], job["args"] or {}
            if kind in WORDS:
                raw(WORDS[kind].replace(b"%s", execution.encode()))
                hang(args)
            elif kind in FRAMES:
                frames(execution, kind)
            else:
                DEEDS[kind](args)
                result(execution, value=kind)


main()
