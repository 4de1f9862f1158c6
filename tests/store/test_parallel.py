"""Requests side by side, and looking at some of many."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casinductor.store.parallel import map_parallel, start_background
from casinductor.store.sampling import sample_within_budget


@pytest.mark.parametrize("most", [0, 1, 3, 50])
def test_results_come_in_order(most: int) -> None:
    def work(number: int) -> int:
        time.sleep((number % 3) / 1000)
        return number * number

    assert map_parallel(work, range(20), most) == [n * n for n in range(20)]
    assert map_parallel(work, [], most) == []


def test_no_more_at_once_than_asked_for() -> None:
    running, peak, guard = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal running, peak
        with guard:
            running += 1
            peak = max(peak, running)
        time.sleep(0.002)
        with guard:
            running -= 1

    map_parallel(work, range(30), 4)
    assert 1 < peak <= 4


def test_no_thread_where_none_is_asked_for() -> None:
    mine = threading.get_ident()
    assert map_parallel(lambda _: threading.get_ident(), range(5), 1) == [mine] * 5
    seen: list[int] = []
    start_background(lambda: seen.append(threading.get_ident()), 1)(None)
    assert seen == [mine]


def test_the_first_failure_is_raised_and_nothing_runs_on() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise RuntimeError("the third failed")
        time.sleep(0.01)
        return number

    with pytest.raises(RuntimeError, match="the third failed"):
        map_parallel(work, range(1000), 2)
    count = len(begun)
    assert count < 1000
    time.sleep(0.05)
    assert len(begun) == count


def test_work_beside_is_waited_for() -> None:
    done = threading.Event()

    def work() -> None:
        time.sleep(0.02)
        done.set()

    wait = start_background(work, 8)
    wait(5.0)
    assert done.is_set()


@given(st.lists(st.integers(1, 100)), st.integers(0, 20), st.integers(0, 500))
def test_some_are_within_the_bounds(sizes: list[int], most: int, budget: int) -> None:
    chosen = sample_within_budget(list(enumerate(sizes)), most, budget)
    assert len(chosen) == len(set(chosen)) <= most
    assert sum(sizes[n] for n in chosen[:-1]) <= budget


def test_what_fits_is_all_chosen() -> None:
    assert sorted(sample_within_budget([("a", 10), ("b", 20), ("c", 5)], 9, 35)) == ["a", "b", "c"]


def test_a_large_thing_is_looked_at_now_and_then() -> None:
    looks = sum(sample_within_budget([("large", 1000)], 1, 100) == ["large"] for _ in range(5000))
    assert 350 < looks < 650  # a tenth; 7 standard deviations
