"""Tell when an inbox that pictures arrive in has come to rest, so that they are taken together."""

from collections.abc import Mapping


class Settling:
    """What looks into an inbox have seen so far.

    quiet_s: it rests when nothing has come, gone or changed for so long. at_most_s: one that never
    rests counts as rested so long after its first change.
    """

    def __init__(self, quiet_s: float, at_most_s: float):
        self._quiet_s, self._at_most_s = quiet_s, at_most_s
        self._seen: Mapping[str, str] = {}
        self._changed_s = 0.0
        self._since_s: float | None = None

    def has_rested(self, versions: Mapping[str, str], now_s: float) -> bool:
        """Tell whether what changed since the last `taken` has come to rest.

        versions: a version by key, as this look found them. now_s: of a monotonic clock.
        """
        if versions != self._seen:
            self._seen, self._changed_s = versions, now_s
            if self._since_s is None:
                self._since_s = now_s
        if self._since_s is None:
            return False
        is_quiet = now_s - self._changed_s >= self._quiet_s
        return is_quiet or now_s - self._since_s >= self._at_most_s

    def taken(self) -> None:
        """Note that all that the last look saw has been taken in."""
        self._since_s = None
