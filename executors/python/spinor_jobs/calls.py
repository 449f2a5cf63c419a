"""What is asked of the API, and what its answers mean; the same for the sync and the async client.

Owns paths, bodies and the reading of answers. Refuses to send: a transport does.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from .errors import BatchRefused, BrokenAnswer, JobFailed, Refused, RunFailed, WaitTimeout
from .newjob import NewJob
from .runs import NewRun, is_closing
from .times import Time, seconds, text
from .values import dumps, loads

#: A question is answered within this, and a wait so long after its own time.
ANSWER = 10.0
#: What is handed over is taken or refused within this: longer than the server waits for its broker.
TAKEN = 60.0
#: At most so many jobs in one publish.
MOST_JOBS = 10_000
#: No single wait is longer; a longer one asks again.
LONGEST_WAIT = 300.0

H = TypeVar("H")


class Call(NamedTuple):
    """One request."""

    method: str
    path: str
    body: Optional[bytes] = None
    timeout: float = ANSWER


class Place(NamedTuple):
    """Where the API is."""

    scheme: str
    host: str
    port: int
    socket: str
    base: str
    name: str


def place_of(url: Optional[str]) -> Place:
    """Reads an address: ``http://host:port``, ``https://...``, or ``unix:/path/to/spinor.sock``.

    Without one it is what the variables that configure Spinor say: ``SPINOR_API__LISTEN``, else the socket in
    ``SPINOR_DATA``, else in the usual data directory.
    """
    url = url or _usual()
    if url.startswith("unix:"):
        path = url[5:].replace("//", "/", 1) if url.startswith("unix://") else url[5:]
        return Place("unix", "localhost", 0, path, "", f"unix:{path}")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url: expected http://HOST:PORT, https://HOST or unix:/PATH/spinor.sock, got {parts.scheme or url}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    name = f"{parts.scheme}://{parts.hostname}:{port}"
    return Place(parts.scheme, parts.hostname, port, "", parts.path.rstrip("/"), name)


def _usual() -> str:
    listen = os.environ.get("SPINOR_API__LISTEN")
    if listen:
        return f"http://{listen}"
    data = os.environ.get("SPINOR_DATA")
    if not data:
        home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        data = os.path.join(home, "spinor")
    return "unix:" + os.path.join(data, "spinor.sock")


def usual_token() -> Optional[str]:
    """The token that the variables name."""
    return os.environ.get("SPINOR_API__TOKEN")


def id_of(job: Any) -> str:
    """The id of a job, or of its handle."""
    return str(getattr(job, "id", job))


def publish(job: NewJob) -> Call:
    """One job."""
    return Call("POST", "/jobs", dumps(job.json()), TAKEN)


def publish_many(jobs: List[NewJob]) -> Call:
    """Many, each with a result of its own."""
    return Call("POST", "/jobs", dumps([job.json() for job in jobs]), TAKEN)


def show(job: Any) -> Call:
    """What is recorded."""
    return Call("GET", _path(job))


def cancel(job: Any, why: Optional[str], by: Optional[str]) -> Call:
    """It shall not run, or end."""
    asked = {name: value for name, value in (("why", why), ("by", by)) if value is not None}
    return Call("POST", _path(job) + "/cancel", dumps(asked), TAKEN)


def wait(job: Any, timeout: float) -> Call:
    """Its end, or 202 when the time is over."""
    timeout = min(timeout, LONGEST_WAIT)
    known = "true" if not isinstance(job, str) else "false"
    query = urlencode({"timeout": text("timeout", timeout), "published": known})
    return Call("GET", f"{_path(job)}/wait?{query}", None, timeout + ANSWER)


def wait_many(ids: List[str], timeout: float, reports: bool) -> Call:
    """Those that have ended, of at most 1000; 200 with their reports."""
    timeout = min(timeout, LONGEST_WAIT)
    body: Dict[str, Any] = {"jobs": ids, "timeout": text("timeout", timeout)}
    if reports:  # Servers of before do not know the word.
        body["reports"] = True
    return Call("POST", "/jobs/wait", dumps(body), timeout + ANSWER)


def run(new: NewRun) -> Call:
    """A run of jobs."""
    return Call("POST", "/runs", dumps(new.json()), TAKEN)


def show_run(run: Any) -> Call:
    """What is recorded of a run, with its members."""
    return Call("GET", _run_path(run))


def cancel_run(run: Any, why: Optional[str], by: Optional[str]) -> Call:
    """Its jobs shall not run, or end."""
    asked = {name: value for name, value in (("why", why), ("by", by)) if value is not None}
    return Call("POST", _run_path(run) + "/cancel", dumps(asked), TAKEN)


def retry_run(run: Any) -> Call:
    """What did not succeed is done again."""
    return Call("POST", _run_path(run) + "/retry", dumps({}), TAKEN)


def is_coming(refused: Refused) -> bool:
    """Is it a record that is not there yet, or does not answer now?"""
    return refused.status in (404, 503)


def values_of(run: Any, record: Dict[str, Any]) -> List[Tuple[str, str]]:
    """Name and job of each member of a run that succeeded; `RunFailed` for one that did not."""
    if not record.get("succeeded"):
        raise RunFailed(id_of(run), record)
    members = [(one["name"], one["job"]) for one in record.get("member_list") or []]
    return [(name, job) for name, job in members if not is_closing(name)]


def read(status: int, body: bytes, place: Place) -> Any:
    """The answer, or the error it is."""
    try:
        answer = loads(body)
    except ValueError:
        raise BrokenAnswer(f"{place.name} did not answer as expected: HTTP status {status}, and no JSON") from None
    if status >= 400:
        raise Refused(answer if isinstance(answer, dict) else {"status": status, "detail": f"HTTP status {status}"})
    return answer


def handle(answer: Dict[str, Any], make: Callable[..., H], asks: Any) -> H:
    """The handle of a job that was accepted."""
    return make(answer["id"], answer["queue"], asks, bool(answer.get("existing")))


def handles(answer: Dict[str, Any], make: Callable[..., H], asks: Any, place: int) -> Tuple[List[H], List[Tuple[int, Refused]]]:
    """What became of each job of a batch: those accepted, and those refused with their place."""
    accepted, refused = [], []
    for at, item in enumerate(answer["jobs"], place):
        if item.get("problem"):
            refused.append((at, Refused(item["problem"])))
        else:
            accepted.append(handle(item, make, asks))
    return accepted, refused


def all_of(accepted: List[H], refused: List[Tuple[int, Refused]]) -> List[H]:
    """The handles, if all were accepted."""
    if refused:
        raise BatchRefused(accepted, refused)
    return accepted


def value_of(job: Any, report: Dict[str, Any], unread: Optional[str] = None) -> Any:
    """The value of a report, or the error it tells of."""
    if report.get("state") != "succeeded":
        raise JobFailed(id_of(job), str(report.get("state")), report)
    if unread:
        raise BrokenAnswer(f"job {id_of(job)} succeeded, and its value cannot be read: {unread}")
    return report.get("value")


def timed_out(job: Any, timeout: Time) -> WaitTimeout:
    """The error of a wait that was too short."""
    return WaitTimeout(f"job {id_of(job)} has not ended after {seconds('timeout', timeout):g} s")


def _path(job: Any) -> str:
    return "/jobs/" + quote(id_of(job), safe="")


def _run_path(run: Any) -> str:
    return "/runs/" + quote(id_of(run), safe="")


def has_ended(run: Any, record: Dict[str, Any]) -> bool:
    """Is this the end that is waited for? After a retry, the one before it is not."""
    return bool(record.get("ended")) and int(record.get("replay", 0)) >= int(getattr(run, "replay", 0))


def pauses(run: Any, timeout: Time) -> Iterator[float]:
    """Seconds between looks at a run, longer each time; `WaitTimeout` once the time is over, which starts now."""
    length = seconds("timeout", timeout)
    end = time.monotonic() + length

    def more() -> Iterator[float]:
        pause = 0.05
        while time.monotonic() < end:
            yield min(pause, max(end - time.monotonic(), 0))
            pause = min(pause * 2, 1.0)
        raise WaitTimeout(f"run {id_of(run)} has not ended after {length:g} s")

    return more()
