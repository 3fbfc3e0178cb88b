"""Work shared by all cores."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from threading import Event

import numpy as np

from convspec import threads


def test_work_that_no_thread_took_is_forgotten() -> None:
    """Its arrays with it, while its helpers wait for threads that are busy elsewhere."""
    count = max(threads.cores() - 1, 1)
    begun, free = [Event() for _ in range(count)], Event()

    def busy(event: Event) -> None:
        event.set()
        free.wait(60)

    for event in begun:
        threads._waiting().put(threads._Helper(lambda event=event: busy(event)))
    assert all(event.wait(60) for event in begun)
    try:
        assert added_up()() is None
    finally:
        free.set()


def added_up() -> weakref.ref[np.ndarray]:
    """An array that work was done on, as a weak reference."""
    array = np.zeros(8)

    def work(items: Iterator[int]) -> None:
        for i in items:
            array[i] += 1

    threads.share(work, range(8))
    assert array.tolist() == [1] * 8
    return weakref.ref(array)
