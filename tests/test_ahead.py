"""Iterators that run ahead in threads: their order, their bounds, their errors and their end."""

import threading
import time

import pytest

from fastshard._base.parallel import in_order


def ours():
    return [thread for thread in threading.enumerate() if thread.name == "fastshard-ahead"]


def numbers(start, count):
    return lambda: iter(range(start, start + count))


def test_the_order_is_kept():
    for threads in (1, 2, 7):
        parts = [numbers(start, 5000) for start in range(0, 30_000, 5000)]
        assert list(in_order(parts, lambda _: 1, threads, 1000)) == list(range(30_000))
        assert not ours()
    assert list(in_order([], lambda _: 1, 2, 1)) == []


def test_it_runs_ahead_and_not_too_far():
    made = []

    def slow(part):
        for number in range(50):
            made.append((part, number))
            yield part, number

    items = in_order([lambda part=part: slow(part) for part in range(4)], lambda _: 1 << 20, 2, 4 << 20)
    assert next(items) == (0, 0)
    time.sleep(0.2)
    # Each hop of a MiB is one item here: what is taken, four that wait, and one that waits to wait.
    assert len([one for one in made if one[0] == 0]) <= 7
    assert 4 <= len([one for one in made if one[0] == 1]) <= 6
    assert not [one for one in made if one[0] > 1]
    assert len(ours()) == 2
    items.close()
    assert not ours()


def test_errors_come_in_their_place():
    def failing():
        yield 100
        raise ValueError("part two")

    items = in_order([numbers(0, 3), failing, numbers(7, 3)], lambda _: 1, 3, 10)
    assert [next(items) for _ in range(4)] == [0, 1, 2, 100]
    with pytest.raises(ValueError, match="part two"):
        next(items)
    assert not ours()


def test_generators_are_closed():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = in_order([endless], lambda _: 1 << 20, 1, 1 << 20)
    assert next(items) == 1
    items.close()
    assert closed.is_set()
