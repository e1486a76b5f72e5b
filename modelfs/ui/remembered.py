"""A dictionary that forgets what was not asked for longest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """At most ``capacity`` facts that never change. Safe to use from many threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._facts: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What is known; None when nothing is."""
        with self._lock:
            if key in self._facts:
                self._facts.move_to_end(key)
            return self._facts.get(key)

    def put(self, key: K, value: V) -> None:
        """Remember a fact."""
        with self._lock:
            self._facts[key] = value
            self._facts.move_to_end(key)
            if len(self._facts) > self._capacity:
                self._facts.popitem(last=False)

    def __len__(self) -> int:
        return len(self._facts)
