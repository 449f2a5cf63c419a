"""What can go wrong, named by what the caller does next."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple


class SpinorError(Exception):
    """Every error of this package but those a job raises to end itself."""


class ArgsError(SpinorError, ValueError):
    """Change the arguments: ``field`` does not fit the job's parameters."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"`{field}`: {why}" if field else why)
        self.field = field
        self.why = why


class Unreachable(SpinorError):
    """Start it, or name the right place: nothing answers there."""


class BrokenAnswer(SpinorError):
    """Look closer: the answer made no sense, or broke off."""


class Refused(SpinorError):
    """Change the request: it was understood and refused."""

    def __init__(self, problem: Dict[str, Any]) -> None:
        self.title: str = str(problem.get("title", "Refused"))
        self.status: int = int(problem.get("status", 0))
        self.detail: str = str(problem.get("detail", ""))
        self.field: Optional[str] = problem.get("field")
        self.known: Sequence[str] = problem.get("known") or []
        #: The job that is in the way, such as the one that has the unique key.
        self.job: Optional[str] = problem.get("job")
        field = f"`{self.field}`: " if self.field else ""
        known = ", ".join(self.known)
        known = f"; there are {known}" if known and known not in self.detail else ""
        super().__init__(f"{field}{self.detail or self.title}{known}")


class BatchRefused(SpinorError):
    """Some jobs of a batch were not accepted: ``refused`` has each with its place; the others were."""

    def __init__(self, accepted: Sequence[Any], refused: Sequence[Tuple[int, Refused]]) -> None:
        place, problem = refused[0]
        super().__init__(f"{len(refused)} of {len(accepted) + len(refused)} jobs were refused; [{place}]: {problem}")
        #: The handles of those that were accepted.
        self.accepted = accepted
        #: Pairs of place in the batch and `Refused`.
        self.refused = refused


class NeedsApi(SpinorError):
    """Use `Client` in place of `RabbitClient`: a broker alone cannot do that."""


class WaitTimeout(SpinorError, TimeoutError):
    """Wait longer, or look why it does not run: the time was over before the job's end."""


class RunFailed(SpinorError):
    """The run ended, and not well: ``failed`` has the members that did not succeed, ``record`` everything."""

    def __init__(self, run: str, record: Dict[str, Any]) -> None:
        members = record.get("member_list") or []
        self.run = run
        self.record = record
        #: Triples of name, state and what went wrong.
        self.failed = [(one["name"], one["state"], one.get("error") or "") for one in members if one["state"] != "succeeded"]
        told = [f"{name} {state}" + (f" ({error})" if error else "") for name, state, error in self.failed[:3]]
        told += [str(problem) for problem in (record.get("problems") or [])[:3]]
        super().__init__(f"run {run} failed" + (f": {', '.join(told)}" if told else ""))


class JobFailed(SpinorError):
    """The job ended, and not well: ``state`` says how, ``report`` has everything."""

    def __init__(self, job: str, state: str, report: Optional[Dict[str, Any]] = None) -> None:
        failure = (report or {}).get("failure") or {}
        self.job = job
        self.state = state
        self.cause: Optional[str] = failure.get("cause")
        self.message: str = failure.get("message") or ""
        self.report = report
        super().__init__(f"job {job} {state}" + (f": {self.message}" if self.message else ""))
