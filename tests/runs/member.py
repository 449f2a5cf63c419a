"""Members of a run: each writes its start and its end into the ledger, and answers with a number.

    python3 member.py LEDGER

The number is one more than the sum of what it got. A member that `fails` does so while the file
LEDGER.broken is there.
"""

import json
import os
import socket
import sys
import time

LEDGER = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
LINK = socket.socket(fileno=int(os.environ["SPINOR_EXECUTOR_FD"]))
FRAMES = LINK.makefile("rb")


def send(frame):
    body = json.dumps(frame).encode()
    LINK.sendall(b"%d\n%s" % (len(body), body))


def note(job, what):
    name = job["args"].get("name", job["kind"])
    boot = os.environ["SPINOR_RUN"].split("/")[0]
    line = {"what": what, "name": name, "run": job["run"], "boot": boot, "args": job["args"]}
    os.write(LEDGER, json.dumps(line).encode() + b"\n")


send({"type": "hello", "protocol": 1, "kinds": [{"kind": kind} for kind in ("member", "then", "finally")]})
while length := FRAMES.readline():
    frame = json.loads(FRAMES.read(int(length)))
    if frame["type"] == "run":
        args = frame["job"]["args"]
        note(frame["job"], "start")
        time.sleep(0.04)
        answer = {"type": "result", "execution": frame["execution"], "outcome": "succeeded"}
        if args.get("fails") and os.path.exists(sys.argv[1] + ".broken"):
            answer.update(outcome="failed", message="out of paper")
        else:
            answer["value"] = 1 + sum(args.get("got", {}).values())
        note(frame["job"], "end")
        send(answer)
    elif frame["type"] == "ping":
        send({"type": "pong", "n": frame["n"]})
    elif frame["type"] == "bye":
        break
