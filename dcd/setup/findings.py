"""What a look at an installation finds: a line for each thing, with what mends it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. note: works, with a limit; fault: something will fail or be wrong.

    mend: a line to type, or what to do.
    """

    what: str
    state: State
    told: str
    mend: str | None = None
