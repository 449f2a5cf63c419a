"""``@job``: a function that Spinor can run, by the name of its kind.

Owns the catalogue of this process's jobs and the shapes of a call: now (plain call), as an executor would (``call``),
later (``publish``, ``delay``), or as a value (``new``). Refuses two functions for one kind.
"""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any, Callable, Dict, Generic, Iterable, Optional, Tuple, Type, TypeVar

from . import publishing
from .newjob import NewJob, check_options
from .records import Parameters

F = TypeVar("F", bound=Callable[..., Any])

#: Every job of this process by its kind.
jobs: Dict[str, "Job[Any]"] = {}


class Job(Generic[F]):
    """A function with a kind. Calling it calls the function."""

    def __init__(self, function: F, kind: str, description: str,
                 discard_on: Tuple[Type[Exception], ...], options: Dict[str, Any]) -> None:
        self.kind = kind
        self.function = function
        self.description = description
        self.discard_on = discard_on
        self.options = options
        self.is_async = inspect.iscoroutinefunction(function)
        try:
            self.parameters = Parameters(function)
            NewJob(kind, **options)
        except (TypeError, ValueError) as error:
            raise type(error)(f"job `{kind}` ({_place(function)}): {error}") from None
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def new(self, *args: Any, **kwargs: Any) -> NewJob:
        """The job of a call as a value, to be published in a batch; `ArgsError` when the args do not fit."""
        return NewJob(self.kind, self.parameters.args(args, kwargs), **self.options)

    def publish(self, *args: Any, **kwargs: Any) -> "publishing.Handle":
        """Publishes the job of a call: at once, with the settle when inside a job, or inline in a test."""
        return publishing.publish(self.new(*args, **kwargs))

    #: The same, under the name that others know it by.
    delay = publish

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Runs it here as an executor would: args through JSON and checked, async awaited. For unit tests."""
        result = self.function(**self.parameters.read(self.parameters.args(args, kwargs)))
        if not self.is_async:
            return result
        import asyncio

        return asyncio.run(result)

    def having(self, **options: Any) -> "Job[F]":
        """The same job, published with these options: ``resize.having(delay="5m").publish(path)``."""
        check_options(options)
        NewJob(self.kind, **options)
        other = copy.copy(self)
        other.options = {**self.options, **options}
        return other

    def hello(self) -> Dict[str, Any]:
        """What the executor protocol says of it."""
        about: Dict[str, Any] = {"kind": self.kind, "schema": self.parameters.schema}
        if self.description:
            about["description"] = self.description
        return about


def job(kind: str, *, description: Optional[str] = None, discard_on: Iterable[Type[Exception]] = (),
        **options: Any) -> Callable[[F], Job[F]]:
    """Makes a function, sync or async, the job of this kind.

    ``description``: a sentence for the catalogue, else the first line of the docstring. ``discard_on``: exceptions
    that mean "never again". The options are those of `NewJob`, such as ``queue``, ``retry``, ``timeout`` and
    ``priority``: they go with what this program publishes; a job that others publish without them follows the
    configuration of its kind.
    """
    if not isinstance(kind, str) or not kind:
        raise TypeError('@job needs a kind: @job("image.resize")')
    check_options(options)

    def decorate(function: F) -> Job[F]:
        if not callable(function) or isinstance(function, Job):
            raise TypeError(f"@job({kind!r}) goes on a function")
        text = description if description is not None else (inspect.getdoc(function) or "").split("\n")[0]
        made = Job(function, kind, text, tuple(discard_on), options)
        known = jobs.get(kind)
        if known is not None and _place(known.function) != _place(function):
            raise ValueError(f"kind `{kind}` has two jobs: {_place(known.function)} and {_place(function)}")
        jobs[kind] = made
        return made

    return decorate


def _place(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
