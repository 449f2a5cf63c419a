"""Hints become schemas, args are checked against them, and what is wrong is named."""

from __future__ import annotations

import unittest
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Any, Dict, List, Literal, Optional, Tuple, TypedDict, Union
from uuid import UUID

from spinor_jobs import ArgsError, NewJob
from spinor_jobs.job import Job, job
from spinor_jobs.newjob import new_id
from spinor_jobs.records import Parameters


class Colour(Enum):
    RED = "red"
    BLUE = 2


@dataclass
class Box:
    width: int
    tags: List[str] = field(default_factory=list)


class Place(TypedDict, total=False):
    city: str


def everything(number: int, box: Box, share: float = 0.5, flag: bool = False, colour: Colour = Colour.RED,
               how: Literal["fast", 1] = "fast", when: Optional[datetime] = None, day: date = date(2030, 1, 1),
               id: UUID = UUID(int=1), pair: Tuple[int, str] = (1, "a"), either: Union[int, str] = 0,
               place: Place = {}, counts: Dict[str, int] = {}, anything: Any = None) -> None:
    pass


class Args(unittest.TestCase):
    def setUp(self) -> None:
        self.parameters = Parameters(everything)

    def test_args_become_values_of_their_types(self) -> None:
        read = self.parameters.read({"number": 3.0, "box": {"width": 1}, "share": 2, "colour": 2, "how": 1, "either": "x",
                                     "when": "2030-01-31T12:00:00Z", "id": str(UUID(int=7)), "pair": [1, "b"],
                                     "place": {"city": "Bern"}, "counts": {"a": 1}, "anything": [None]})
        self.assertEqual((read["number"], type(read["number"])), (3, int))
        self.assertEqual(read["box"], Box(1))
        self.assertEqual((read["share"], type(read["share"])), (2.0, float))
        self.assertEqual((read["colour"], read["how"], read["either"]), (Colour.BLUE, 1, "x"))
        self.assertEqual(read["when"], datetime(2030, 1, 31, 12, tzinfo=timezone.utc))
        self.assertEqual((read["id"], read["pair"], read["place"]), (UUID(int=7), (1, "b"), {"city": "Bern"}))

    def test_a_call_of_celerys_is_bound_to_the_names_of_the_parameters(self) -> None:
        box, day = {"width": 1}, {"__type__": "date", "__value__": "2030-01-31"}
        id = {"__type__": "uuid", "__value__": {"hex": UUID(int=7).hex}}
        read = self.parameters.read({"args": [3, box], "kwargs": {"share": 2, "day": day, "id": id}})
        self.assertEqual((read["number"], read["box"], read["share"]), (3, Box(1), 2.0))
        self.assertEqual((read["day"], read["id"]), (date(2030, 1, 31), UUID(int=7)))
        for args, kwargs, word in [([], {}, "number"), ([1, box], {"number": 2}, "number"), ([1, {}], {}, "box.width"),
                                   ([1, box], {"depth": 2}, "depth"), ([1] * 20, {}, "too many")]:
            with self.assertRaisesRegex(ArgsError, word):
                self.parameters.read({"args": args, "kwargs": kwargs})

        def named(args: List[int], kwargs: Dict[str, int]) -> None:
            pass

        both = {"args": [1], "kwargs": {"a": 2}}
        self.assertEqual(Parameters(named).read(both), both)
        # A task of Celery's has the parameters inside, whatever they are called.
        self.assertEqual(Parameters(named).read({"args": [], "kwargs": both}, of_celery=True), both)
        self.assertEqual(Parameters(named).read({"args": [[1], {"a": 2}], "kwargs": {}}, of_celery=True), both)

    def test_each_wrong_arg_is_named_with_its_place(self) -> None:
        right = {"number": 1, "box": {"width": 1}}
        table = [
            ({}, "number"), ({**right, "number": True}, "number"), ({**right, "number": 1.5}, "number"),
            ({**right, "number": None}, "number"), ({**right, "box": {}}, "box.width"),
            ({**right, "box": {"width": 1, "depth": 2}}, "box.depth"),
            ({**right, "box": {"width": 1, "tags": ["a", 2]}}, "box.tags[1]"), ({**right, "share": "1"}, "share"),
            ({**right, "flag": 1}, "flag"), ({**right, "colour": "green"}, "colour"), ({**right, "how": True}, "how"),
            ({**right, "when": "soon"}, "when"), ({**right, "day": 5}, "day"), ({**right, "pair": [1]}, "pair"),
            ({**right, "pair": [1, 2]}, "pair[1]"), ({**right, "either": []}, "either"),
            ({**right, "place": {"town": "x"}}, "place.town"), ({**right, "counts": {"a": "b"}}, "counts.a"),
            ({**right, "nubmer": 1}, "nubmer"), ([1], ""), ("x", ""),
        ]
        for args, place in table:
            with self.subTest(args=args), self.assertRaises(ArgsError) as caught:
                self.parameters.read(args)
            self.assertEqual(caught.exception.field, place, args)

    def test_an_error_does_not_show_the_value(self) -> None:
        with self.assertRaises(ArgsError) as caught:
            self.parameters.read({"number": "s3cret", "box": {"width": 1}})
        self.assertNotIn("s3cret", str(caught.exception))

    def test_the_schema_says_what_the_check_checks(self) -> None:
        schema = self.parameters.schema
        self.assertEqual((schema["required"], schema["additionalProperties"]), (["number", "box"], False))
        properties = schema["properties"]
        self.assertEqual(properties["number"], {"type": "integer"})
        self.assertEqual(properties["colour"], {"enum": ["red", 2], "default": "red"})
        self.assertEqual(properties["day"], {"type": "string", "format": "date", "default": "2030-01-01"})
        self.assertEqual(properties["box"]["required"], ["width"])
        self.assertEqual(Parameters(lambda: None).schema["type"], ["object", "null"])

    def test_a_hint_that_json_cannot_carry_is_refused_when_the_job_is_defined(self) -> None:
        def bytes_in(data: bytes) -> None: ...
        def star(*all: int) -> None: ...
        for function, word in ((bytes_in, "bytes"), (star, "all")):
            with self.assertRaisesRegex(TypeError, f"t.bad.*{word}"):
                Job(function, "t.bad", "", (), {})

    def test_a_call_becomes_args_without_what_is_left_to_its_default(self) -> None:
        self.assertEqual(self.parameters.args((1, Box(2)), {"colour": Colour.BLUE}),
                         {"number": 1, "box": {"width": 2, "tags": []}, "colour": 2})
        for args, named, word in (((), {}, "number"), ((1, Box(1)), {"x": 1}, "x"), ((object(), Box(1)), {}, "carried")):
            with self.assertRaisesRegex(ArgsError, word):
                self.parameters.args(args, named)

    def test_two_functions_for_one_kind_are_refused_and_the_same_one_again_is_not(self) -> None:
        def one() -> None: ...
        def two() -> None: ...
        job("t.twice")(one)
        job("t.twice")(one)
        with self.assertRaisesRegex(ValueError, r"t\.twice.*test_args.*test_args"):
            job("t.twice")(two)


