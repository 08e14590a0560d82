"""Worker processes: one thread each, and none outlives the process that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch


def process_pool(workers: int) -> ProcessPoolExecutor:
    """An executor of spawned processes, so that a script that uses it needs `if __name__ == "__main__"`."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin)


def processors() -> int:
    """How many processes to start: one per processor, but one in all in a daemon, such as Dask's workers are."""
    return 1 if multiprocessing.current_process().daemon else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch computes as a worker does, to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _begin() -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches every process of a terminal; the caller alone has something to say about it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
