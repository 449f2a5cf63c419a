"""What a type hint asks of a JSON value: its schema, and how it is read.

Owns the table from hints to forms. A value that does not fit is an `ArgsError` that names the place and never shows
the value, for it may be a secret. Refuses hints that JSON cannot carry, when the job is defined.
"""

from __future__ import annotations

import collections.abc as abc
import types
import typing
from datetime import date, datetime
from enum import Enum
from typing import Any, Callable, Dict, NamedTuple, Tuple, Union
from uuid import UUID

from .errors import ArgsError
from .values import plain


class Form(NamedTuple):
    """One type: what to call it, its JSON Schema, and the reader of ``(value, place)``."""

    word: str
    schema: Dict[str, Any]
    read: Callable[[Any, str], Any]


_WORDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def word_of(value: Any) -> str:
    """What a JSON value is, in a word, without showing it."""
    return "null" if value is None else _WORDS.get(type(value), type(value).__name__)


def wrong(place: str, expected: str, value: Any) -> ArgsError:
    """The error of a value that does not fit."""
    return ArgsError(place, f"expected {expected}, got {word_of(value)}")


def _integer(value: Any, place: str) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise wrong(place, "a whole number", value)


def _number(value: Any, place: str) -> float:
    if type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:
            raise ArgsError(place, "is too large a number") from None
    raise wrong(place, "a number", value)


def _exactly(kind: type, word: str, schema: str) -> Form:
    def read(value: Any, place: str) -> Any:
        if type(value) is kind:
            return value
        raise wrong(place, word, value)

    return Form(word, {"type": schema}, read)


def _text_of(make: Callable[[str], Any], word: str, form: str) -> Form:
    def read(value: Any, place: str) -> Any:
        if type(value) is dict:
            value = _of_celery(value)
        if not isinstance(value, str):
            raise wrong(place, word, value)
        try:
            return make(value)
        except ValueError:
            raise ArgsError(place, f"expected {word}") from None

    return Form(word, {"type": "string", "format": form}, read)


def _of_celery(value: Dict[str, Any]) -> Any:
    """The text of a time, date or UUID as Celery's JSON writes it, from 5.3 on; anything else as it is."""
    if value.keys() != {"__type__", "__value__"}:
        return value
    inner = value["__value__"]
    return inner.get("hex") if type(inner) is dict else inner


def _datetime(text: str) -> datetime:
    return datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)


_ANY = Form("anything", {}, lambda value, place: value)
_NULL = Form("null", {"type": "null"}, _exactly(type(None), "null", "null").read)
_LIST, _DICT = _exactly(list, "a list", "array"), _exactly(dict, "an object", "object")
_SIMPLE: Dict[Any, Form] = {
    Any: _ANY,
    object: _ANY,
    None: _NULL,
    type(None): _NULL,
    bool: _exactly(bool, "true or false", "boolean"),
    int: Form("a whole number", {"type": "integer"}, _integer),
    float: Form("a number", {"type": "number"}, _number),
    str: _exactly(str, "text", "string"),
    list: _LIST,
    dict: _DICT,
    datetime: _text_of(_datetime, "a time such as 2030-01-31T12:00:00Z", "date-time"),
    date: _text_of(date.fromisoformat, "a date such as 2030-01-31", "date"),
    UUID: _text_of(UUID, "a UUID", "uuid"),
}


