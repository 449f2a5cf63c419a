"""One execution of a job's function: args read, function called, ending turned into an outcome.

Owns the table from how Python code ends to what the protocol calls it. The executor and the inline tests share it.
Refuses to know sockets.
"""

from __future__ import annotations

import traceback
from typing import Any, Callable, Dict, Optional, Sequence

from .errors import ArgsError
from .job import Job
from .outcomes import Cancelled, Discard, Retry
from .values import clean

#: Longer texts are cut: a message at its end, a traceback at its start.
LONGEST_MESSAGE = 2000
LONGEST_DETAIL = 64 << 10

Outcome = Dict[str, Any]


def attempt(job: Optional[Job[Any]], kind: str, args: Any, call: Callable[[Job[Any], Dict[str, Any]], Any],
            of_celery: bool = False) -> Outcome:
    """The outcome of one execution, as the fields of a `result` frame."""
    if job is None:
        return {"outcome": "failed", "cause": "error", "message": f"this program has no job of the kind `{clean(kind)}`"}
    try:
        values = job.parameters.read(args, of_celery)
    except ArgsError as error:
        return {"outcome": "failed", "cause": "args", "message": message_of(str(error))}
    except Exception as error:  # A dataclass of the user's may refuse its values.
        return {"outcome": "failed", "cause": "args", "message": message_of(_said(error)), "detail": detail_of(error)}
    try:
        return {"outcome": "succeeded", "value": call(job, values)}
    except BaseException as error:
        return outcome_of(error, job)


def outcome_of(error: BaseException, job: Job[Any]) -> Outcome:
    """What an exception that left a job means."""
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())
    if len(inner) == 1 and isinstance(inner[0], (Retry, Discard)):
        error = inner[0]  # What asyncio's task groups make of it.
    if isinstance(error, Retry):
        after = {} if error.after is None else {"after": error.after}
        return {"outcome": "retry", "reason": message_of(error.reason), **after}
    if isinstance(error, Discard):
        return {"outcome": "discard", "reason": message_of(error.reason)}
    if isinstance(error, Cancelled):
        return {"outcome": "failed", "cause": "error", "message": message_of(f"cancelled: {error}")}
    if isinstance(error, job.discard_on):
        return {"outcome": "discard", "reason": message_of(_said(error))}
    if isinstance(error, SystemExit):
        message = f"the job called sys.exit({error.code!r})"
    else:
        message = _said(error)
    return {"outcome": "failed", "cause": "error", "message": message_of(message), "detail": detail_of(error)}


def message_of(text: str) -> str:
    """A text that a report carries."""
    text = clean(text)
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "..."


def detail_of(error: BaseException) -> str:
    """The traceback from the job's own code on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _ours(trace):
        trace = trace.tb_next
    text = clean("".join(traceback.format_exception(type(error), error, trace)))
    return text if len(text) <= LONGEST_DETAIL else "..." + text[-LONGEST_DETAIL:]


def _ours(trace: Any) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0] in ("spinor_jobs", "asyncio")


def _said(error: BaseException) -> str:
    name, text = type(error).__name__, str(error)
    return f"{name}: {text}" if text else name
