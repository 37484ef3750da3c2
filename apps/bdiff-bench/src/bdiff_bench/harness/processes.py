"""Processes that do a bench's work, and end with it however it ends."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait


def one_process() -> ProcessPoolExecutor:
    """A process of its own, for figures that nothing done before may touch."""
    return ProcessPoolExecutor(
        max_workers=1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent
    )


def end_with_parent() -> None:
    """End this process as soon as the one that began it is gone.

    A killed bench leaves its processes waiting for work, or busy with files that the next call goes on with.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait((parent.sentinel,))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
