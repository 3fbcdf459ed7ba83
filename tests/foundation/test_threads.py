"""Parts made side by side come in order, few ahead of their use, and no thread is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from foundation.threads import MAX_THREADS, parallel_map, single_threaded_blas


def test_parallel_map_keeps_order_and_bounded_lookahead() -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for part in range(200):
            taken.append(part)
            yield part

    for done, made in enumerate(parallel_map(lambda part: part * part, parts())):
        assert made == done * done
        assert len(taken) <= done + MAX_THREADS + 2
    assert taken == list(range(200))


def test_parallel_map_raises_each_error_at_its_result() -> None:
    def inverse(part: int) -> float:
        return 1 / part

    made = parallel_map(inverse, [2, 1, 0, 4])
    assert [next(made), next(made)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_parallel_map_leaves_no_threads_after_early_exit() -> None:
    before = threading.active_count()
    with closing(parallel_map(abs, range(100))) as made:
        assert next(made) == 0
    assert threading.active_count() == before


def threads_of_linear_algebra() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.mark.parametrize("allowed", [1, 2])
def test_parallel_workers_use_one_blas_thread_each(allowed: int) -> None:
    def made(_: int) -> tuple[int, set[int]]:
        return threading.get_ident(), threads_of_linear_algebra()

    with threadpool_limits(allowed, user_api="blas"):
        threads, inside = zip(*parallel_map(made, range(12)), strict=True)
        assert threads_of_linear_algebra() == {allowed}
    assert len(set(threads)) <= allowed
    assert list(inside) == [{1}] * 12


def test_blas_thread_limit_ends_with_the_last_user() -> None:
    with threadpool_limits(2, user_api="blas"):
        with single_threaded_blas(), single_threaded_blas() as threads:
            assert threads == 2
            assert threads_of_linear_algebra() == {1}
        first, second = parallel_map(abs, range(9)), parallel_map(abs, range(9))
        next(first), next(second)
        first.close()
        assert threads_of_linear_algebra() == {1}
        second.close()
        assert threads_of_linear_algebra() == {2}
