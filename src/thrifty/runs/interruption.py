"""Ctrl-C and SIGTERM as a wish to stop at the next safe point, not as an exception anywhere.

The first signal sets a flag. A second Ctrl-C raises KeyboardInterrupt, for an experiment that never
comes to its next yield. Outside the main thread Python delivers no signals, and nothing is done.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interruption:
    """Context manager that holds back SIGINT and SIGTERM; `requested` says that one came."""

    def __init__(self) -> None:
        self.requested = False
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._earlier.items():
            # None: installed by something other than Python, and out of our reach.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier.clear()

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
