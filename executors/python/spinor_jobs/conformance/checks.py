"""What the kit checks, one function each: a MUST fails the program, a SHOULD is told.

Owns the list and its words. Each check starts the program anew, so that none leaves anything to the next.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional

from .program import Broken, Program

MUST, SHOULD = "MUST", "SHOULD"
NEEDED = ["kit.echo", "kit.fail", "kit.sleep", "kit.print", "kit.retry", "kit.discard"]
#: The flag in /proc, which is the kernel's and not the C library's.
CLOSED_ON_EXEC = 0o2000000


class Gap(Exception):
    """This cannot be checked here; the reason is told."""


class Kit(NamedTuple):
    """How checks start the program."""

    argv: List[str]
    patience: float

    def start(self, other: bool = False) -> Program:
        """A fresh run of it."""
        return Program(self.argv, self.patience, other)


class Check(NamedTuple):
    """One sentence of the protocol, and the function that tries it."""

    name: str
    word: str
    sentence: str
    run: Callable[[Kit], None]


class Finding(NamedTuple):
    """What came of a check: `ok`, `fail` (a MUST), `warn` (a SHOULD) or `skip`."""

    name: str
    word: str
    sentence: str
    verdict: str
    detail: str
    seconds: float


CHECKS: List[Check] = []


def check(word: str, sentence: str) -> Callable[[Callable[[Kit], None]], Callable[[Kit], None]]:
    """Adds a check, named by its function."""

    def add(function: Callable[[Kit], None]) -> Callable[[Kit], None]:
        CHECKS.append(Check(function.__name__.replace("_", "-"), word, sentence, function))
        return function

    return add


def examine(argv: List[str], patience: float = 10.0, only: Iterable[str] = (),
            tell: Callable[[Finding], None] = lambda finding: None) -> List[Finding]:
    """Runs the checks, each of which waits at most so long for one answer."""
    from . import conduct, duty  # They hold the checks, and name this module.

    assert conduct and duty
    findings = []
    names = set(only)
    for one in CHECKS:
        if names and one.name not in names:
            continue
        begun = time.monotonic()
        verdict, detail = "ok", ""
        try:
            one.run(Kit(argv, patience))
        except Gap as gap:
            verdict, detail = "skip", str(gap)
        except Broken as broken:
            verdict, detail = "fail" if one.word == MUST else "warn", str(broken)
        finding = Finding(one.name, one.word, one.sentence, verdict, detail, round(time.monotonic() - begun, 3))
        findings.append(finding)
        tell(finding)
    return findings


def succeeds(frame: Dict[str, Any], value: Any) -> None:
    """The result is a success with this value."""
    if frame["outcome"] != "succeeded":
        raise Broken(f"`{frame['outcome']}` ({frame.get('message', frame.get('reason'))}) where `succeeded` was due")
    if frame.get("value") != value:
        raise Broken(f"the value is {short(frame.get('value'))}, not {short(value)}")


def ends_with(frame: Dict[str, Any], outcome: str) -> None:
    """The result has this outcome."""
    if frame["outcome"] != outcome:
        raise Broken(f"`{frame['outcome']}` where `{outcome}` was due")


def short(value: Any) -> str:
    """A value as it may stand in a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... of {len(text)} characters"


def at_the_end(program: Program, code: Optional[int], within: float) -> None:
    """The program has ended, with this code, or any when there is none."""
    ended = program.exits(within)
    if ended is None:
        raise Broken(f"it still runs {within:.3g} s later")
    if code is not None and ended != code:
        raise Broken(f"it ended with {ended}, not {code}")


def terminate(program: Program) -> None:
    """SIGTERM to the group, as after a cancel that was not heeded."""
    program.signal(signal.SIGTERM)


def is_inherited(pid: int, inode: int) -> bool:
    """Would a child of this process get the socket? By the kernel's word."""
    try:
        held = [name for name in os.listdir(f"/proc/{pid}/fd") if os.stat(f"/proc/{pid}/fd/{name}").st_ino == inode]
    except OSError:
        raise Gap("this system does not show descriptors in /proc") from None
    flags = []
    for name in held:
        with open(f"/proc/{pid}/fdinfo/{name}") as lines:
            flags += [int(line.split()[1], 8) for line in lines if line.startswith("flags:")]
    return any(not one & CLOSED_ON_EXEC for one in flags)