class Options(unittest.TestCase):
    def test_a_new_job_is_what_the_api_reads(self) -> None:
        new = NewJob("k", {"a": 1}, queue="q", delay=timedelta(minutes=1), expires="5m", timeout={"soft": 1.5, "hard": "2s"},
                     retry={"max": 2, "first": 3}, unique={"key": "x", "for": 60}, priority=9)
        self.assertEqual(new.json(), {"kind": "k", "id": new.id, "args": {"a": 1}, "queue": "q", "delay": "60000ms",
                                      "expires": "300000ms", "timeout": {"soft": "1500ms", "hard": "2000ms"},
                                      "retry": {"max": 2, "first": "3000ms"}, "unique": {"key": "x", "for": "60000ms"},
                                      "priority": 9})

    def test_a_moment_is_kept_as_it_is(self) -> None:
        new = NewJob("k", at=datetime(2030, 1, 31, 13, tzinfo=timezone(timedelta(hours=1))))
        self.assertEqual(new.json(), {"kind": "k", "id": new.id, "at": "2030-01-31T12:00:00Z"})

    def test_a_wrong_option_is_named(self) -> None:
        table = [({"delay": "soon"}, "delay"), ({"delay": -1}, "delay"), ({"at": datetime(2030, 1, 1)}, "at"),
                 ({"retry": "3"}, "retry"), ({"retry": {"max": 1, "frist": 1}}, "retry.frist"),
                 ({"timeout": {"soft": "x"}}, "timeout.soft")]
        for options, word in table:
            with self.subTest(options=options), self.assertRaisesRegex(ValueError, word):
                NewJob("k", **options)
        with self.assertRaisesRegex(TypeError, "dealy"):
            job("k", dealy=5)

    def test_ids_are_version_seven_and_sorted(self) -> None:
        first, second = UUID(new_id()), UUID(new_id())
        self.assertEqual((first.version, first.variant), (7, second.variant))
        self.assertLessEqual(first.int >> 80, second.int >> 80)
