"""Checks of pings, cancels and ends: what a consumer relies on to keep a program in hand."""

from __future__ import annotations

import socket
from typing import Any, Dict, List

from .checks import MUST, SHOULD, Gap, Kit, at_the_end, check, ends_with, is_inherited, succeeds, terminate
from .program import Broken, Program

LONG = {"seconds": 60}


@check(MUST, "a ping is answered while idle, with its number")
def ping_idle(kit: Kit) -> None:
    with kit.start() as program:
        for number in (1, 2, 12345678901):
            program.ping(number)


@check(MUST, "a program that says so answers pings while a job runs")
def ping_running(kit: Kit) -> None:
    with kit.start() as program:
        if not program.about.get("answers_pings_while_running"):
            raise Gap("it does not say that it does")
        program.start("kit.sleep", LONG)
        for number in (1, 2):
            program.ping(number)


@check(MUST, "a ping that came while a job ran is answered after it, at the latest")
def ping_late(kit: Kit) -> None:
    with kit.start() as program:
        execution = program.start("kit.sleep", {"seconds": 0.2})
        program.send({"type": "ping", "n": 4})
        seen: List[Dict[str, Any]] = []
        while len(seen) < 2:
            frame = program.read()
            if frame["type"] not in ("progress", "log", "heartbeat"):
                seen.append(frame)
        if sorted(frame["type"] for frame in seen) != ["pong", "result"]:
            raise Broken(f"a result and a pong were due, and came: {', '.join(frame['type'] for frame in seen)}")
        if [frame for frame in seen if frame["type"] == "result"][0]["execution"] != execution:
            raise Broken("the result is for another execution")


@check(SHOULD, "a job that is cancelled answers with its result, soon")
def cancel(kit: Kit) -> None:
    with kit.start() as program:
        execution = program.start("kit.sleep", LONG)
        program.send({"type": "cancel", "execution": execution, "why": "cancelled", "message": "wrong input"})
        if program.result(execution, program.soon)["outcome"] == "succeeded":
            raise Broken("a job that was cut says that it succeeded")
        succeeds(program.run("kit.echo", {"a": 1}), {"a": 1})


@check(MUST, "a cancel for an execution that does not run is ignored")
def cancel_other(kit: Kit) -> None:
    with kit.start() as program:
        program.send({"type": "cancel", "execution": "gone", "why": "timeout", "message": ""})
        succeeds(program.run("kit.echo", {"a": 1}), {"a": 1})
        execution = program.start("kit.sleep", {"seconds": 0.3})
        program.send({"type": "cancel", "execution": "gone", "why": "timeout", "message": ""})
        ends_with(program.result(execution), "succeeded")


@check(MUST, "SIGTERM ends a job that runs: with its result, or with the program")
def terminated(kit: Kit) -> None:
    with kit.start() as program:
        execution = program.start("kit.sleep", LONG)
        if program.about.get("answers_pings_while_running"):
            program.ping()  # It runs by now.
        program.send({"type": "cancel", "execution": execution, "why": "timeout", "message": "soft limit"})
        terminate(program)
        _ended_or_answered(program, execution)


def _ended_or_answered(program: Program, execution: str) -> None:
    while True:
        frame = program.next(program.prompt)
        if frame is None:
            return at_the_end(program, None, program.prompt)
        if frame["type"] == "result":
            if frame["execution"] != execution or frame["outcome"] == "succeeded":
                raise Broken("the result is a success, or for another execution")
            return None


@check(SHOULD, "SIGTERM while idle ends the program")
def terminated_idle(kit: Kit) -> None:
    with kit.start() as program:
        program.ping()
        terminate(program)
        at_the_end(program, None, program.prompt)


@check(MUST, "`bye` while idle ends the program with exit code 0, within 5 s")
def bye(kit: Kit) -> None:
    with kit.start() as program:
        succeeds(program.run("kit.echo", {"a": 1}), {"a": 1})
        program.send({"type": "bye"})
        at_the_end(program, 0, program.prompt)


@check(MUST, "the end of the stream while idle ends the program with exit code 0, within 5 s")
def end_of_stream(kit: Kit) -> None:
    with kit.start() as program:
        program.ping()
        program.sock.shutdown(socket.SHUT_RDWR)
        at_the_end(program, 0, program.prompt)


@check(SHOULD, "the end of the stream while a job runs ends the program, soon")
def end_while_running(kit: Kit) -> None:
    with kit.start() as program:
        program.start("kit.sleep", LONG)
        if program.about.get("answers_pings_while_running"):
            program.ping()
        program.sock.shutdown(socket.SHUT_RDWR)
        at_the_end(program, None, program.soon)


@check(SHOULD, "the descriptor is closed on exec, so that children do not hold it")
def close_on_exec(kit: Kit) -> None:
    with kit.start() as program:
        program.ping()
        if is_inherited(program.process.pid, program.inode):
            raise Broken("it is not close-on-exec: a child gets it unless the program closes it by hand")


@check(MUST, "a child that a job leaves behind does not hold the stream")
def children(kit: Kit) -> None:
    with kit.start() as program:
        if "kit.child" not in program.kinds:
            raise Gap("it does not serve kit.child")
        ends_with(program.run("kit.child", LONG), "succeeded")
        program.send({"type": "bye"})
        if program.next(program.prompt) is not None:
            raise Broken("a frame came after `bye`")
