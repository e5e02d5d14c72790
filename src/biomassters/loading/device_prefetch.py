"""The next batch is copied to the GPU while it works on the one before."""

from collections.abc import Iterator

import torch

from biomassters.loading.batch import Batch


def ahead_on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on a GPU, one copied ahead on a stream of its own; elsewhere as they come.

    From pinned memory a copy needs no processor, and on its own stream it doesn't queue behind
    the computation. The loader waits for a copy before it fills that memory again.

    Args:
        batches: In memory that may be filled again once the next is asked for.
        device: Where they go.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)
    ahead: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = batch.to(device)
        if ahead is not None:
            yield _arrived(ahead, stream, device)
        ahead = copied
    if ahead is not None:
        yield _arrived(ahead, stream, device)


def _arrived(batch: Batch, stream: torch.cuda.Stream, device: torch.device) -> Batch:
    """Let the computation wait for the copy, and the memory live as long as the computation."""
    computation = torch.cuda.current_stream(device)
    computation.wait_stream(stream)
    for tensor in (batch.s1, batch.s2, batch.chip_of_month, batch.agb):
        tensor.record_stream(computation)
    return batch
