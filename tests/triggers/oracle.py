"""An oracle for cron in time zones: local times by croniter, instants by zoneinfo.

Usage: oracle.py FIRST LAST < cases, a case a line: ours, a tab, croniter's own form, a tab, the zone. Writes
one line an instant: the case's number and the seconds since 1970.
"""
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from croniter import croniter


def offset(second, zone):
    return datetime.fromtimestamp(second, zone).utcoffset()


def instant(local, zone):
    """The first of two; the end of the gap for a time that never was."""
    at = int(local.replace(tzinfo=zone, fold=0).timestamp())
    if datetime.fromtimestamp(at, zone).replace(tzinfo=None) == local:
        return at
    low, high = at - 6 * 3600, at
    while high - low > 1:
        middle = (low + high) // 2
        if offset(middle, zone) == offset(high, zone):
            high = middle
        else:
            low = middle
    return high


def main():
    first, last = int(sys.argv[1]), int(sys.argv[2])
    for number, line in enumerate(sys.stdin):
        _, cron, name = line.rstrip("\n").split("\t")
        zone = ZoneInfo(name)
        begin = datetime.fromtimestamp(first, timezone.utc).replace(tzinfo=None) - timedelta(days=2)
        locals_ = croniter(cron, begin)
        instants = set()
        while True:
            local = locals_.get_next(datetime)
            at = instant(local, zone)
            if at > last:
                break
            if at > first:
                instants.add(at)
        for at in sorted(instants):
            print(number, at)


main()
