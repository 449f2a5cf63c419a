"""An executor program with the Python package: the kinds that the conformance kit asks for.

    python -m spinor_jobs.conformance -- python executors/examples/executor.py
"""

import logging
import subprocess
import time
from typing import Any

import spinor_jobs
from spinor_jobs import Discard, Retry, job, progress


@job("kit.echo")
def echo(**args: Any) -> Any:
    """Succeeds with its args."""
    return args


@job("kit.fail")
def fail(**_: Any) -> None:
    """Fails."""
    raise RuntimeError("it went wrong")


@job("kit.sleep")
def sleep(seconds: float) -> None:
    """Takes its time, and stops when told to."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        progress(seconds - (end - time.monotonic()), seconds)
        time.sleep(min(0.05, max(end - time.monotonic(), 0)))


@job("kit.print")
def say(text: str = "hello") -> None:
    """Writes to its standard output, and to its log."""
    print(text)
    logging.info("said it")


@job("kit.retry")
def retry(**_: Any) -> None:
    """Asks for another attempt."""
    raise Retry("not yet", after=1.5)


@job("kit.discard")
def discard(**_: Any) -> None:
    """Asks for none."""
    raise Discard("it is of no use")


@job("kit.publish")
def publish(**_: Any) -> None:
    """Publishes a job that leaves when this one succeeds."""
    echo.publish(a=1)


@job("kit.child")
def child(seconds: float) -> None:
    """Leaves a child behind."""
    subprocess.Popen(["sleep", str(seconds)], stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    spinor_jobs.run("kit 1.0")
