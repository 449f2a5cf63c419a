"""What a member of a run gets from the others: a place in its args where a value belongs that is not known yet.

Owns the forms ``{"$from": ...}`` and ``{"$state": ...}`` (``docs/runs.md``), and putting values into args. Pure.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, Iterator, List, Tuple, Union

Ask = Union[str, List[str]]
#: No name of a member: what precedes the job in its chain.
BEFORE = "$previous"


class Input:
    """A place in the args of a job of a run."""

    def __init__(self, word: str, ask: Ask) -> None:
        self._form = {word: ask}

    def __repr__(self) -> str:
        return f"<input {self._form}>"

    def in_args(self) -> Dict[str, Ask]:
        """As it stands in the args."""
        return self._form


#: The value of the job before it in the chain; after a group the list of its values.
previous = Input("$from", BEFORE)


def value_of(*names: str) -> Input:
    """The value of a member of the run; of several a list; of ``"*"`` an object of all it needs, by name."""
    return Input("$from", _ask(names))


def state_of(*names: str) -> Input:
    """The same of how they ended: `succeeded`, `failed`, `skipped` and so on."""
    return Input("$state", _ask(names))


def _ask(names: Tuple[str, ...]) -> Ask:
    if not names:
        raise TypeError('name a member, several, or "*"')
    return names[0] if len(names) == 1 else list(names)


def holds_input(value: Any) -> bool:
    """Is there such a place in it?"""
    if isinstance(value, dict):
        return any(holds_input(one) for one in value.values())
    if isinstance(value, (list, tuple)):
        return any(holds_input(one) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(holds_input(getattr(value, one.name)) for one in dataclasses.fields(value))
    return isinstance(value, Input)


def asked(args: Any) -> Iterator[str]:
    """The names that plain args ask for."""
    form = _form(args)
    if form:
        yield from [form[1]] if isinstance(form[1], str) else form[1]
    elif isinstance(args, dict):
        for one in args.values():
            yield from asked(one)
    elif isinstance(args, list):
        for one in args:
            yield from asked(one)


def put_in(args: Any, fill: Callable[[str, Ask], Any]) -> Any:
    """The args with ``fill(word, ask)`` in each such place."""
    form = _form(args)
    if form:
        return fill(*form)
    if isinstance(args, dict):
        return {name: put_in(one, fill) for name, one in args.items()}
    if isinstance(args, list):
        return [put_in(one, fill) for one in args]
    return args


def _form(args: Any) -> Union[None, Tuple[str, Ask]]:
    if not isinstance(args, dict) or len(args) != 1:
        return None
    [(word, ask)] = args.items()
    if word not in ("$from", "$state"):
        return None
    if not isinstance(ask, str) and not (isinstance(ask, list) and all(isinstance(one, str) for one in ask)):
        raise ValueError(f'{word}: expected the name of a member, a list of names, or "*"')
    return word, ask
