"""What a module of Celery tasks became: served by ``python -m spinor_jobs tests.shop`` to a stock Celery application."""

from __future__ import annotations

from datetime import date
from typing import Optional

from spinor_jobs import Retry, current_job, job


class OutOfPaper(Exception):
    pass


@job("shop.thumbnail")
def thumbnail(path: str, width: int = 10, day: Optional[date] = None) -> str:
    return f"{path} {width}" + (f" {day.year}" if day else "")


@job("shop.broken")
def broken(path: str) -> None:
    if path == "paper":
        raise OutOfPaper("tray 2")
    raise ValueError(f"no such file: {path}")


@job("shop.busy")
def busy() -> int:
    if current_job().attempt == 1:
        raise Retry("busy", after=0)
    return current_job().attempt


@job("shop.large")
def large(size: int) -> str:
    return "x" * size
