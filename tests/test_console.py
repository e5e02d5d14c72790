import itertools
import logging
import sys

import pytest

from biomassters import console
from biomassters.console import FORMAT, TIME_FORMAT, Progress, part, set_place, stream, tracked

SAY = (
    "import logging; from biomassters.console import log_here; log_here();"
    "logging.getLogger('biomassters').setLevel(logging.INFO);"
    "log = logging.getLogger('biomassters.x');"
    "log.info('Weights: /a/path/that/is/longer/than/forty/columns/are/weights.safetensors here');"
    "log.warning('several words that do not fit into forty columns of a terminal');"
)


def test_without_a_terminal_a_record_is_one_line_whatever_its_length(capsys):
    stream.write("12:00:00 INFO: " + "word " * 100 + "\n")
    assert capsys.readouterr().err == "12:00:00  " + "word " * 100 + "\n"


@pytest.mark.parametrize(("level", "word"), [("WARNING", "Warning: "), ("ERROR", "Error: ")])
def test_levels_are_plain_words(capsys, level, word):
    stream.write(f"12:00:00 {level}: low on disk\n")
    stream.write("no record: INFO: as it is\n")
    assert capsys.readouterr().err == f"12:00:00  {word}low on disk\nno record: INFO: as it is\n"


def test_a_logging_handler_writes_here(capsys):
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT, TIME_FORMAT))
    handler.handle(logging.makeLogRecord({"levelname": "INFO", "levelno": 20, "msg": "packed"}))
    assert capsys.readouterr().err[10:] == "packed\n"


def test_no_word_is_broken_at_forty_columns(in_terminal):
    shown = in_terminal(40, [sys.executable, "-c", SAY], env={"NO_COLOR": "1"})
    assert "/a/path/that/is/longer/than/forty/columns/are/weights.safetensors" in shown.raw
    words = {word for line in shown.lines for word in line.split()}
    assert {"several", "columns", "terminal", "Warning:"} <= words
    assert all(len(line) <= 40 for line in shown.lines if "/" not in line)
    assert "\33" not in shown.raw


def test_colours_only_where_they_are_wanted(in_terminal):
    assert "\33[33mWarning:\33[0m" in in_terminal(80, [sys.executable, "-c", SAY]).raw
    dumb = in_terminal(80, [sys.executable, "-c", SAY], env={"TERM": "dumb"})
    assert "\33" not in dumb.raw


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets, and a process that has said nothing so far."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(console.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(console, "_shown", console._Shown(began=1000.0, said=1000.0))
    return Clock


def test_the_time_left_is_that_of_the_rate_so_far(clock):
    with Progress("packing", 100, done=20) as bar:
        clock.now += 10
        bar.update(20)  # 2 a second, 60 are left
        assert bar.seconds_left == pytest.approx(30)
        assert bar.line(None) == "packing:  40%, 30 s left"


def test_nothing_is_said_of_time_before_anything_is_done(clock):
    with Progress("packing", 100, done=20) as bar:
        assert bar.seconds_left is None
        assert bar.line(None) == "packing:  20%"


def test_parts_count_for_the_whole(clock):
    with part(1, 4), Progress("training", 10) as bar:
        clock.now += 5
        bar.update(5)  # 1 a second; 5 of this part and 20 of the others are left
        assert bar.seconds_left == pytest.approx(25)
        assert bar.line(None) == "training (2 of 4):  38%, 25 s left"


def test_another_total_in_the_middle_keeps_the_share_done_before(clock):
    with Progress("training", 100, done=50) as bar:
        clock.now += 10
        bar.reach(150, 200)  # 100 of the new 200 were there; 50 in ten seconds
        assert bar.seconds_left == pytest.approx(10)


def test_a_line_every_ten_seconds_and_fewer_as_time_goes_on(clock, caplog):
    caplog.set_level(logging.INFO)
    times = []
    with Progress("packing", 10_000) as bar:
        for second in range(1, 1001):
            clock.now += 1
            bar.update()
            times += [second] * (len(caplog.records) - len(times))
    assert times[:4] == [10, 20, 30, 40]
    assert all(later - earlier >= 10 for earlier, later in itertools.pairwise(times))
    assert len(times) < 20
    assert caplog.records[0].getMessage() == "packing:   0%, 2 h 46 min left"


