"""The thread count of the BLAS is borrowed, not taken; slabs come back in their order."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from npc_edge.kernels.threads import on_cores, one_blas_thread, slabs


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            assert blas_threads() <= {1}
        assert blas_threads() == before


def test_slabs_cover_a_length_once() -> None:
    assert slabs(7, 3, 10) == [slice(10, 13), slice(13, 16), slice(16, 17)]
    assert slabs(0, 4) == []


def test_results_come_in_the_order_of_the_items_and_errors_come_out() -> None:
    assert on_cores(lambda item: item * item, range(20)) == [item * item for item in range(20)]
    assert on_cores(lambda item: item, []) == []

    def refuse(item: int) -> None:
        if item == 3:
            raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        on_cores(refuse, range(8))
