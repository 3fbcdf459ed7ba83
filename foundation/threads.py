"""Work in several threads: parts of a whole, and what goes on beside a block."""

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

Part = TypeVar("Part")
Made = TypeVar("Made")

MOST = 16  # threads


def side_by_side(
    make: Callable[[Part], Made], parts: Iterable[Part]
) -> Generator[Made, None, None]:
    """`map`, in as many threads as linear algebra may take: a processor each, or OMP_NUM_THREADS.

    The next ones are made beside the use of one; as many as there are threads wait in memory. The
    threads have ended when it is closed.
    """
    waiting: deque[Future[Made]] = deque()
    with undivided() as threads, ThreadPoolExecutor(min(threads, MOST)) as pool:
        for part in parts:
            waiting.append(pool.submit(make, part))
            if len(waiting) > min(threads, MOST):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def beside(work: Callable[[], object], end: Callable[[], object]) -> Generator[None]:
    """Run `work` in another thread during the block; `end` then makes it return."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end()
        thread.join()


class _Undivided:
    """How many ask for it now, and the threads each library had before."""

    lock = Lock()
    users = 0
    before: tuple[int, ...] = ()


@cache
def _linear_algebra() -> tuple[LibController, ...]:
    """The libraries of NumPy and SciPy. To look for them takes milliseconds: it is done once."""
    import scipy.linalg  # noqa: F401  # so that its library is found

    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


@contextmanager
def undivided() -> Generator[int, None, None]:
    """Linear algebra by the calling thread alone, in the whole process; gives its threads before.

    The threads that it takes for a product wait for each other, and where several ask at once for
    those of all. Without them the last bits of a sum do not depend on how many processors there
    are.
    """
    with _Undivided.lock:
        if not _Undivided.users:
            _Undivided.before = tuple([each.num_threads for each in _linear_algebra()])
            for library in _linear_algebra():
                library.set_num_threads(1)
        _Undivided.users += 1
    try:
        yield max(_Undivided.before) if _Undivided.before else os.cpu_count() or 1
    finally:
        with _Undivided.lock:
            _Undivided.users -= 1
            if not _Undivided.users:
                for library, threads in zip(_linear_algebra(), _Undivided.before, strict=True):
                    library.set_num_threads(threads)
