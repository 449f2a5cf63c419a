"""Runs of many jobs: the shapes `chain`, `group` and `chord`, and the run they make.

Owns how a shape becomes members with names and needs, in the form of ``POST /api/v1/runs``. Refuses to send, and to
decide when a member starts: the part `trigger` does (``docs/runs.md``), in a test ``testing.inline()``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, Union
from uuid import UUID, uuid5

from . import publishing
from .inputs import BEFORE, Ask, asked, put_in
from .newjob import NewJob, new_id
from .values import plain

POLICIES = ("stop", "go_on", "compensate")
_CLOSING = ("then", "finally")


@dataclass(frozen=True)
class Member:
    """A job of a run, with what a `NewJob` does not say: its name, what it needs, what undoes it."""

    job: NewJob
    #: Its name within the run; else the job's ``member``, else its kind.
    name: Optional[str] = None
    #: Members that must have succeeded before it, besides those that its place in a chain and its args name.
    needs: Sequence[str] = ()
    #: Published when the run fails under the policy ``compensate`` and this one had succeeded.
    compensate: Optional[NewJob] = None


Step = Union[NewJob, Member, "Plan"]


class Plan:
    """The shape of a run. Shapes may stand in shapes."""

    def __init__(self, steps: Sequence[Step], in_order: bool) -> None:
        what = "chain" if in_order else "group"
        for step in steps:
            if not isinstance(step, (NewJob, Member, Plan)):
                raise TypeError(f"{what}: expected NewJob (`resize.new(...)`), Member or a shape, got {type(step).__name__}")
        if not steps:
            raise TypeError(f"{what}: it holds no job")
        self.steps = tuple(steps)
        self.in_order = in_order

    def publish(self, **options: Any) -> Any:
        """Publishes it as a run, with the options of `Client.run`: by the default client, or inline in a test."""
        return publishing.publish_run(new_run(self, **options))


def chain(*steps: Step) -> Plan:
    """One after the other; each may take the value of the one before it as `previous`."""
    return Plan(steps, True)


def group(*steps: Step) -> Plan:
    """Side by side."""
    return Plan(steps, False)


def chord(parts: Union[Plan, Iterable[Step]], job: Step) -> Plan:
    """Side by side, then a job when all have succeeded; `previous` in it is the list of their values, in their order."""
    return Plan((parts if isinstance(parts, Plan) else group(*parts), job), True)


@dataclass(frozen=True)
class NewRun:
    """A run as a publisher asks for it: members with all their names and needs."""

    members: List[Member]
    name: str = ""
    #: What a member that fails means: ``stop``, ``go_on`` or ``compensate``.
    on_failure: str = "stop"
    #: Published once all members have succeeded.
    then: Optional[NewJob] = None
    #: Published at the end, however it went.
    finally_: Optional[NewJob] = None
    #: A UUID; the same one again is the same run.
    id: str = field(default_factory=new_id)

    def job_id(self, name: str) -> str:
        """The id of a member's job; of what follows them: ``then``, ``finally``, ``compensate:NAME``."""
        return job_id(self.id, name)

    def json(self) -> Dict[str, Any]:
        """As the API reads it."""
        run: Dict[str, Any] = {"id": self.id, "on_failure": self.on_failure}
        if self.name:
            run["name"] = self.name
        run["members"] = [_member(member) for member in self.members]
        for name, job in zip(_CLOSING, (self.then, self.finally_)):
            if job is not None:
                run[name] = _job(job, name)
        return run


def job_id(run: str, name: str) -> str:
    """The id of the job of a member."""
    return str(uuid5(UUID(run), name))


def is_closing(name: str) -> bool:
    """Is it what follows the members, and not one of them?"""
    return name in _CLOSING or name.startswith("compensate:")


