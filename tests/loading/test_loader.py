import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from biomassters.chips.chip import Chip
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.loading.loader import ThreadedLoader
from biomassters.loading.samples import Sample, plain_sample

HEIGHT, WIDTH, COUNT = 16, 24, 7


class Chips:
    """Seven chips; three months lack one image, month 11 both."""

    def __init__(self, split: str = "train") -> None:
        self.names = [f"chip{number}" for number in range(COUNT)]
        self.split = split

    def splits(self) -> dict[str, list[str]]:
        return {self.split: self.names}

    def signature(self, chip_id: str) -> str:
        return chip_id

    def read_chip(self, chip_id: str) -> Chip:
        rng = np.random.default_rng(self.names.index(chip_id))
        present = np.ones((12, 2), bool)
        present[2:5, 1] = present[11] = False
        s1_db = rng.normal(-12, 4, (12, 4, HEIGHT, WIDTH)).astype(np.float32)
        s2 = rng.integers(0, 9999, (12, 11, HEIGHT, WIDTH)).astype(np.uint16)
        agb = rng.gamma(1, 60, (HEIGHT, WIDTH)).astype(np.float32)
        return Chip(
            chip_id,
            self.split,
            {
                "s1": np.where(present[:, 0, None, None, None], s1_db, np.float32(-9999)),
                "s2": np.where(present[:, 1, None, None, None], s2, np.uint16(0)),
            },
            present,
            agb if self.split == "train" else None,
        )


@pytest.fixture(scope="module", params=["lz4", "none"])
def split(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "store"
    return write_store(path, Chips(), codec=request.param).split("train")


@pytest.fixture
def own_split(tmp_path):
    return write_store(tmp_path / "store", Chips(), codec="lz4").split("train")


SAMPLES = [
    Sample(3, (0, 2, 9), 1, 2),
    Sample(0, (11,)),
    Sample(6, tuple(range(12)), 8, 16),
    Sample(1, (4, 5), 0, 7),
    Sample(2, (10, 11)),
]
BATCHES = [SAMPLES[:2], SAMPLES[2:3], SAMPLES[3:], SAMPLES[1:4], SAMPLES[:1], SAMPLES]


def expected(split, samples, size):
    """The same batch, read month by month into fresh memory."""
    h, w = size
    s1, s2, owner, agb = [], [], [], []
    for number, sample in enumerate(samples):
        agb.append(np.empty(size, np.float32))
        split.read_agb_into(sample.chip, agb[-1], sample.top, sample.left)
        for month in sample.months:
            s1.append(np.empty((4, h, w), np.int16))
            s2.append(np.empty((11, h, w), np.uint16))
            owner.append(number)
            out = {"s1": s1[-1], "s2": s2[-1]}
            split.read_month_into(sample.chip, month, out, sample.top, sample.left)
    return np.stack(s1), np.stack(s2), np.array(owner), np.stack(agb)


def copied(batch):
    tensors = (*batch.images.values(), batch.chip_of_month, batch.agb)
    return tuple(tensor.numpy().copy() for tensor in tensors)


def same(one, other):
    return all(map(np.array_equal, one, other))


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("chip reader")]


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert reader_threads() == []


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("prefetch", [0, 1, 3, 10])
def test_batches_in_order_whatever_the_threads(split, threads, prefetch):
    loader = ThreadedLoader(split, BATCHES, crop=8, threads=threads, prefetch=prefetch)
    assert len(loader) == len(BATCHES)
    for _ in range(2):
        for batch, samples in zip(loader, BATCHES, strict=True):
            assert same(copied(batch), expected(split, samples, (8, 8)))
            assert batch.samples == tuple(samples)
            assert batch.chip_ids == tuple(f"chip{sample.chip}" for sample in samples)
            assert len(batch) == len(samples)


def test_whole_chips(split):
    samples = [plain_sample(chip, range(12)) for chip in range(COUNT)]
    (batch,) = map(copied, ThreadedLoader(split, [samples], crop=None))
    assert same(batch, expected(split, samples, (HEIGHT, WIDTH)))
    s1, s2, chip_of_month, agb = batch
    assert (s1.dtype, s1.shape) == (np.int16, (12 * COUNT, 4, HEIGHT, WIDTH))
    assert (s2.dtype, s2.shape) == (np.uint16, (12 * COUNT, 11, HEIGHT, WIDTH))
    assert (agb.dtype, agb.shape) == (np.float32, (COUNT, HEIGHT, WIDTH))
    assert chip_of_month.tolist() == [chip for chip in range(COUNT) for _ in range(12)]
    assert (s1[11] == -32768).all()
    assert (s2[2] == 0).all()


def test_without_labels_agb_is_nan(tmp_path):
    split = write_store(tmp_path / "store", Chips("test")).split("test")
    (batch,) = map(copied, ThreadedLoader(split, [[plain_sample(0, [0])]], crop=None))
    assert np.isnan(batch[3]).all()


def test_memory_is_reused(split):
    loader = ThreadedLoader(split, BATCHES, crop=8, prefetch=1)
    places = {batch.images["s1"].data_ptr() for _ in range(3) for batch in loader}
    places |= {batch.images["s1"].data_ptr() for batch in loader.load(BATCHES[:3] * 4)}
    assert len(places) == 3


