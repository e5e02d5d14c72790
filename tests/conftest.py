"""Fixtures that every test may use."""

import fcntl
import functools
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Tests start dozens of processes that import torch: what one of them compiles, the next ones read.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Tests run side by side, one to a core: two threads of one product would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where there are two, one that waits for the other would spin, on a core that the other needs: on
# two busy cores a run of the test environment took 66 s so, 40 s without spinning, 23 s on one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell ignores Ctrl-C for what it runs in the background, and so would all that is started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine, and as much time for one as it takes there.
settings.register_profile(
    "any machine", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

pytest_plugins = (
    "tests.fixtures.chips",
    "tests.fixtures.forest",
    "tests.fixtures.forks",
    "tests.fixtures.training",
    "tests.fixtures.catalogue",
)

SHARED = Path(__file__).parents[2] / "shared"


def _folder(variable: str, default: Path, what: str) -> Path:
    root = Path(os.environ.get(variable, default)).resolve()
    if not root.is_dir():
        pytest.skip(f"needs {what}: set {variable} to its folder")
    return root


@pytest.fixture(scope="session")
def sample_root() -> Path:
    """A few real BioMassters chips in the official layout."""
    return _folder("BIOMASSTERS_SAMPLE", SHARED / "biomassters", "real BioMassters chips")


@pytest.fixture(scope="session")
def real_chips_root() -> Path:
    """More real BioMassters chips, each an archive of its own."""
    return _folder("BIOMASSTERS_REAL_CHIPS", SHARED / "real_chips", "more real BioMassters chips")


@pytest.fixture(scope="session")
def reference_root() -> Path:
    """Weights saved as the first place saved them, with expected outputs."""
    return _folder("BIOMASSTERS_REFERENCE", SHARED / "winner", "weights of the reference network")


@pytest.fixture(scope="session")
def field_plots() -> Path:
    """Real field plots, or a skip."""
    return _folder("BIOMASSTERS_PLOTS", SHARED / "plots", "real field plots")


@pytest.fixture(scope="session")
def optional() -> Callable[[str], ModuleType]:
    """A package that ``uv run pytest`` alone doesn't install, or a skip: ``optional("xarray")``."""

    def load(name: str) -> ModuleType:
        reason = f"needs {name}: uv run --group test-more pytest"
        return pytest.importorskip(name, reason=reason)

    return load


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """torch computes on one thread: another number rounds otherwise."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Shown:
    """What a command left on a terminal.

    Attributes:
        code: Its exit status.
        raw: Every character that it wrote.
        lines: The lines that stay, without what was written over.
    """

    def __init__(self, code: int, raw: str) -> None:
        self.code, self.raw = code, raw
        rows = [row.rpartition("\r")[2] for row in raw.replace("\r\n", "\n").split("\n")]
        self.lines = [row.rstrip() for row in rows if row.strip()]


Begin = Callable[[int, dict[str, str]], tuple[int, Callable[[], int]]]
"""Begins something on a terminal's file descriptor and with an environment: its process, and what
waits for its exit status."""


def _begin(command: list[str], terminal: int, environment: dict[str, str]) -> tuple[int, Any]:
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    return process.pid, process.wait


@pytest.fixture
def in_terminal() -> Callable[..., Shown]:
    """Runs a command in a real terminal: ``in_terminal(columns, [command])``.

    Instead of a command it takes what begins one. ``interrupt_at`` sends Ctrl-C once when the
    command has written that; ``env`` is added to the environment.
    """

    def run(
        columns: int,
        command: list[str] | Begin,
        *,
        env: dict[str, str] | None = None,
        interrupt_at: str | None = None,
    ) -> Shown:
        begin = functools.partial(_begin, command) if isinstance(command, list) else command
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
        more = {"TERM": "xterm-256color", "OMP_NUM_THREADS": "2", **(env or {})}
        process, code = begin(its, {**kept, **more})
        os.close(its)
        raw = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # the last one who held the terminal is gone
                break
            if not read:
                break
            raw += read
            if interrupt_at is not None and interrupt_at.encode() in raw:
                interrupt_at = None
                os.kill(process, signal.SIGINT)
        os.close(ours)
        return Shown(code(), raw.decode())

    return run


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One more than there are cores: tests wait for other processes, servers and disks."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:  # xdist reads it
        return None
    from biomassters.workers.cores import processors

    return processors() + 1


# Those of half a minute and more. The first makes the default run that several later ones need.
LONGEST = (
    "pipelines/test_end_to_end.py",
    "training/test_distributed.py",
    "regions/test_region_runs.py",
    "pipelines/test_own_forest.py",
    "pipelines/test_provenance.py",
    "pipelines/test_runs.py",
    "training/test_resume_after_kill.py",
    "pipelines/test_secrets.py",
    "site/test_site.py",
    "pipelines/test_slurm.py",
    "pipelines/test_faults.py",
    "pipelines/test_adapt.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, then others with slow tests: begun last, one would keep all
    other processes waiting.
    """
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (order.get(item.path, len(order)), item.path not in slow))


class RangeServer:
    """Files of a folder on loopback, and parts of them: GDAL asks for those, the standard library's
    server doesn't give them.

    Attributes:
        host: Name and port.
        asked: Paths that were asked for, with their queries.
        sent_bytes: Of files and parts of them, so far.
    """

    def __init__(self, folder: Path) -> None:
        self.asked = asked = []
        self.sent_bytes = 0
        server = self

        class Ranges(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                path = Path(self.translate_path(self.path))
                if not path.is_file():
                    return self.send_error(404)
                content = path.read_bytes()
                first, last = 0, len(content) - 1
                if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                    first, last = int(found[1]), min(int(found[2] or last), last)
                self.send_response(206 if found else 200)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
                self.send_header("Content-Length", str(last + 1 - first))
                self.send_header("Last-Modified", self.date_time_string(0))
                self.end_headers()
                server.sent_bytes += last + 1 - first
                self.wfile.write(content[first : last + 1])
                return None

            def log_message(self, *_: object) -> None:
                """Nothing on the console."""

        handler = functools.partial(Ranges, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def range_server() -> Iterator[Callable[[Path], RangeServer]]:
    """Starts web servers: ``range_server(folder)``."""
    servers: list[RangeServer] = []

    def start(folder: Path) -> RangeServer:
        servers.append(RangeServer(folder))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


# It takes a free port by itself, and ends with the process that reads its output.
_S3_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


class S3Server:
    """A real S3-compatible server: a process on loopback.

    Attributes:
        url: Its address.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _S3_SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def client(self) -> Any:
        """A client that may write."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(proxies={}),
        )

    def upload(self, bucket: str, root: Path, prefix: str = "", pattern: str = "*") -> None:
        """Files below a folder to a public bucket of that name, which is made."""
        client = self.client()
        client.create_bucket(Bucket=bucket, ACL="public-read")
        for path in sorted(path for path in root.rglob(pattern) if path.is_file()):
            key = prefix + str(path.relative_to(root))
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes(), ACL="public-read")

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()


@pytest.fixture(scope="session")
def s3_server(optional: Callable[[str], ModuleType]) -> Iterator[S3Server]:
    """An empty S3 server."""
    for name in ("boto3", "moto.server"):
        optional(name)
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3_access(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """That server as the environment names it, for this process and those it starts."""
    from biomassters.io import storage

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    storage._system.cache_clear()
    yield s3_server
    storage._system.cache_clear()
