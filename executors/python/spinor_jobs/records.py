"""Objects with named fields: dataclasses, TypedDicts, and the parameters of a job's function.

Owns required and optional, defaults, and the refusal of a name nobody knows.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from typing import Any, Callable, Dict, Optional, Tuple

from .errors import ArgsError
from .forms import Form, form_of, wrong
from .inputs import holds_input
from .values import plain


class Field(typing.NamedTuple):
    """One named value."""

    form: Form
    required: bool
    schema: Dict[str, Any]


def is_record(hint: Any) -> bool:
    """Is it a dataclass or a TypedDict?"""
    return isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hasattr(hint, "__required_keys__"))


def form_of_record(hint: Any, inside: Tuple[type, ...]) -> Form:
    """The form of a dataclass or a TypedDict."""
    if hint in inside:
        raise TypeError(f"{hint.__name__} holds itself; take a dict[str, Any] there")
    inside = (*inside, hint)
    hints = hints_of(hint)
    if dataclasses.is_dataclass(hint):
        made = [field for field in dataclasses.fields(hint) if field.init]
        fields = {field.name: _field(hints[field.name], _default(field), inside) for field in made}
        return _object(fields, lambda values: hint(**values))  # type: ignore[operator]
    fields = {name: _field(one, None if name in hint.__required_keys__ else ..., inside) for name, one in hints.items()}
    return _object(fields, lambda values: values)


def hints_of(thing: Any) -> Dict[str, Any]:
    """The type hints of a function or class, whatever way they were written."""
    try:
        return typing.get_type_hints(thing)
    except TypeError as error:
        if sys.version_info < (3, 10) and "|" in str(error):
            raise TypeError(f"{thing.__qualname__}: `X | Y` in a type hint needs Python 3.10; write Union[X, Y]") from None
        raise
    except NameError as error:
        raise TypeError(f"{thing.__qualname__}: a type hint cannot be read: {error}") from None


def _default(field: Any) -> Any:
    """None = required, else what it is when absent; ... = not to be shown."""
    if field.default is not dataclasses.MISSING:
        return (field.default,)
    return None if field.default_factory is dataclasses.MISSING else ...


def _field(hint: Any, default: Any, inside: Tuple[type, ...]) -> Field:
    form = form_of(hint, inside)
    schema = form.schema
    if isinstance(default, tuple):
        try:
            schema = {**schema, "default": plain(default[0])}
        except (TypeError, ValueError):
            pass  # A default that JSON cannot write is a default all the same.
    return Field(form, default is None, schema)


def _schema(fields: Dict[str, Field], more: Optional[Form]) -> Dict[str, Any]:
    schema: Dict[str, Any] = {"type": "object", "properties": {name: field.schema for name, field in fields.items()}}
    required = [name for name, field in fields.items() if field.required]
    if required:
        schema["required"] = required
    schema["additionalProperties"] = more.schema if more else False
    return schema


def _read(value: Any, place: str, fields: Dict[str, Field], more: Optional[Form]) -> Dict[str, Any]:
    if type(value) is not dict:
        raise wrong(place, "an object", value)
    within = f"{place}." if place else ""
    read = {}
    for name, item in value.items():
        field = fields.get(name)
        form = field.form if field else more
        if form is None:
            raise ArgsError(within + name, "there is no such field" + (f"; there are {', '.join(fields)}" if fields else ""))
        read[name] = form.read(item, within + name)
    for name, field in fields.items():
        if field.required and name not in value:
            raise ArgsError(within + name, "is missing")
    return read


def _object(fields: Dict[str, Field], make: Callable[[Dict[str, Any]], Any]) -> Form:
    def read(value: Any, place: str) -> Any:
        return make(_read(value, place, fields, None))

    return Form("an object", _schema(fields, None), read)


class Parameters:
    """The parameters of a job's function: what args it takes, and how a call becomes args."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.signature = inspect.signature(function)
        hints = hints_of(function)
        self._more: Optional[Form] = None
        self._fields: Dict[str, Field] = {}
        for name, parameter in self.signature.parameters.items():
            hint = hints.get(name, Any)
            if parameter.kind is parameter.VAR_KEYWORD:
                self._more = form_of(hint)
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                raise TypeError(f"parameter `{parameter}`: args have names; take a list, or a parameter with a name")
            else:
                default = None if parameter.default is parameter.empty else (parameter.default,)
                if default == (None,):
                    hint = Optional[hint]  # What `size: int = None` has always meant.
                try:
                    self._fields[name] = _field(hint, default, ())
                except TypeError as error:
                    raise TypeError(f"parameter `{name}`: {error}") from None

    @property
    def schema(self) -> Dict[str, Any]:
        """The JSON Schema (2020-12) of args; a job that needs none also takes null."""
        schema = _schema(self._fields, self._more)
        return schema if "required" in schema else {**schema, "type": ["object", "null"]}

    def read(self, args: Any, of_celery: bool = False) -> Dict[str, Any]:
        """The keyword arguments that these args are; `ArgsError` names what does not fit."""
        if self._is_call(args, of_celery):
            args = self._bound(tuple(args["args"]), args["kwargs"])
        return _read({} if args is None else args, "", self._fields, self._more)

    def _is_call(self, args: Any, of_celery: bool = False) -> bool:
        """Is it ``{"args": [...], "kwargs": {...}}``, as a task of Celery's comes that was called with positional args?

        Of any other message parameters that are called so are meant; one of Celery's has them inside.
        """
        if type(args) is not dict or len(args) != 2:
            return False
        if not of_celery and ("args" in self._fields or "kwargs" in self._fields):
            return False
        return type(args.get("args")) is list and type(args.get("kwargs")) is dict

    def args(self, positional: Tuple[Any, ...], named: Dict[str, Any]) -> Dict[str, Any]:
        """The args of a call, checked; what is left to its default is left out."""
        args = self._bound(positional, named)
        try:
            carried: Dict[str, Any] = plain(args)
        except (TypeError, ValueError) as error:
            raise ArgsError("", f"the args cannot be carried: {error}") from None
        # What a member of a run gets from others has the form that they give it.
        later = {name for name, value in args.items() if holds_input(value)}
        known = {name: value for name, value in carried.items() if name not in later}
        _read(known, "", {name: one for name, one in self._fields.items() if name not in later}, self._more)
        # Else it would be read as such a call.
        return {"args": [], "kwargs": carried} if self._is_call(carried) else carried

    def _bound(self, positional: Tuple[Any, ...], named: Dict[str, Any]) -> Dict[str, Any]:
        """The args of a call by their names."""
        try:
            bound = self.signature.bind(*positional, **named).arguments
        except TypeError as error:
            raise ArgsError("", str(error)) from None
        more = next((p.name for p in self.signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
        args = {name: value for name, value in bound.items() if name != more}
        args.update(bound.get(more, {}) if more else {})
        return args
