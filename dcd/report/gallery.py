"""Choose which failures and picks the report shows, and count how many more there are. Pure.

A run may hold thousands of failures with dozens of picks each; the page stays usable because
the shown ones are chosen by fixed rules and all others are counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import pyarrow as pa

from dcd.report.thumbnails import Album, Picture


@dataclass(frozen=True)
class Pick:
    """One neighbour of a failure. distance: l2. rank: 1 = nearest, by LPIPS if it was asked.

    posterior: how probable its label is, where it came without one.
    """

    image_id: str
    rank: int
    distance: float
    label_agreement: float | None
    kept: bool
    reason: str | None
    posterior: float | None = None

    @property
    def picture(self) -> Picture:
        return Picture("pool", self.image_id)


@dataclass(frozen=True)
class Failure:
    """One error-sample image; `picks` in rank order. The counts are over all its neighbours."""

    image_id: str
    predicted: str | None
    picks: tuple[Pick, ...]
    n_kept: int
    n_rejected: int

    @property
    def picture(self) -> Picture:
        return Picture("failure", self.image_id)

    @property
    def n_hidden(self) -> int:
        """Neighbours that are not shown."""
        return self.n_kept + self.n_rejected - len(self.picks)


@dataclass(frozen=True)
class Group:
    """The failures of one label and mode. The counts are over all of them, shown or not."""

    label: str
    mode: str | None
    failures: tuple[Failure, ...]
    n_failures: int
    n_kept: int
    n_rejected: int

    @property
    def n_hidden(self) -> int:
        """Failures that are not shown."""
        return self.n_failures - len(self.failures)


@dataclass(frozen=True)
class Gallery:
    """All groups that show a failure; the counts are over the whole run."""

    groups: tuple[Group, ...]
    n_groups: int
    n_failures: int
    n_kept: int
    n_rejected: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def n_hidden_groups(self) -> int:
        return self.n_groups - len(self.groups)


def plan_gallery(
    error_sample: pa.Table,
    neighbors: pa.Table,
    max_failures: int,
    max_picks: int,
    posteriors: Mapping[str, float] = MappingProxyType({}),
) -> Gallery:
    """Group failures by label and mode and choose which to show.

    Shown: the first failures of every group, in turns, up to `max_failures` in all, those that
    the model does get wrong before others, by image_id; of each the `max_picks` nearest picks.
    posteriors: of neighbours that came without a label.
    """
    picks = _picks_by_failure(neighbors, posteriors)
    members: dict[tuple[str, str | None], list[Failure]] = {}
    for row in sorted(error_sample.to_pylist(), key=_by_failure):
        found = picks.get(row["image_id"], [])
        n_kept = sum(pick.kept for pick in found)
        failure = Failure(
            row["image_id"],
            row["predicted"],
            tuple(found[:max_picks]),
            n_kept,
            len(found) - n_kept,
        )
        members.setdefault((row["label"], row["mode"]), []).append(failure)
    ordered = sorted(members.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    turns = sorted((turn, g) for g, (_, all_) in enumerate(ordered) for turn in range(len(all_)))
    n_shown = Counter(g for _, g in turns[:max_failures])
    groups = tuple(
        Group(
            label,
            mode,
            tuple(all_[: n_shown[g]]),
            len(all_),
            sum(failure.n_kept for failure in all_),
            sum(failure.n_rejected for failure in all_),
        )
        for g, ((label, mode), all_) in enumerate(ordered)
    )
    reasons = Counter(
        p.reason or "no reason given" for f in picks.values() for p in f if not p.kept
    )
    return Gallery(
        groups=tuple(group for group in groups if group.failures),
        n_groups=len(groups),
        n_failures=error_sample.num_rows,
        n_kept=sum(group.n_kept for group in groups),
        n_rejected=sum(group.n_rejected for group in groups),
        reasons=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
    )


def pictures(gallery: Gallery) -> list[Picture]:
    """Return the pictures of a gallery, weightiest first: all failures, then picks by rank."""
    failures = [failure for group in gallery.groups for failure in group.failures]
    picks = [(pick.rank, n, pick) for n, f in enumerate(failures) for pick in f.picks]
    by_rank = sorted(picks, key=lambda use: (*use[:2], use[2].image_id))
    return [failure.picture for failure in failures] + [pick.picture for _, _, pick in by_rank]


def within(gallery: Gallery, album: Album[Picture]) -> Gallery:
    """Return the gallery less the picks that the album had no room for; they count as hidden."""

    def trimmed(failures: Iterable[Failure]) -> tuple[Failure, ...]:
        return tuple(
            replace(f, picks=tuple(pick for pick in f.picks if album.holds(pick.picture)))
            for f in failures
        )

    groups = tuple(replace(g, failures=trimmed(g.failures)) for g in gallery.groups)
    return replace(gallery, groups=groups)


def _by_failure(row: dict[str, str | None]) -> tuple[bool, str]:
    return row["predicted"] == row["label"], row["image_id"] or ""


def _picks_by_failure(
    neighbors: pa.Table, posteriors: Mapping[str, float]
) -> dict[str, list[Pick]]:
    found: dict[str, list[Pick]] = {}
    for row in neighbors.to_pylist():
        found.setdefault(row.pop("error_image_id"), []).append(
            Pick(
                row["image_id"],
                row["rank"],
                row["distance"],
                row["label_agreement"],
                row["kept"],
                row["reason"],
                posteriors.get(row["image_id"]),
            )
        )
    for picks in found.values():
        picks.sort(key=lambda pick: (pick.rank, pick.image_id))
    return found
