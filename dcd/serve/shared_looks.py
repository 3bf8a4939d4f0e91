"""Answer many readers with one look at the store."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class SharedLooks:
    """Looks that are under way, by name: who asks for one meanwhile gets what it finds.

    So does who asks within fresh_s seconds of its end; after that the store is looked at anew. What
    a look raises is not kept.
    """

    def __init__(self, fresh_s: float = 0.0) -> None:
        self._fresh_s = fresh_s
        self._found: dict[str, tuple[float, Any]] = {}  # when it was found, and what
        self._under_way: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, name: str, look: Callable[[], T]) -> T:
        """Return what `look` finds, or what one of this name has just found or is about to find.

        Raises whatever that look raises.
        """
        with self._lock:
            at, kept = self._found.get(name, (-math.inf, None))
            if time.monotonic() - at < self._fresh_s:
                return kept
            is_first = name not in self._under_way
            found = self._under_way.setdefault(name, Future())
        if is_first:
            try:
                result = look()
                if self._fresh_s:
                    self._found[name] = time.monotonic(), result
                found.set_result(result)
            except BaseException as err:
                found.set_exception(err)
            finally:
                with self._lock:
                    del self._under_way[name]
        return found.result()
