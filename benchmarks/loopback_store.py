"""An object store on loopback that fails on purpose: S3's GET and HEAD over plain HTTP.

It serves a folder as buckets (``/bucket/key``), adds latency, and answers some first requests
with 503 or with a body that ends too early, as object stores and networks do.

    uv run python benchmarks/loopback_store.py /folder --latency-ms 20 --failures 0.01

prints its port and serves until it is ended. ``--alias`` makes many keys share one file: a key
that doesn't exist is looked up under the name after the chip's, so that ``template_S1_00.tif``
serves ``000aa810_S1_00.tif`` and every other chip.
"""

import argparse
import asyncio
import os
import random
import re
import sys
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d*)", re.IGNORECASE)


@dataclass
class Store:
    """What is served, and how badly.

    Attributes:
        root: Folder whose first level are the buckets.
        latency_s: Pause before every answer.
        failures: Share of keys whose first answer is 503.
        truncations: Share of keys whose first body ends halfway.
        denied: Whether every answer is 403.
        silent_after: Requests that are answered; later ones never are. None answers all.
        alias: Prefix of the files that stand for all chips, or None.
        seed: Chooses which keys fail.
    """

    root: Path
    latency_s: float = 0.0
    failures: float = 0.0
    truncations: float = 0.0
    denied: bool = False
    silent_after: int | None = None
    alias: str | None = None
    seed: int = 0
    requests: int = 0
    _seen: set[str] = field(default_factory=set)
    _files: dict[str, bytes | None] = field(default_factory=dict)

    def read(self, key: str) -> bytes | None:
        """An object's bytes, or None."""
        data = self._load(key)
        if data is None and self.alias:
            folder, _, name = key.rpartition("/")
            data = self._load(f"{folder}/{self.alias}_{name.partition('_')[2]}")
        return data

    def fault(self, key: str) -> str | None:
        """What goes wrong with this request: each key fails at most once."""
        if key in self._seen:
            return None
        self._seen.add(key)
        draw = random.Random(f"{self.seed} {key}").random()
        if draw < self.failures:
            return "unavailable"
        return "truncated" if draw < self.failures + self.truncations else None

    def _load(self, key: str) -> bytes | None:
        if key not in self._files:
            path = self.root / key.lstrip("/")
            self._files[key] = path.read_bytes() if path.is_file() else None
        return self._files[key]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client closes it."""
        try:
            while head := await _head(reader):
                if not await self._one(head, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, head: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False where the connection is to be cut."""
        self.requests += 1
        if self.silent_after is not None and self.requests > self.silent_after:
            await asyncio.Event().wait()
        method, target, _ = head.split(b" ", 2)
        key = unquote(target.split(b"?")[0].decode())
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        data = self.read(key)
        fault = self.fault(key) if method == b"GET" and data is not None else None
        if self.denied or fault == "unavailable" or data is None:
            status = "403 Forbidden" if self.denied else "404 Not Found"
            _send(writer, "503 Slow Down" if fault else status, b"", 0)
            return True
        status, begin, end = "200 OK", 0, len(data)
        if (wanted := _RANGE.search(head)) is not None:
            begin, end = int(wanted[1]), min(int(wanted[2] or end - 1) + 1, end)
            status = f"206 Partial Content\r\nContent-Range: bytes {begin}-{end - 1}/{len(data)}"
        length = end - begin
        body = data[begin:end] if method == b"GET" else b""
        _send(writer, status, body[: length // 2] if fault else body, length)
        await writer.drain()
        return fault is None


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _send(writer: asyncio.StreamWriter, status: str, body: bytes, length: int) -> None:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nAccept-Ranges: bytes\r\n"
        f'ETag: "{length:x}"\r\nLast-Modified: {formatdate(0, usegmt=True)}\r\n\r\n'
    )
    writer.write(head.encode() + body)


async def serve(store: Store, port: int) -> None:
    """Serve on loopback; the port is the first line of the output."""
    server = await asyncio.start_server(store.answer, "127.0.0.1", port, limit=1 << 16)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Whoever started this may be killed: then nobody needs it any more.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # without waiting for the connections


def main() -> None:
    """Read the command line and serve until the standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--failures", type=float, default=0)
    parser.add_argument("--truncations", type=float, default=0)
    parser.add_argument("--denied", action="store_true")
    parser.add_argument("--silent-after", type=int)
    parser.add_argument("--alias")
    given = parser.parse_args()
    store = Store(
        given.root,
        given.latency_ms / 1000,
        given.failures,
        given.truncations,
        given.denied,
        given.silent_after,
        given.alias,
    )
    asyncio.run(serve(store, given.port))


if __name__ == "__main__":
    main()
