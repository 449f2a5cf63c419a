"""Times as people write them: seconds, a timedelta, or a text such as ``"1m30s"``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Union

Time = Union[int, float, str, timedelta]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d+)(ms|s|m|h|d)")


def seconds(field: str, time: Time) -> float:
    """A time in seconds; anything else is an error that names the field."""
    if isinstance(time, timedelta):
        value = time.total_seconds()
    elif isinstance(time, (int, float)) and not isinstance(time, bool):
        value = float(time)
    elif isinstance(time, str) and re.fullmatch(f"({_PART.pattern})+", time):
        value = float(sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(time)))
    else:
        raise ValueError(f'{field}: expected seconds, a timedelta or a text such as "250ms" or "5m"')
    if not 0 <= value < 1e10:
        raise ValueError(f"{field}: expected a time from 0 on, got {time}")
    return value


def text(field: str, time: Time) -> str:
    """A time as the API reads it, to the millisecond."""
    return f"{round(seconds(field, time) * 1000)}ms"


def instant(field: str, at: datetime) -> datetime:
    """An instant; one without a time zone is refused, for it would mean another hour elsewhere."""
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ValueError(f"{field}: expected a datetime with a time zone, such as datetime.now(timezone.utc)")
    return at.astimezone(timezone.utc)