def form_of(hint: Any, inside: Tuple[type, ...] = ()) -> Form:
    """The form of a type hint; `TypeError` for one that JSON cannot carry."""
    try:
        if hint in _SIMPLE:
            return _SIMPLE[hint]
    except TypeError:
        pass  # An unhashable hint is none of the simple ones.
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(origin, type) and not inner and origin in _SIMPLE:
        return _SIMPLE[origin]  # A bare `List` or `Dict`.
    if origin is Union or origin is getattr(types, "UnionType", Union):
        return _union([form_of(one, inside) for one in inner])
    if origin is typing.Literal:
        return _one_of(list(inner), {value: value for value in inner})
    if getattr(origin, "_name", str(origin)) in ("Required", "NotRequired", "ReadOnly") or hasattr(hint, "__metadata__"):
        return form_of(inner[0], inside)
    if hasattr(hint, "__supertype__"):
        return form_of(hint.__supertype__, inside)
    if origin in (list, abc.Sequence, abc.Iterable, abc.Collection):
        return _items(form_of(inner[0], inside), list)
    if origin in (set, frozenset):
        return _items(form_of(inner[0], inside), origin)
    if origin is tuple:
        return _tuple(inner, inside)
    if origin in (dict, abc.Mapping, abc.MutableMapping):
        if inner[0] is not str:
            raise TypeError("the keys of an object are text: write dict[str, ...]")
        return _mapping(form_of(inner[1], inside))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _one_of([plain(member.value) for member in hint], {member.value: member for member in hint})
    from . import records  # Which reads its fields by this module.

    if records.is_record(hint):
        return records.form_of_record(hint, inside)
    raise TypeError(f"JSON cannot carry {getattr(hint, '__name__', hint)!s}; use a type such as int, str, list[str] or a dataclass")


def _union(forms: typing.List[Form]) -> Form:
    choices = [form for form in forms if form is not _NULL]
    word = " or ".join(form.word for form in forms)

    def read(value: Any, place: str) -> Any:
        if value is None and len(choices) < len(forms):
            return None
        if len(choices) == 1:
            return choices[0].read(value, place)
        taken = []
        for form in choices:
            try:
                result = form.read(value, place)
            except ArgsError:
                continue
            if type(result) is type(value):
                return result
            taken.append(result)
        if taken:
            return taken[0]
        raise wrong(place, word, value)

    return Form(word, {"anyOf": [form.schema for form in forms]}, read)


def _one_of(words: typing.List[Any], members: Dict[Any, Any]) -> Form:
    by_type = {(type(key), key): member for key, member in members.items()}
    word = "one of " + ", ".join(str(word) for word in words)

    def read(value: Any, place: str) -> Any:
        try:
            return by_type[type(value), value]
        except (KeyError, TypeError):
            raise ArgsError(place, f"expected {word}") from None

    return Form(word, {"enum": words}, read)


def _items(form: Form, make: Callable[[Any], Any]) -> Form:
    def read(value: Any, place: str) -> Any:
        if type(value) is not list:
            raise wrong(place, "a list", value)
        return make([form.read(item, f"{place}[{at}]") for at, item in enumerate(value)])

    schema: Dict[str, Any] = {"type": "array", "items": form.schema}
    return Form("a list", schema if make is list else {**schema, "uniqueItems": True}, read)


def _tuple(inner: Tuple[Any, ...], inside: Tuple[type, ...]) -> Form:
    if len(inner) == 2 and inner[1] is Ellipsis:
        form = _items(form_of(inner[0], inside), tuple)
        return form._replace(schema={"type": "array", "items": form_of(inner[0], inside).schema})
    forms = [form_of(one, inside) for one in inner]

    def read(value: Any, place: str) -> Any:
        if type(value) is not list or len(value) != len(forms):
            raise wrong(place, f"a list of {len(forms)}", value)
        return tuple(form.read(item, f"{place}[{at}]") for at, (form, item) in enumerate(zip(forms, value)))

    size = len(forms)
    schema = {"type": "array", "prefixItems": [form.schema for form in forms], "minItems": size, "maxItems": size}
    return Form(f"a list of {size}", schema, read)


def _mapping(form: Form) -> Form:
    def read(value: Any, place: str) -> Any:
        if type(value) is not dict:
            raise wrong(place, "an object", value)
        return {key: form.read(item, f"{place}.{key}") for key, item in value.items()}

    return Form("an object", {"type": "object", "additionalProperties": form.schema}, read)
