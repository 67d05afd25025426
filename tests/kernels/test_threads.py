"""The thread count of the BLAS is borrowed, not taken."""

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from npc_edge.kernels.threads import one_blas_thread


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            assert blas_threads() <= {1}
        assert blas_threads() == before