def test_a_line_is_never_longer_away_than_five_minutes(clock, caplog):
    caplog.set_level(logging.INFO)
    with Progress("training", 100_000) as bar:
        clock.now += 50_000
        bar.update()
        caplog.clear()
        clock.now += 300
        bar.update()
    assert len(caplog.records) == 1


def test_only_the_outermost_says_anything(clock, caplog):
    caplog.set_level(logging.INFO)
    with Progress("training", 10), Progress("validating", 10) as inner:
        clock.now += 60
        inner.update()
    assert caplog.records == []
    with Progress("validating", 10) as alone:
        clock.now += 60
        alone.update()
    assert len(caplog.records) == 1


def test_a_hidden_one_says_nothing_but_what_is_sure(clock, caplog):
    caplog.set_level(logging.INFO)
    with Progress("training", 10, shown=False) as bar:
        clock.now += 60
        bar.update()
        bar.say("in between")
        bar.say("the last one", surely=True)
    assert [record.getMessage() for record in caplog.records] == ["the last one"]


def test_the_line_fits_the_terminal(clock):
    set_place("15 of 33")
    with Progress("training", 100) as bar:
        bar.note("epoch 3 of 12", "loss 31.2")
        clock.now += 90
        bar.update(43)
        wide = bar.line(100)
        assert wide.startswith("15 of 33 training:  43%, 1 min 59 s left  [###")
        assert wide.endswith("]  epoch 3 of 12, loss 31.2")
        assert len(wide) == 100
        assert bar.line(62).endswith("left  epoch 3 of 12")
        assert bar.line(40) == "15 of 33 training:  43%, 1 min 59 s left"
        assert bar.line(39) == "15 of 33 training:  43%, 1 min 59 s"
        assert bar.line(30) == "15 of 33 training:  43%"
        assert all(len(bar.line(columns)) <= columns for columns in range(20, 200))


def test_a_number_without_a_total(clock):
    with Progress("reading") as bar:
        bar.update(1234)
        assert bar.line(None) == "reading: 1,234 done"


def test_tracked_passes_items_on_and_closes_when_left(clock):
    assert list(tracked([1, 2], "counting")) == [1, 2]
    for _ in tracked([1, 2], "counting"):
        break
    assert console._shown.outermost is None


LIVE = """
import logging, time
from biomassters.console import log_here
from biomassters.console import Progress
log_here()
with Progress("outer", 20) as bar, Progress("inner", 5) as inner:
    for step in range(20):
        time.sleep(0.02)
        bar.update()
        inner.update()
        if step == 10:
            logging.getLogger("x").warning("a line in between")
print("after")
"""


STANDING = """
from biomassters.console import Progress, close_open, set_place
set_place("1 of 2", "plan training")
with Progress("training", 20) as bar:
    bar.update()
set_place("2 of 2", "draw")
kept = Progress("drawing", 3).__enter__()
close_open()
print("after")
"""


def test_what_has_no_bar_stands_there_until_one_comes(in_terminal):
    shown = in_terminal(80, [sys.executable, "-c", STANDING])
    steps = ["1 of 2 plan training ...", "1 of 2 training:   0%", "1 of 2 plan training ...",
             "2 of 2 draw ...", "2 of 2 drawing:   0%"]  # fmt: skip
    places = [shown.raw.find(steps[0])]
    for step in steps[1:]:
        places.append(shown.raw.find(step, places[-1] + 1))
    assert places == sorted(places)
    assert -1 not in places
    assert shown.lines == ["after"]


@pytest.mark.parametrize("columns", [40, 80])
def test_a_live_bar_is_one_line_that_goes_away(in_terminal, columns):
    shown = in_terminal(columns, [sys.executable, "-c", LIVE], env={"NO_COLOR": "1"})
    assert shown.code == 0
    assert [line.rpartition("Warning: ")[2] for line in shown.lines] == [
        "a line in between",
        "after",
    ]
    assert "outer: " in shown.raw
    assert "inner" not in shown.raw
    assert "\33" not in shown.raw
