"""Python values as JSON text, and back.

Writes what JSON has no word for: dataclasses as objects, enums by value, times, dates and UUIDs as text, tuples and
sets as lists, the inputs of a run as they stand in args. Refuses NaN and infinities, which are no JSON, and text that is no UTF-8.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import date, datetime
from enum import Enum
from typing import Any
from uuid import UUID


def _other(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    if hasattr(value, "in_args"):
        return value.in_args()
    raise TypeError(f"what JSON has no word for: {type(value).__name__}")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_other)


def dumps(value: Any) -> bytes:
    """The value as JSON in UTF-8; `ValueError` or `TypeError` says what cannot be carried."""
    try:
        return _encoder.encode(value).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("it holds text that is no UTF-8 (a file name, perhaps)") from None
    except RecursionError:
        raise ValueError("it is nested too deeply, or holds itself") from None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_no_number)


def loads(text: bytes) -> Any:
    """The value of a JSON text in UTF-8; `ValueError` when it is none."""
    try:
        return _decoder.decode(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def plain(value: Any) -> Any:
    """The value as it comes out at the other end: only what JSON knows."""
    return loads(dumps(value))


def clean(text: str) -> str:
    """The text with what is no UTF-8 replaced, for messages that must arrive."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
