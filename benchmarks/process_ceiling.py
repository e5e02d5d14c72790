"""What a machine gives to two independent processes of one thread, relative to one.

They predict the same windows with the same network over and over: no Dask, no region engine, and
nothing read while the clock runs. Processors share memory and caches, and virtual ones often a
core, so this is below 2 and bounds what two workers can reach.
"""

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

WINDOWS = 4
SECONDS = 6.0


def process_ceiling(images: Path, weights: Path) -> float:
    """Windows a second of two processes at a time over those of one alone."""
    alone = _rate(images, weights, 1)
    together = _rate(images, weights, 2)
    return together / alone


def _rate(images: Path, weights: Path, processes: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(processes), context.SimpleQueue()
    workers = [
        context.Process(target=_predict, args=(images, weights, barrier, rates))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [rates.get() for _ in workers]
    for worker in workers:
        worker.join()
    return sum(found)


def _predict(images: Path, weights: Path, barrier: Any, rates: Any) -> None:
    import torch

    from biomassters.inference.options import InferenceOptions
    from biomassters.inference.predict import predict_batch, ready_network
    from biomassters.network.weights import load_network

    torch.set_num_threads(1)
    device = torch.device("cpu")
    network = ready_network(load_network(weights), InferenceOptions(), device)
    windows = _windows(images)
    barrier.wait()
    started, done = time.perf_counter(), -1  # the first one warms up
    while done < WINDOWS or time.perf_counter() - started < SECONDS:
        year = windows[(done + 1) % WINDOWS]
        owner = torch.zeros(len(year["s1"]), dtype=torch.int64)
        predict_batch(network, year, owner, 1)
        done += 1
        if not done:
            barrier.wait()
            started = time.perf_counter()
    rates.put(done / (time.perf_counter() - started))


def _windows(images: Path) -> list[dict[str, Any]]:
    """Images of some windows of 256 pixels, as tensors."""
    import torch
    from rasterio.windows import Window

    from biomassters.regions.inputs.source import open_region
    from biomassters.regions.options import AreaOptions, ImageOptions

    source = open_region(str(images), ImageOptions(), AreaOptions())
    with ThreadPoolExecutor(1) as pool:
        read = [source.read(Window(256 * n, 0, 256, 256), pool) for n in range(WINDOWS)]
    return [{name: torch.from_numpy(year) for name, year in one.images.items()} for one in read]
