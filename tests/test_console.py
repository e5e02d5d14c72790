import logging
import sys

import pytest

from biomassters.console import FORMAT, TIME_FORMAT, stream

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
