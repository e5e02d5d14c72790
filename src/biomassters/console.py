"""Where a run's lines go: stderr, broken between words on a terminal and nowhere in a file.

``conf/logging.yml`` names ``stream`` as the place of the log; errors that end a run and the live
bar of ``progress_bar`` use it, too, so that they never write over each other.
"""

import logging
import os
import re
import sys
import textwrap

from tqdm import tqdm

from biomassters.redaction import redact

FORMAT = "%(asctime)s %(levelname)s: %(message)s"
TIME_FORMAT = "%H:%M:%S"

_HEAD = re.compile(r"(\d\d:\d\d:\d\d )?(DEBUG|INFO|WARNING|ERROR|CRITICAL): ")
_NARROW = 60  # columns below which the time of day is left out
_COLOURS = {"Warning:": "\33[33m", "Error:": "\33[31m"}
_PLAIN = "\33[0m"


class Console:
    """A text stream that writes whole records to whatever ``sys.stderr`` is at the time."""

    def write(self, text: str) -> int:
        """Write one record, above the live bar if there is one.

        Args:
            text: Lines; the head that ``FORMAT`` gives a log record becomes shorter: no level
                for information, a plain word for others.
        """
        shown = _shortened(redact(text), self.columns)
        if self.columns is not None:
            shown = "\n".join(_wrapped(line, self.columns) for line in shown.split("\n"))
        if self.coloured:
            for word, colour in _COLOURS.items():
                shown = re.sub(rf"^([\d: ]*)({word})", rf"\1{colour}\2{_PLAIN}", shown)
        with tqdm.external_write_mode(file=sys.stderr):
            sys.stderr.write(shown)
        return len(text)

    def flush(self) -> None:
        """Pass on what is buffered."""
        sys.stderr.flush()

    @property
    def columns(self) -> int | None:
        """Width of the terminal, at least 20; None where stderr is no terminal."""
        if not sys.stderr.isatty():
            return None
        try:
            given = int(os.environ.get("COLUMNS", 0))
            return max(20, given or os.get_terminal_size(sys.stderr.fileno()).columns or 80)
        except (OSError, ValueError):
            return 80

    @property
    def coloured(self) -> bool:
        """Whether colours are wanted: on a terminal, without NO_COLOR (no-color.org)."""
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return sys.stderr.isatty() and not plain


stream = Console()


def log_here() -> None:
    """Log as ``conf/logging.yml`` does, in a process that Kedro doesn't configure."""
    logging.basicConfig(format=FORMAT, datefmt=TIME_FORMAT, stream=stream)


def _shortened(text: str, columns: int | None) -> str:
    head = _HEAD.match(text)
    if head is None:
        return text
    time, level = head.groups()
    word = "" if level in ("DEBUG", "INFO") else f"{level.capitalize()}: "
    kept = "" if time is None or (columns is not None and columns < _NARROW) else f"{time} "
    return kept + word + text[head.end() :]


def _wrapped(line: str, columns: int) -> str:
    """A line broken between words; what is longer than a line, such as a path, stays whole."""
    if len(line) <= columns:
        return line
    indent = re.match(r"(\d\d:\d\d:\d\d)? *", line)
    assert indent is not None
    return textwrap.fill(
        line,
        columns,
        subsequent_indent=" " * min(len(indent[0]), columns // 3) + "  ",
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
        expand_tabs=False,
    )
