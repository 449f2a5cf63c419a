"""Every operation of the API does once what it is asked; then it is asked rudely for a while.

    walk.py ADDRESS TOKEN DIRECTORY [SECONDS [SEED]]

DIRECTORY holds the blobs of this Spinor (`blobs/`) and takes a backup. Prints a line with what was done.
"""

import itertools
import pathlib
import sys
import time

from asking import Api
from rude import be_rude


def until(what, look):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.05)
    raise SystemExit(f"waited a minute in vain for {what}")


def publish(api, **job):
    return api.good("publishJobs", {"kind": "noop", **job})["id"]


def ends(api, job):
    return api.good("waitForJob", path={"id": job}, query={"timeout": "60s"})["report"]


def jobs(api):
    job = publish(api, args={"a": [1, None]}, correlation_id="mine", headers={"flavour": "sweet"})
    ends(api, job)
    api.good("publishJobs", [{"kind": "noop"}, {"kind": "noop", "priority": 9}])
    api.good("waitForJobs", {"jobs": [job], "reports": True})
    for name in ("showJob", "whyJob", "replayJob"):
        api.good(name, path={"id": job})
    api.good("listJobs", query={"limit": 2, "kind": "noop"})
    later = publish(api, **{"in": "1h"})
    api.good("editJob", {"priority": 3, "args": [7]}, path={"id": later})
    api.good("listDelayed", query={"limit": 1})
    api.good("cancelJob", {"by": "somebody", "why": "no more"}, path={"id": later})


def failures(api):
    job = publish(api, kind="command", args={"argv": ["false"]})
    ends(api, job)
    group = api.good("listFailures")["groups"][0]["fingerprint"]
    api.good("showFailure", path={"fingerprint": group})
    replay = api.good("orderReplay", {"fingerprint": group, "rate": "1/1h"})["id"]
    api.good("orderReplay", {"fingerprint": group, "dry_run": True})
    for name in ("showReplay", "stopReplay"):
        api.good(name, path={"id": replay})
    api.good("listReplays")
    api.good("figures", query={"since": "1h"})


def dead(api, directory):
    """Args that lie apart and are not what they were make a dead letter."""
    api.good("pauseQueue", path={"name": "default"})
    letters = [publish(api, args=f"{place}" * 300_000) for place in range(3)]
    for blob in (path for path in (directory / "blobs").rglob("*") if path.is_file()):
        blob.write_bytes(b"rubbish")
    api.good("resumeQueue", {"by": "somebody"}, path={"name": "default"})
    until("dead letters", lambda: len(api.good("listDead")["rows"]) == len(letters))
    api.good("showDead", path={"id": letters[0]})
    api.good("replayDead", {"args": [1]}, path={"id": letters[0]})
    api.good("removeOneDead", path={"id": letters[1]})
    api.good("removeDead", query={"all": "true", "dry_run": "true"})


def consumers(api):
    for name in ("listQueues", "listKinds", "listGroups", "listNodes", "listConsumers", "showBroker"):
        api.good(name)
    api.good("showKind", path={"kind": "command"})
    consumer = until("a consumer", lambda: api.good("listConsumers"))[0]
    name, group = {"name": consumer["consumer"]}, {"name": consumer["group"]}
    api.good("showConsumer", path=name)
    api.good("setConsumerSlots", {"slots": 3}, path=name)
    api.good("setGroupSlots", {"slots": None}, path=group)
    api.good("scaleGroup", {"replicas": None, "why": "nobody cares"}, path=group)
    publish(api, unique={"key": "a key/ä", "until": "window"})
    api.good("setLimit", {"at_once": 2, "rate": "100/1m"}, path={"name": "mail"})
    api.good("listLocks", query={"limit": 10})
    api.good("unsetLimit", path={"name": "mail"})
    api.good("freeKey", path={"key": "a key/ä"})


def runs(api):
    members = [{"name": "a", "kind": "noop"}, {"name": "b", "kind": "command", "args": {"argv": ["false"]}, "needs": ["a"]}]
    run = api.good("submitRun", {"name": "walk", "members": members})["run"]
    until("the end of a run", lambda: api.good("showRun", path={"id": run}).get("ended"))
    api.good("listSteps", path={"id": run})
    api.good("retryRun", path={"id": run})
    api.good("listRuns", query={"limit": 1})
    other = api.good("submitRun", {"members": [{"name": "late", "kind": "noop", "delay": "1h"}]})["run"]
    api.good("cancelRun", path={"id": other})


def triggers(api):
    trigger = {"name": "nightly", "cron": "0 3 * * *", "zone": "Europe/Berlin", "job": {"kind": "noop"}}
    api.good("addTrigger", trigger)
    api.good("editTrigger", {**trigger, "cron": "0 4 * * *"}, path={"name": "nightly"})
    for name in ("showTrigger", "pauseTrigger", "resumeTrigger", "fireTrigger"):
        api.good(name, path={"name": "nightly"})
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00Z", "dry_run": True}
    api.good("backfillTrigger", span, path={"name": "nightly"})
    api.good("listTriggers")
    api.good("removeTrigger", path={"name": "nightly"})


def access(api):
    api.good("whoAmI")
    api.good("addUser", {"name": "ann", "password": "a long word", "roles": ["viewer", "operator:mail.*"]})
    api.good("setPassword", {"password": "a longer word"}, path={"name": "ann"})
    api.good("setRoles", {"roles": ["publisher"]}, path={"name": "ann"})
    api.good("addToken", {"name": "ci", "roles": ["viewer:*:image.*"], "lasts": "1h"})
    for name in ("listUsers", "listTokens"):
        api.good(name)
    api.good("removeUser", path={"name": "ann"})
    api.good("removeToken", path={"name": "ci"})
    api.good("listActions", query={"limit": 5})
    api.good("listNotices", query={"outcome": "sent", "limit": 5})


def the_rest(api, directory):
    for name in ("status", "health", "ready", "metrics", "streamPulse", "apiDocument"):
        api.good(name)
    # A stream begins with its first event, or a comment after a while.
    job = publish(api, kind="command", args={"shell": "sleep 1; echo done"})
    api.good("streamEvents", query={"job": job})
    api.good("logIn", {"token": api.token})
    api.good("logOut")
    api.good("pruneData", {"older_than": "30d", "dry_run": True})
    api.good("backUpData", {"to": str(directory / f"backup-{time.time_ns()}")})


def drains(api):
    """Last, since nobody is there afterwards until another is started."""
    publish(api, kind="command", args={"shell": "sleep 5"})
    until("a job that keeps the consumer", lambda: api.good("listConsumers")[0]["busy"])
    consumer = api.good("listConsumers")[0]
    api.good("drainConsumer", path={"name": consumer["consumer"]})
    api.good("drainGroup", path={"name": consumer["group"]})


def main(address, token, directory, seconds="0", seed="1"):
    api, directory = Api(address, token), pathlib.Path(directory)
    jobs(api)
    failures(api)
    dead(api, directory)
    consumers(api)
    runs(api)
    triggers(api)
    access(api)
    the_rest(api, directory)
    rude = be_rude(api, float(seconds), int(seed))
    drains(api)
    missed = [name for name, statuses in api.done.items() if not any(status < 300 for status in statuses)]
    if missed:
        raise SystemExit(f"these never answered well: {', '.join(missed)}")
    refused = sorted(set(itertools.chain(*api.done.values())))
    print(f"{len(api.done)} operations answered well; {rude} rude requests; answers {refused}")


main(*sys.argv[1:])
