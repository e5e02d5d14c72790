"""Threads that read chips and die of something that is no ``Exception``: nobody waits for them."""

import ctypes
import shutil
import threading
import time

import pytest

from biomassters.chips.store.reader import ChipStore
from biomassters.errors import BadInputError
from biomassters.loading.loader import ThreadedLoader
from biomassters.loading.samples import plain_sample
from biomassters.training.checkpoint import CheckpointFolder

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
TIMEOUT_S = 60.0  # of a chip; a death is told long before


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("chip reader")]


def end(thread):
    """As ``sys.exit`` in it would; a thread that waits notices when it wakes."""
    told = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    assert told == 1


def rest_of(batches):
    """What the rest of a pass raises, and after how many seconds; a pass for ever fails here."""
    raised, start = [], time.monotonic()

    def go_on():
        try:
            list(batches)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive(), "the pass hangs"
    return raised[0], time.monotonic() - start


@pytest.fixture
def split(store):
    return store.split("train")


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_that_end_while_nothing_is_to_do(split, threads):
    """They wait for work; where all are gone, no task runs that could take too long."""
    samples = [plain_sample(chip, range(12)) for chip in range(4)]
    loader = ThreadedLoader(split, [samples] * 9, crop=32, threads=threads, timeout_s=TIMEOUT_S)
    batches = iter(loader)
    next(batches)
    time.sleep(0.2)
    for thread in readers():
        end(thread)
    error, seconds = rest_of(batches)
    assert isinstance(error, BadInputError)
    assert str(error).startswith("The thread 'chip reader ")
    assert "run again, training continues from its newest checkpoint" in str(error)
    assert seconds < TIMEOUT_S / 2
    assert readers() == []


def test_a_thread_that_ends_in_the_middle_of_a_chip(store, tmp_path, leased):
    """It stands in the file system, as before a slow server, when it is ended."""
    # A copy: of the tests' common store somebody may still have the file open.
    copy = shutil.copytree(store.path, tmp_path / "chips.zarr")
    split = ChipStore(copy).split("train")
    give_back = leased(next((copy / "train" / "s1").glob("c.6.*")))
    months = split.present.any(axis=2)[6].nonzero()[0].tolist()
    loader = ThreadedLoader(
        split, [[plain_sample(0, range(12))], [plain_sample(6, months)]], crop=None, threads=1,
        prefetch=1, timeout_s=TIMEOUT_S,
    )  # fmt: skip
    batches = iter(loader)
    next(batches)
    time.sleep(0.5)  # by then it stands at chip 6
    (reader,) = readers()
    end(reader)
    give_back()
    error, seconds = rest_of(batches)
    assert isinstance(error, BadInputError)
    assert f"has ended while it read chip {split.chip_ids[6]} (month " in str(error)
    assert seconds < TIMEOUT_S / 2


TRAIN = """
import ctypes, sys, threading
from pathlib import Path
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.hooks import install_plain_errors
from biomassters.network.options import NetworkOptions
from biomassters.training.checkpoint import CheckpointFolder
from biomassters.training.train import train
from biomassters.training.train import new_network
from biomassters.training.options import TrainingOptions

def save_and_end_readers(folder, *given):
    for thread in threading.enumerate():
        if thread.name.startswith("chip reader"):
            ident, kind = ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, kind) == 1
    return save(folder, *given)

save, CheckpointFolder.save = CheckpointFolder.save, save_and_end_readers
install_plain_errors()
store = ChipStore(sys.argv[1])
shape = NetworkOptions(backbone="mobilenetv3_small_050", decoder_channels=(16, 16, 8, 8, 8))
train(
    new_network(shape, BandScaling.reference(), 1), store.split("train"), range(9), [9, 10, 11],
    TrainingOptions.model_validate_json(sys.argv[3]), Path(sys.argv[2]),
    fingerprint=store.fingerprint,
)
"""


@pytest.mark.slow
def test_training_ends_in_one_sentence(forks, store, small_options, tmp_path):
    """Its readers end while the first checkpoint is saved; batches read by then are learnt from."""
    options = small_options(
        batch_size=1,
        crop=64,
        loader_prefetch=1,
        checkpoint_every_minutes=1e-9,
        loader_timeout_s=120,
    )
    done = forks.run(TRAIN, store.path, tmp_path, options.model_dump_json())
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: The thread 'chip reader ")
    assert CheckpointFolder(tmp_path, 2).newest() is not None
