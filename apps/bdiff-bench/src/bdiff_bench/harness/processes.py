"""Processes that end when the bench that started them ends, however it ends."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait


def one_process() -> ProcessPoolExecutor:
    """A fresh process, for figures that earlier work in this one would change."""
    return ProcessPoolExecutor(
        max_workers=1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent
    )


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone.

    Without this, a bench that is killed leaves processes that wait for work, or write files that the next call uses.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait((parent.sentinel,))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
