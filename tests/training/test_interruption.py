import contextlib
import signal
import threading

import pytest

from biomassters.training.interruption import STOP_SIGNALS, StopRequest, TrainingInterrupted


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_noted_and_nothing_else_happens(number: int) -> None:
    before = [signal.getsignal(each) for each in STOP_SIGNALS]
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before


def test_handlers_are_restored_without_a_signal_and_after_an_error() -> None:
    before = [signal.getsignal(each) for each in STOP_SIGNALS]
    with contextlib.suppress(ZeroDivisionError), StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[0]
        raise ZeroDivisionError
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before


def test_the_second_signal_acts_as_without_us() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = []

    def work() -> None:
        with StopRequest() as stop:
            found.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def test_an_interruption_is_not_an_ordinary_failure() -> None:
    assert issubclass(TrainingInterrupted, KeyboardInterrupt)
    assert not issubclass(TrainingInterrupted, Exception)


def test_a_patient_one_is_obeyed_once_and_to_the_end() -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        with StopRequest(patient=True) as stop:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            assert stop.requested
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
