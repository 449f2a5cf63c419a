"""The same task in Celery's prefork pool and in Spinor's executor processes, in turns: ``deploy/bench-celery.sh``.

This one module is the Celery application, the module that Spinor's consumer serves, and the client that publishes,
awaits each result and prints. Refuses to judge anything but tasks a second: what each side keeps of a task differs
(Celery a reply until it is read; Spinor a record in its database).
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import List

from celery import Celery
from celery.result import ResultSet

from spinor_jobs import Client, job

#: Bytes of the one argument, which is also the value.
TEXT = "x" * 98
PATIENCE = 600

app = Celery("beside", broker=os.environ["BESIDE_BROKER"], backend="rpc://")
app.conf.update(
    task_acks_late=True,
    broker_transport_options={"confirm_publish": True},
    task_default_queue="beside-celery",
    worker_hijack_root_logger=False,
)


@app.task(name="beside.nothing")
def nothing(text: str) -> str:
    return text


@job("beside.nothing", queue="beside-spinor")
def nothing_here(text: str) -> str:
    return text


def celery(tasks: int) -> float:
    begun = time.monotonic()
    sent = [nothing.delay(TEXT) for _ in range(tasks)]
    # All at once: `get` one by one waits a second for each that has come already.
    check(ResultSet(sent).get(PATIENCE), tasks)
    return tasks / (time.monotonic() - begun)


def spinor(tasks: int) -> float:
    client = Client()
    begun = time.monotonic()
    sent = client.publish_batch([nothing_here.new(TEXT) for _ in range(tasks)])
    check(client.gather(sent, PATIENCE), tasks)
    return tasks / (time.monotonic() - begun)


def check(values: List[str], tasks: int) -> None:
    if values != [TEXT] * tasks:
        raise SystemExit(f"{len(values)} results of {tasks}, or wrong ones")


def main(tasks: int, rounds: int) -> None:
    # The first tasks pay for what later ones find ready.
    celery(100), spinor(100)
    ratios = []
    for number in range(1, rounds + 1):
        if number % 2:
            slow, fast = celery(tasks), spinor(tasks)
        else:
            fast, slow = spinor(tasks), celery(tasks)
        ratios.append(fast / slow)
        print(f"round {number}: Celery {slow:.0f}/s, Spinor {fast:.0f}/s, {ratios[-1]:.2f} times", flush=True)
    print(f"median {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f}), {tasks} tasks a round")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