def test_other_batches_each_epoch(split):
    loader = ThreadedLoader(split, BATCHES[:1], crop=8)
    for batches in (BATCHES[1:3], BATCHES, [SAMPLES * 2]):
        found = list(map(copied, loader.load(batches)))
        assert all(
            same(one, expected(split, samples, (8, 8)))
            for one, samples in zip(found, batches, strict=True)
        )


def test_two_passes_at_once_do_not_mix(split):
    loader = ThreadedLoader(split, BATCHES, crop=8)
    for one, other, samples in zip(loader, loader, BATCHES, strict=True):
        right = expected(split, samples, (8, 8))
        assert same(copied(one), right)
        assert same(copied(other), right)


def test_no_batches(split):
    assert list(ThreadedLoader(split, [], crop=None)) == []


def test_an_abandoned_pass_ends_its_threads(split):
    loader = ThreadedLoader(split, BATCHES * 20, crop=8)
    for number, _ in enumerate(loader):
        if number == 1:
            break
    deadline = time.monotonic() + 60
    while reader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reader_threads() == []
    (batch,) = map(copied, loader.load(BATCHES[:1]))
    assert same(batch, expected(split, BATCHES[0], (8, 8)))


EXIT_IN_THE_MIDDLE = """
import sys
from biomassters.chips.store.reader import ChipStore
from biomassters.loading.loader import ThreadedLoader
from biomassters.loading.samples import plain_sample
split = ChipStore(sys.argv[1]).split("train")
batches = iter(ThreadedLoader(split, [[plain_sample(0, range(12))]] * 50, crop=None))
next(batches)
print("leaving")
"""


@pytest.mark.slow
def test_the_process_can_end_in_the_middle(own_split, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", EXIT_IN_THE_MIDDLE, tmp_path / "store"],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert (run.stdout, run.stderr) == ("leaving\n", "")


def test_waiting_is_measured(split):
    loader = ThreadedLoader(split, BATCHES * 5, crop=8)
    start = time.perf_counter()
    for _ in loader:
        pass
    assert 0 < loader.wait_s < time.perf_counter() - start


def shard(tmp_path, sensor, chip):
    return next((tmp_path / "store" / "train" / sensor).glob(f"c.{chip}.*"))


def test_a_damaged_chip_is_named(own_split, tmp_path):
    os.truncate(shard(tmp_path, "s2", 6), 100)
    loader = ThreadedLoader(own_split, BATCHES, crop=8)
    sentence = r"^Reading chip chip6 \(month \d+\) failed: .*s2/c\.6\..* is damaged"
    with pytest.raises(BadInputError, match=sentence):
        for _ in loader:
            pass
    (batch,) = map(copied, loader.load(BATCHES[:1]))
    assert same(batch, expected(own_split, BATCHES[0], (8, 8)))


def test_another_error_names_the_chip_too(split):
    loader = ThreadedLoader(split, [[Sample(4, (0,), top=99)]], crop=8)
    with pytest.raises(RuntimeError, match=r"^Reading chip chip4 .* leaves the chip") as caught:
        next(iter(loader))
    assert isinstance(caught.value.__cause__, ValueError)


def test_dropped_months_are_not_read(own_split, tmp_path):
    place = shard(tmp_path, "s1", 0)
    with place.open("rb+") as file:
        file.write(b"\xff" * 32)  # the chunk of month 0, which comes first
    kept = Sample(0, tuple(range(1, 12)))
    (batch,) = map(copied, ThreadedLoader(own_split, [[kept]], crop=None))
    assert len(batch[0]) == 11
    with pytest.raises(BadInputError, match=r"chip0 \(month 0\)"):
        list(ThreadedLoader(own_split, [[Sample(0, tuple(range(12)))]], crop=None))


def test_a_chip_that_stalls_is_named(own_split, tmp_path, leased):
    """Whoever opens a file of which another process has a lease waits, as for a lost drive."""
    give_back = leased(shard(tmp_path, "s1", 6))
    loader = ThreadedLoader(own_split, BATCHES, crop=8, timeout_s=3.0)
    batches = iter(loader)
    assert same(copied(next(batches)), expected(own_split, BATCHES[0], (8, 8)))
    with pytest.raises(BadInputError, match=r"^Reading chip chip6 .* longer than 3 s"):
        next(batches)
    (batch,) = map(copied, loader.load(BATCHES[:1]))  # while the thread still hangs
    assert same(batch, expected(own_split, BATCHES[0], (8, 8)))
    give_back()
    while reader_threads():
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"crop": 17}, "crop is 17, but the chips have 16 x 24 pixels"),
        ({"crop": 0}, "crop is 0"),
        ({"crop": 8, "threads": 0}, "threads is 0"),
        ({"crop": 8, "prefetch": -1}, "prefetch is -1"),
    ],
)
def test_bad_options(split, options, sentence):
    with pytest.raises(BadInputError, match=sentence):
        ThreadedLoader(split, BATCHES, **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_memory_is_not_overwritten_while_it_is_copied(split):
    loader = ThreadedLoader(split, BATCHES * 20, crop=8, pin_memory=True)
    found = []
    for batch in loader:
        assert batch.images["s1"].is_pinned()
        torch.cuda._sleep(2_000_000)  # the copy waits behind a busy device
        found.append(batch.to("cuda"))
    for batch, samples in zip(found, BATCHES * 20, strict=True):
        assert same(copied(batch.to("cpu")), expected(split, samples, (8, 8)))
