"""An executor that does nothing: it answers each job with `null`. The product and its floor run the same."""
import json
import os
import socket

link = socket.socket(fileno=int(os.environ.get("SPINOR_EXECUTOR_FD", "0")))
link.setblocking(True)
heard = link.makefile("rb")


def tell(**body):
    text = json.dumps(body, separators=(",", ":")).encode()
    link.sendall(b"%d\n%b" % (len(text), text))


tell(type="hello", protocol=1, program="echo 1", language="python", kinds=[{"kind": "bench.echo"}])
for length in heard:
    frame = json.loads(heard.read(int(length)))
    if frame["type"] == "run":
        tell(type="result", execution=frame["execution"], outcome="succeeded", value=None)
    elif frame["type"] == "ping":
        tell(type="pong", n=frame["n"])
    elif frame["type"] == "bye":
        break
