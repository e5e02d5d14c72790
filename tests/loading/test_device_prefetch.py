import copy

import pytest
import torch

from biomassters.loading.device_prefetch import ahead_on_device
from biomassters.training.micro_batches import Feed


def batches(store, options):
    feed = Feed(store.split("train"), [], range(12), options, torch.device("cpu"))
    return feed.read_validation()


def test_without_a_gpu_batches_pass_as_they_are(store, small_options) -> None:
    given = [copy.deepcopy(batch) for batch in batches(store, small_options())]
    passed = ahead_on_device(iter(given), torch.device("cpu"))
    assert all(one is other for one, other in zip(passed, given, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_every_batch_arrives_as_it_was_read(store, small_options) -> None:
    options = small_options(validation_batch_size=1)
    expected = [copy.deepcopy(batch) for batch in batches(store, options)]
    device = torch.device("cuda", 0)
    for moved, was in zip(ahead_on_device(batches(store, options), device), expected, strict=True):
        assert moved.s1.device == device
        for name in ("s1", "s2", "chip_of_month", "agb"):
            assert torch.equal(getattr(moved, name).cpu(), getattr(was, name))
