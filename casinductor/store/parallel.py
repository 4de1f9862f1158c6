"""Runs independent requests to a store side by side, as each one mostly waits.

Invariant: results come in the order of the items, and nothing runs on after
:func:`map_parallel`: when one piece of work raises, those not begun are dropped and those begun are
waited for. Where a backend asks for no parallel requests no thread is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from threading import Thread
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def map_parallel(work: Callable[[A], B], items: Iterable[A], most: int) -> list[B]:
    """``work`` of each item, at most ``most`` at once; raises what the first to fail raised."""
    chosen = list(items)
    if most <= 1 or len(chosen) <= 1:
        return [work(item) for item in chosen]
    with ThreadPoolExecutor(min(most, len(chosen)), "casinductor-ask") as pool:
        futures = [submit(pool, work, item) for item in chosen]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def submit(pool: Executor, work: Callable[..., B], *args: Any) -> Future[B]:
    """Have the pool do it; where the interpreter is about to end, which pools refuse to work in, it
    is done here and now.
    """
    try:
        return pool.submit(work, *args)
    except RuntimeError:
        done: Future[B] = Future()
        try:
            done.set_result(work(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def begin(work: Callable[[], B], most: int) -> Callable[[], B]:
    """Begin work beside the caller, or do it now where ``most`` is one; what waits for its result,
    as often as it is asked, or raises what the work raised.
    """
    done: Future[B] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    if most <= 1:
        run()
    else:
        Thread(target=run, name="casinductor-beside", daemon=True).start()
    return done.result


def start_background(work: Callable[[], object], most: int) -> Callable[[float | None], None]:
    """Begin work that raises nothing; returns what waits for it, some seconds at most."""
    if most <= 1:
        work()
        return lambda _: None
    thread = Thread(target=work, name="casinductor-beside", daemon=True)
    thread.start()
    return thread.join
