"""Keep what the gate said of a run, as its gate.json holds it and as people are told."""

from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from dcd.config import FrozenModel
from dcd.gate.decision import Decision
from dcd.store import Store, keys

Status = Literal["promoted", "passed", "refused", "not_judged"]


class GateRecord(FrozenModel):
    """The gate's answer about the candidate of a run.

    seed: of the candidate. rival: whom it was compared with, in words; champion: the change that
    had put the rival in place, None for `none`. obstacle: why a candidate that passed cannot be
    promoted by itself. level: of each of the two tests. decision: None if it was not judged.
    """

    outcome: Literal["passed", "refused", "not_judged"]
    reasons: tuple[str, ...]
    seed: int | None = None
    rival: str | None = None
    champion: str | None = None
    obstacle: str | None = None
    margin_points: float | None = None
    level: float | None = None
    decision: Decision | None = None


@dataclass(frozen=True)
class GateOutcome:
    """A gate's record and whether the candidate is the champion now."""

    record: GateRecord
    promoted: bool

    @property
    def status(self) -> Status:
        return "promoted" if self.promoted else self.record.outcome

    @property
    def headline(self) -> str:
        """One sentence: promoted or refused, and against whom."""
        record = self.record
        match self.status:
            case "promoted":
                return f"Promoted: the model of seed {record.seed} is the champion now."
            case "passed":
                reason = record.obstacle or "promote it with `dcd promote`"
                return f"Passed by the gate against {record.rival}, but not promoted: {reason}."
            case "refused":
                return f"Refused by the gate: {self._failed()} against {record.rival}."
            case "not_judged":
                return "Not judged by the gate, so not promoted."

    def _failed(self) -> str:
        decision = self.record.decision
        assert decision is not None
        failed = [
            text
            for test, text in [
                (decision.test, "too much may be lost on test"),
                (decision.debug_val, "no proven gain on debug_val"),
            ]
            if not test.passed
        ]
        failed += [
            f"held back by the guard of {guard.name}"
            for guard in decision.guards
            if not guard.passed
        ]
        return " and ".join(failed)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The headline and the reasons, for the terminal."""
        return self.headline, *self.record.reasons


def read_record(store: Store, run_id: str) -> GateRecord | None:
    """Read the gate's record of a run; None if it has none. Raises ObjectUnreadable."""
    key = keys.run_gate(run_id)
    if not store.exists(key):
        return None
    try:
        return GateRecord.model_validate_json(store.read_bytes(key))
    except ValidationError as err:
        raise store.damaged(key, f"not a gate's record ({err.error_count()} faults)") from err
