"""Ctrl-C and the scheduler's SIGTERM: asked politely, training saves and leaves."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(KeyboardInterrupt):
    """Training stopped because it was asked to, after saving its state.

    A ``KeyboardInterrupt``, so that nothing that handles failures takes it for one.
    """


class StopRequest:
    """Notes within its block that the process was asked to stop.

    Nothing is done inside the handler: whoever runs the loop looks at ``requested`` where it is
    safe to stop. From the second signal on the earlier handlers are back, so that an impatient
    user is obeyed at once. Outside the main thread, where Python allows no handlers, nothing
    is noted and signals act as before.

    Args:
        patient: Whether further signals change nothing, to the end of the process. For one that
            another watches over: a terminal sends Ctrl-C to both, and the other passes it on.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.requested, self._patient = False, patient
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._patient:
            self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._patient:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            # None stands for a handler that was not set from Python and can't be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier = {}
