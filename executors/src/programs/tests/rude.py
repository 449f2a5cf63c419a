"""A program that does what its args say, and most of that is rude."""
import json, os, signal, socket, subprocess, sys, time

link = socket.socket(fileno=int(os.environ["SPINOR_EXECUTOR_FD"]))
link.setblocking(True)
os.set_inheritable(link.fileno(), False)


def send(data):
    link.sendall(data)


def tell(**body):
    text = json.dumps(body).encode()
    send(b"%d\n" % len(text) + text)


def exactly(count):
    data = b""
    while len(data) < count:
        some = link.recv(min(65536, count - len(data)))
        if not some:
            sys.exit(0)
        data += some
    return data


def hear():
    digits = b""
    while not digits.endswith(b"\n"):
        digits += exactly(1)
    return json.loads(exactly(int(digits)))


def act(run):
    me, args = run["execution"], run["job"]["args"]
    done = lambda value=None: tell(type="result", execution=me, outcome="succeeded", value=value)
    what = args["do"]
    if what == "env":
        done(os.environ.get(args["name"]))
    elif what == "pid":
        done(os.getpid())
    elif what == "tell":
        done(run)
    elif what == "print":
        print('{"type":"result"} 7\n', flush=True)
        print("to the other", file=sys.stderr, flush=True)
        tell(type="progress", execution=me, done=1, of=4, note="on its way")
        tell(type="log", execution=me, level="warning", text="by the socket")
        tell(type="something new", and_more=True)
        done()
    elif what == "say":
        tell(type="result", execution=me, **args["result"])
    elif what == "half":
        send(b'500\n{"type":"result","exec')
        os._exit(0)
    elif what == "length":
        send(b"hello there")
        time.sleep(60)
    elif what == "json":
        send(b"5\n{nope")
        time.sleep(60)
    elif what == "other":
        tell(type="result", execution="00000000-0000-0000-0000-000000000000", outcome="succeeded")
        time.sleep(60)
    elif what == "twice":
        done()
        done()
    elif what == "exit":
        print("going down", file=sys.stderr, flush=True)
        os._exit(3)
    elif what == "signal":
        os.kill(os.getpid(), 9)
    elif what == "close":
        link.close()
        time.sleep(60)
    elif what == "finish":
        def finish(*_):
            done("finished anyway")
            time.sleep(60)
        signal.signal(signal.SIGTERM, finish)
        time.sleep(600)
    elif what == "hang":
        time.sleep(600)
    elif what == "flood":
        for _ in range(64):
            os.write(1, b"x" * 65536)
        done()
    elif what == "leak":
        act.kept = bytearray(args["mib"] << 20)
        for at in range(0, len(act.kept), 4096):
            act.kept[at] = 1
        if args.get("stay"):
            time.sleep(600)
        done(os.getpid())
    elif what == "fork":
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        done(child.pid)
    elif what == "long":
        while True:
            frame = hear()
            if frame["type"] == "cancel":
                return tell(type="result", execution=me, outcome="failed", message="heeded: " + frame["why"])
            if frame["type"] == "ping":
                tell(type="pong", n=frame["n"])
    elif what == "big":
        done("y" * args["bytes"])
    elif what == "publish":
        tell(type="publish", execution=me, number=7, jobs=args["jobs"])
        while True:
            frame = hear()
            if frame["type"] == "published":
                return done(frame)


if sys.argv[1:] == ["late"]:
    time.sleep(600)
if sys.argv[1:] == ["broken"]:
    sys.exit("no module named images")
if sys.argv[1:2] == ["once"]:
    # Starts the first time only.
    if os.path.exists(sys.argv[2]):
        sys.exit("not again")
    open(sys.argv[2], "w").close()
tell(type="hello", protocol=2 if sys.argv[1:] == ["newer"] else 1, program="rude 1.0", language="python",
     kinds=[{"kind": "rude", "schema": {"type": "object", "required": ["do"]}}, {"kind": "unmapped"}],
     answers_pings_while_running=True)
while True:
    frame = hear()
    if frame["type"] == "run":
        act(frame)
    elif frame["type"] == "ping" and sys.argv[1:] != ["deaf"]:
        tell(type="pong", n=frame["n"])
    elif frame["type"] == "bye":
        sys.exit(0)
