"""Parallel computation of independent parts of a result, and background work during a block."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock, Thread
from typing import TypeVar

from threadpoolctl import LibController, ThreadpoolController

Item = TypeVar("Item")
ItemResult = TypeVar("ItemResult")

MAX_THREADS = 16  # threads


def parallel_map(
    function: Callable[[Item], ItemResult], items: Iterable[Item]
) -> Generator[ItemResult, None, None]:
    """Yield `function(part)` of each part, in order, computed in parallel threads.

    There are as many threads as linear algebra uses: one per processor, or OMP_NUM_THREADS, at most
    MAX_THREADS. Later results are computed while the caller uses one; at most one result per thread
    waits in memory. Closing the generator ends the threads.
    """
    waiting: deque[Future[ItemResult]] = deque()
    with single_threaded_blas() as threads, ThreadPoolExecutor(min(threads, MAX_THREADS)) as pool:
        for part in items:
            waiting.append(pool.submit(function, part))
            if len(waiting) > min(threads, MAX_THREADS):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def run_in_background(work: Callable[[], object], stop: Callable[[], object]) -> Generator[None]:
    """Run `work` in another thread during the block.

    stop: function that makes `work` return; it is called at the block's end.
    """
    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join()


class _BlasThreads:
    """Active `single_threaded_blas` blocks, and the thread counts that they will restore."""

    lock = Lock()
    users = 0
    before: tuple[int, ...] = ()


@cache
def _blas_libraries() -> tuple[LibController, ...]:
    """Return the BLAS libraries of NumPy and SciPy; cached, as the search takes milliseconds."""
    import scipy.linalg  # noqa: F401  # so that its library is found

    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


@contextmanager
def single_threaded_blas() -> Generator[int, None, None]:
    """Limit linear algebra to one thread in the whole process; yield the former thread count.

    Threads that share a matrix product wait for each other, and for the threads of concurrent
    products. With one thread the last bits of a sum do not depend on the number of processors.
    """
    with _BlasThreads.lock:
        if not _BlasThreads.users:
            _BlasThreads.before = tuple([each.num_threads for each in _blas_libraries()])
            for library in _blas_libraries():
                library.set_num_threads(1)
        _BlasThreads.users += 1
    try:
        yield max(_BlasThreads.before) if _BlasThreads.before else os.cpu_count() or 1
    finally:
        with _BlasThreads.lock:
            _BlasThreads.users -= 1
            if not _BlasThreads.users:
                for library, threads in zip(_blas_libraries(), _BlasThreads.before, strict=True):
                    library.set_num_threads(threads)
