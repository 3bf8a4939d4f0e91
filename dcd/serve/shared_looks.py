"""Answer many readers with one look at the store."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class SharedLooks:
    """Looks that are under way, by name: who asks for one meanwhile gets what it finds.

    Nothing is kept: who asks after its end has the store looked at anew.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, name: str, look: Callable[[], T]) -> T:
        """Return what `look` finds, or what one of this name that is under way will find.

        Raises whatever that look raises.
        """
        with self._lock:
            is_first = name not in self._under_way
            found = self._under_way.setdefault(name, Future())
        if is_first:
            try:
                found.set_result(look())
            except BaseException as err:
                found.set_exception(err)
            finally:
                with self._lock:
                    del self._under_way[name]
        return found.result()
