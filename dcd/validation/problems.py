"""What a look before the work finds: faults that stop a run, and notes on what it passes over."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dcd.errors import ConfigError, DCDError


@dataclass(frozen=True)
class Problem:
    """One fault that stops a run.

    Attributes:
        place: its place in the config.
        message: what was found and how to mend it, in one sentence.
    """

    place: str
    message: str


@dataclass(frozen=True)
class Note:
    """What is dropped, merged, passed over or guessed, with counts; it stops no run."""

    place: str
    message: str


@dataclass(frozen=True)
class Findings:
    """What `examine` found; without problems a run can start."""

    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]


@contextmanager
def noting(problems: list[Problem], place: str) -> Iterator[None]:
    """Turn an expected error into problems; a message that begins with its place keeps that."""
    try:
        yield
    except DCDError as err:
        for line in err.problems if isinstance(err, ConfigError) else [str(err)]:
            head, colon, rest = line.partition(": ")
            inside = colon and (head == place or head.startswith(f"{place}."))
            problems.append(Problem(head, rest) if inside else Problem(place, line))
