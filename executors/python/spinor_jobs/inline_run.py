"""A run in a test: its members run inline, each once what it needs has succeeded.

Owns the same policies as the part `trigger` (``docs/runs.md``). A member whose kind has no ``@job`` here stays queued;
then what needs it waits, and the run does not end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from .errors import RunFailed, SpinorError, WaitTimeout
from .inputs import Ask, put_in
from .newjob import NewJob
from .runs import Member, NewRun
from .times import Time

if TYPE_CHECKING:
    from .testing import Inline, InlineHandle


class InlineRun:
    """A run that ran inline: what became of each member."""

    def __init__(self, run: NewRun, published: "Inline") -> None:
        self.id = run.id
        self.run = run
        #: The handles of what was published, by name; ``then``, ``finally`` and ``compensate:NAME`` among them.
        self.jobs: Dict[str, "InlineHandle"] = {}
        #: `succeeded`, `failed` or `discarded`; `queued`, `waiting` or `skipped` for a member that did not run.
        self.states: Dict[str, str] = {str(member.name): "waiting" for member in run.members}
        #: None until it ended.
        self.succeeded: Optional[bool] = None
        self._published = published
        self._go()

    def member(self, name: str) -> "InlineHandle":
        """The handle of a member that was published."""
        if name not in self.jobs:
            raise SpinorError(f"member `{name}` was not published: it is {self.states.get(name, 'none of this run')}")
        return self.jobs[name]

    def wait(self, timeout: Time = 3600) -> Dict[str, Any]:
        """The record, as far as there is one."""
        if self.succeeded is None:
            queued = [self.jobs[name].kind for name, state in self.states.items() if state == "queued"]
            raise WaitTimeout(f"run {self.id} does not end here: there is no @job for {', '.join(queued) or 'what follows'}")
        return self.show()

    def results(self, timeout: Time = 3600) -> Dict[str, Any]:
        """The values of all members by name, or `RunFailed`."""
        record = self.wait(timeout)
        if not self.succeeded:
            raise RunFailed(self.id, record)
        return {name: self.jobs[name].value for name in self.states}

    def show(self) -> Dict[str, Any]:
        """What a record would say."""
        rows = [{"name": name, "job": self.run.job_id(name), "state": state,
                 "error": self.jobs[name].message if name in self.jobs and state != "succeeded" else None}
                for name, state in self.states.items()]
        extra = [name for name in self.jobs if name not in self.states and self.jobs[name].state != "succeeded"]
        problems = [f"`{name}` {self.jobs[name].state}: {self.jobs[name].message}" for name in extra]
        return {"id": self.id, "name": self.run.name, "succeeded": self.succeeded, "member_list": rows, "problems": problems}

    def cancel(self, why: Optional[str] = None) -> Dict[str, Any]:
        """Too late, always: it has run."""
        raise SpinorError(f"run {self.id} has run already")

    def _go(self) -> None:
        stopped, ended = False, []
        while True:
            member = next((one for one in self.run.members if self._is_due(one)), None)
            if member is None or stopped:
                break
            name = str(member.name)
            self.states[name] = self._publish(name, member.job, member.needs)
            if self.states[name] == "succeeded":
                ended.append(member)
            elif self.states[name] != "queued":
                stopped = self.run.on_failure != "go_on"
                self._skip_after_failures(stopped)
        if any(state in ("queued", "waiting") for state in self.states.values()):
            return
        good = all(state == "succeeded" for state in self.states.values())
        if self.run.on_failure == "compensate" and not good:
            for member in reversed(ended):
                if member.compensate is not None:
                    self._undo(member)
        if good and self.run.then is not None:
            good = self._close("then", self.run.then, True)
        if self.run.finally_ is not None:
            good = self._close("finally", self.run.finally_, good) and good
        if all(handle.state != "queued" for handle in self.jobs.values()):
            self.succeeded = good

    def _is_due(self, member: Member) -> bool:
        return self.states[str(member.name)] == "waiting" and all(self.states[need] == "succeeded" for need in member.needs)

    def _skip_after_failures(self, stopped: bool) -> None:
        going = True
        while going:
            going = False
            for member in self.run.members:
                lost = stopped or any(self.states[need] not in ("succeeded", "queued", "waiting") for need in member.needs)
                if self.states[str(member.name)] == "waiting" and lost:
                    self.states[str(member.name)] = "skipped"
                    going = True

    def _undo(self, member: Member) -> None:
        name, undo = str(member.name), member.compensate
        assert undo is not None
        undo = replace(undo, queue=undo.queue or member.job.queue)
        self._publish(f"compensate:{name}", undo, (*member.needs, name))

    def _close(self, name: str, job: NewJob, good: bool) -> bool:
        if job.args is None:
            job = replace(job, args={"run": self.id, "succeeded": good, "members": {
                one: self._told(one, state) for one, state in self.states.items()}})
        return self._publish(name, job, tuple(self.states)) == "succeeded"

    def _told(self, name: str, state: str) -> Dict[str, Any]:
        handle = self.jobs.get(name)
        if state == "succeeded" and handle is not None:
            return {"state": state, "value": handle.value}
        return {"state": state, "error": handle.message if handle is not None else None}

    def _publish(self, name: str, job: NewJob, known: Sequence[str]) -> str:
        def fill(word: str, ask: Ask) -> Any:
            one = self._value if word == "$from" else self.states.__getitem__
            if ask == "*":
                return {name: one(name) for name in known}
            return one(ask) if isinstance(ask, str) else [one(name) for name in ask]

        args = put_in(job.json().get("args"), fill)
        handle = self._published.publish(replace(job, args=args, id=self.run.job_id(name), run=self.id, member=name))
        self.jobs[name] = handle
        return handle.state

    def _value(self, name: str) -> Any:
        succeeded: List[str] = [one for one, state in self.states.items() if state == "succeeded"]
        return self.jobs[name].value if name in succeeded else None
