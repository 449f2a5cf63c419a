"""Checks of hello, runs and frames: what each job goes through."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from .checks import MUST, NEEDED, SHOULD, Gap, Kit, check, ends_with, succeeds
from .program import Broken

VALUES: Any = [None, True, 0, -7, 1.5, "", "plain", [], {}, [1, [2, [3]]], {"a": {"b": [None, False]}}, 9007199254740991]
TEXTS = ["Grüße, 世界 𝄞", "\\ \" / \b\f\n\r\t \u0001 \u007f", '{"type":"bye"}', "}{][", "5\n{}", " spaced  out "]


@check(MUST, "the first frame is `hello`, with protocol 1 and the kinds it serves")
def hello(kit: Kit) -> None:
    with kit.start() as program:
        if program.about["protocol"] != 1:
            raise Broken(f"protocol {program.about['protocol']}, not 1")
        if any(not isinstance(one, dict) or not isinstance(one.get("kind"), str) for one in program.about["kinds"]):
            raise Broken("an element of `kinds` has no `kind`")
        missing = [kind for kind in NEEDED if kind not in program.kinds]
        if missing:
            raise Broken(f"for the kit it serves {', '.join(missing)}, too; it names {', '.join(program.kinds) or 'none'}")


@check(MUST, "the descriptor's number is read from SPINOR_EXECUTOR_FD")
def descriptor(kit: Kit) -> None:
    with kit.start(other=True) as program:
        succeeds(program.run("kit.echo", {"a": 1}), {"a": 1})


@check(MUST, "args arrive and values come back as they are")
def values(kit: Kit) -> None:
    with kit.start() as program:
        for value in VALUES:
            succeeds(program.run("kit.echo", {"it": value}), {"it": value})


@check(MUST, "text is UTF-8, lengths count bytes, escapes are understood")
def utf8(kit: Kit) -> None:
    with kit.start() as program:
        for text in TEXTS:
            succeeds(program.run("kit.echo", {text: text}), {text: text})
        escaped = json.dumps({"id": "1", "kind": "kit.echo", "args": {"it": TEXTS[0]}, "attempt": 1})
        frame = b'{ "type" : "run",\n\t"execution":"x-1", "job":' + escaped.encode() + b" }"
        program.send_bytes(b"%d\n%b" % (len(frame), frame))
        succeeds(program.result("x-1"), {"it": TEXTS[0]})


@check(MUST, "each run has exactly one result, and runs follow one another")
def one_result(kit: Kit) -> None:
    with kit.start() as program:
        for number in range(50):
            succeeds(program.run("kit.echo", {"n": number}), {"n": number})
        program.ping()  # A second result would come before its answer.


@check(MUST, "unknown types and unknown fields are ignored")
def unknown(kit: Kit) -> None:
    with kit.start() as program:
        program.send({"type": "weather", "sun": True, "kind": "kit.fail", "execution": "y"})
        more = {"type_": 1, "later": {"type": "bye", "kind": "kit.fail", "execution": "z", "args": 0}}
        execution = program.start("kit.echo", {"type": "bye", "execution": "no", "job": {"kind": "kit.fail"}}, **more)
        succeeds(program.result(execution), {"type": "bye", "execution": "no", "job": {"kind": "kit.fail"}})
        program.send({"type": "ping", "n": 3, "more": [1]})
        if program.until("pong")["n"] != 3:
            raise Broken("a ping with another field is not answered with its `n`")


@check(MUST, "fields come in any order")
def order(kit: Kit) -> None:
    with kit.start() as program:
        execution = str(uuid4())
        job = {"args": {"b": [1, 2]}, "attempt": 1, "kind": "kit.echo", "id": str(uuid4())}
        program.send({"last_attempt": False, "job": job, "execution": execution, "type": "run"})
        succeeds(program.result(execution), {"b": [1, 2]})


@check(MUST, "a frame of 1 MiB is taken, and sent")
def big(kit: Kit) -> None:
    args = {"text": "ä" * (1 << 19), "end": True}
    with kit.start() as program:
        succeeds(program.run("kit.echo", args), args)
        succeeds(program.run("kit.echo", {"a": 1}), {"a": 1})


@check(MUST, "frames that come in pieces, or two at a time, are taken")
def pieces(kit: Kit) -> None:
    with kit.start() as program:
        job = {"id": str(uuid4()), "kind": "kit.echo", "args": {"é": "é"}, "attempt": 1}
        body = json.dumps({"type": "run", "execution": "p-1", "job": job}, ensure_ascii=False).encode()
        for byte in b"%d\n%b" % (len(body), body):
            program.send_bytes(bytes([byte]))
        succeeds(program.result("p-1"), {"é": "é"})
        ping = b'{"type":"ping","n":%d}'
        program.send_bytes(b"".join(b"%d\n%b" % (len(ping % n), ping % n) for n in (1, 2, 3)))
        answers = [program.until("pong")["n"] for _ in range(3)]
        if answers != [1, 2, 3]:
            raise Broken(f"three pings in one piece were answered with {answers}")


@check(MUST, "a job that fails says so with a message, and the program goes on")
def fails(kit: Kit) -> None:
    with kit.start() as program:
        ends_with(program.run("kit.fail", {}), "failed")
        succeeds(program.run("kit.echo", {"a": 1}), {"a": 1})


@check(MUST, "a job may ask for a retry, and may discard itself")
def endings(kit: Kit) -> None:
    with kit.start() as program:
        ends_with(program.run("kit.retry", {}), "retry")
        ends_with(program.run("kit.discard", {}), "discard")


@check(MUST, "what a job writes to standard output does not disturb the protocol")
def noise(kit: Kit) -> None:
    with kit.start() as program:
        ends_with(program.run("kit.print", {"text": '5\n{"type":"bye"}\n'}), "succeeded")
        succeeds(program.run("kit.echo", {"a": 1}), {"a": 1})
        program.ping()


@check(SHOULD, "what a job writes is on standard output when it has ended")
def flushed(kit: Kit) -> None:
    with kit.start() as program:
        ends_with(program.run("kit.print", {}), "succeeded")
        # It is idle now: what it keeps back comes no more.
        if not program.wrote("stdout", b"\n"):
            raise Broken("standard output is empty after the result")


@check(SHOULD, "a kind that it does not serve fails, and the program goes on")
def other_kind(kit: Kit) -> None:
    with kit.start() as program:
        ends_with(program.run("kit.nobody", {}), "failed")
        succeeds(program.run("kit.echo", {"a": 1}), {"a": 1})


@check(MUST, "what a job publishes is sent before its result, and the answer is waited for")
def publishes(kit: Kit) -> None:
    with kit.start() as program:
        if "kit.publish" not in program.kinds:
            raise Gap("it does not serve kit.publish")
        for answer in ({"ids": [str(uuid4())]}, {"error": "queue: there is no such queue"}):
            execution = program.start("kit.publish", {})
            frame = program.until("publish")
            jobs = frame["jobs"]
            if frame["execution"] != execution or not jobs or jobs[0].get("kind") != "kit.echo":
                raise Broken("`publish` has another execution, or no job of the kind kit.echo")
            program.send({"type": "published", "execution": execution, "number": frame["number"], **answer})
            ends_with(program.result(execution), "succeeded" if "ids" in answer else "failed")
        program.ping()
