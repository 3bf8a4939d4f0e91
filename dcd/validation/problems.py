"""A fault in a run's config or data, found before work starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dcd.errors import ConfigError, DCDError


@dataclass(frozen=True)
class Problem:
    """One fault: its place in the config, and one sentence with what was found and the mend."""

    place: str
    message: str


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