def new_run(what: Union[Step, Iterable[Member]], *, name: str = "", on_failure: str = "stop", then: Optional[NewJob] = None,
            finally_: Optional[NewJob] = None, id: Optional[str] = None) -> NewRun:
    """The run of a shape, of one job, or of members that name their needs themselves."""
    if on_failure not in POLICIES:
        raise ValueError(f"on_failure: there is no `{on_failure}`; there are {', '.join(POLICIES)}")
    loose = not isinstance(what, (NewJob, Member, Plan))
    steps: Sequence[Step] = list(what) if loose else [what]  # type: ignore[arg-type,list-item]
    names = _Names(steps)
    members: List[Member] = []
    for step in steps:
        _flat(step, _Before((), None), names, members)
    known = {str(member.name) for member in members}
    for member in members:
        for need in member.needs:
            if need not in known:
                raise ValueError(f"member `{member.name}`: there is no member `{need}`; there are {', '.join(sorted(known))}")
    run = NewRun(members, name, on_failure, then, finally_, str(UUID(id)) if id is not None else new_id())
    run.json()  # What is wrong is told here.
    return run


def as_run(what: Any, options: Dict[str, Any]) -> NewRun:
    """A run as it is, or made of a shape and options."""
    if not isinstance(what, NewRun):
        return new_run(what, **options)
    if options:
        raise TypeError(f"{', '.join(options)}: a NewRun has its own")
    return what


class _Before(NamedTuple):
    needs: Tuple[str, ...]
    value: Optional[Ask]


class _Names:
    """Names for members that have none: their kinds, counted."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._taken: Set[str] = set()
        self._numbers: Dict[str, int] = {}
        for name in _given(steps):
            if name in self._taken:
                raise ValueError(f"member `{name}`: there are two of this name")
            self._taken.add(name)

    def of(self, member: Member) -> str:
        given = member.name or member.job.member
        if given:
            return given
        kind = member.job.kind
        number = self._numbers.get(kind, 1)
        name = kind if number == 1 else f"{kind}-{number}"
        while name in self._taken or name in _CLOSING:
            number += 1
            name = f"{kind}-{number}"
        self._numbers[kind] = number
        self._taken.add(name)
        return name


def _given(steps: Iterable[Step]) -> Iterable[str]:
    for step in steps:
        if isinstance(step, Plan):
            yield from _given(step.steps)
        else:
            name = (step.name or step.job.member) if isinstance(step, Member) else step.member
            if name:
                yield name


def _flat(step: Step, before: _Before, names: _Names, into: List[Member]) -> _Before:
    """Adds the members of a step; what is before whoever follows it."""
    if isinstance(step, Plan):
        if step.in_order:
            for one in step.steps:
                before = _flat(one, before, names, into)
            return before
        ends = [_flat(one, before, names, into) for one in step.steps]
        values: List[str] = []
        for end in ends:
            values += [end.value] if isinstance(end.value, str) else end.value or []
        return _Before(tuple(dict.fromkeys(need for end in ends for need in end.needs)), values)
    member = step if isinstance(step, Member) else Member(step)
    name = names.of(member)

    def place(word: str, ask: Ask) -> Dict[str, Ask]:
        if ask != BEFORE:
            return {word: ask}
        if before.value is None:
            raise ValueError(f"member `{name}`: `previous` in its args, and no job is before it")
        return {word: before.value}

    args = put_in(plain(member.job.args), place)
    asks = (one for one in asked(args) if one not in ("*", name))
    needs = tuple(dict.fromkeys([*before.needs, *member.needs, *asks]))
    into.append(replace(member, job=replace(member.job, args=args, member=None), name=name, needs=needs))
    return _Before((name,), name)


def _member(member: Member) -> Dict[str, Any]:
    job = {"name": member.name, **_job(member.job, f"member `{member.name}`")}
    if member.needs:
        job["needs"] = list(member.needs)
    if member.compensate is not None:
        job["compensate"] = _job(member.compensate, f"compensate of `{member.name}`")
    return job


def _job(job: NewJob, what: str) -> Dict[str, Any]:
    for option in ("run", "unique", "at"):
        if getattr(job, option) is not None:
            why = "the run decides it" if option == "run" else "a job of a run has none"
            raise ValueError(f"{what}: {option}: {why}")
    fields = job.json()
    fields.pop("id")
    fields.pop("member", None)
    if any(one == BEFORE for one in asked(fields.get("args"))):
        raise ValueError(f"{what}: `previous` in its args; name the members, or \"*\"")
    return fields
