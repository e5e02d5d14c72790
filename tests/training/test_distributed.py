"""Several real processes train one network."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from biomassters.chips.store.reader import ChipStore
from biomassters.errors import BadInputError
from biomassters.training.options import TrainingOptions
from biomassters.training.train import check_devices, train

# A rank spends six seconds of a processor on imports. Here ranks fork from a process that has done
# them, where a plan doesn't ask for what the product does: new interpreters.
SCRIPT = """
import itertools, json, multiprocessing, os, signal, sys, time
from pathlib import Path
import torch
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.training import distributed
from biomassters.training.checkpoint import content_crc
from biomassters.training.trainer import TrainingInterrupted
from biomassters.training.train import train
from biomassters.training.options import TrainingOptions
from biomassters.training.train_step import seed_torch

class NoStatistics(AgbNet):
    # Normalizes with what it has, so that chips don't depend on those beside them.
    def train(self, mode=True):
        return super().train(False)

def run(store, folder, name, given, training, validation, kind):
    seed_torch(1)
    options = NetworkOptions(backbone="mobilenetv3_small_050", decoder_channels=(16, 16, 8, 8, 8))
    result = train(
        kind(options, BandScaling.reference()), store.split("train"), training, validation,
        TrainingOptions(**given), Path(folder) / name, fingerprint=store.fingerprint,
    )
    return {
        "last": content_crc(result.last_state), "best": content_crc(result.best_state),
        "history": result.history.to_dict("list"),
    }

def ask_to_stop():
    # As a terminal's Ctrl-C: to the one that started the ranks, which passes it on.
    os.kill(multiprocessing.parent_process().pid, signal.SIGTERM)
    noted = signal.getsignal(signal.SIGTERM).__self__
    while not noted.requested:
        time.sleep(0.01)

ACTS = {
    "": lambda: None,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stall": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "stop": ask_to_stop,
}
ACT = Path(__file__).with_name("act")

def in_the_middle_of_a_step(number):
    # Between backward pass and optimizer, on the second rank, when it is started for the first
    # time. Ranks import this file too; which of them this is they know when they compute.
    clip, calls = torch.nn.utils.clip_grad_norm_, itertools.count(1)
    def acting(*given, **named):
        if os.environ.get("RANK") == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            if next(calls) == number:
                ACTS[ACT.read_text()]()
        return clip(*given, **named)
    torch.nn.utils.clip_grad_norm_ = acting

in_the_middle_of_a_step(3)

def started_by(method, config=distributed._config):
    def changed(options):
        launch = config(options)
        assert launch.start_method == "spawn"
        launch.start_method = method
        return launch
    distributed._config = changed

def trained(store, folder, plans):
    out = {}
    for name, plan in plans.items():
        kind = NoStatistics if plan.pop("frozen", False) else AgbNet
        place = plan.pop("folder", name)
        ACT.write_text(plan.pop("act", ""))
        started_by(plan.pop("start", "forkserver"))
        start = time.monotonic()
        try:
            out[name] = run(store, folder, place, plan["options"],
                            plan["training"], plan["validation"], kind)
        except (TrainingInterrupted, BadInputError) as end:
            out[name] = {"said": str(end), "seconds": time.monotonic() - start}
        except SystemExit:
            out[name] = {"left_to_the_first": True}
    return out

if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(["biomassters.training.train"])
    torch.set_num_threads(1)
    for line in sys.stdin:
        signal.alarm(1200)
        path, folder, plans = json.loads(line)
        print(json.dumps(trained(ChipStore(path), folder, plans)), flush=True)
        signal.alarm(0)
"""
HELD_OUT = [5, 6, 7, 8, 9, 10, 11]  # seven
BASE = {
    "batch_size": 4, "crop": 32, "device": "cpu", "loader_threads": 1, "drop_last": False,
    "learning_rate": 1e-3, "validation_batch_size": 1, "ema_decay": None,
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


class Trainer:
    """A process that trains by plans, one after another, and tells what they came to."""

    def __init__(self, folder: Path) -> None:
        script, self._log = folder / "ranks.py", folder / "log"
        script.write_text(SCRIPT)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def start(self, store: ChipStore, folder: Path, plans: dict) -> None:
        """Train; ``ended`` waits for the end."""
        for plan in plans.values():
            plan["options"] = {**BASE, **plan["options"]}
            plan.setdefault("training", list(range(5)))
            plan.setdefault("validation", HELD_OUT)
        self._logged = len(self._log.read_text())
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(store.path), str(folder), plans]) + "\n")
        self._process.stdin.flush()

    def ended(self) -> tuple[dict, str]:
        """What the plans came to, and the log of it."""
        assert self._process.stdout is not None
        told = self._process.stdout.readline()
        log = self._log.read_text()[self._logged :]
        assert told, log
        return json.loads(told), log

    def close(self) -> None:
        """End it with all its ranks."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@pytest.fixture(scope="module")
def trainers(tmp_path_factory) -> Iterator[list[Trainer]]:
    """Two, which share nothing."""
    made = [Trainer(tmp_path_factory.mktemp("trainer")) for _ in range(2)]
    yield made
    for trainer in made:
        trainer.close()


@pytest.fixture(scope="module")
def stalled(store, trainers, tmp_path_factory) -> Callable[[], dict]:
    """A run whose second rank stands still, as on a hanging file system, while others learn."""
    launch = {"timeout_s": 15, "max_restarts": 0}
    options = {"epochs": 4, "world_size": 2, "launch": launch}
    plans = {"stalled": {"options": options, "act": "stall"}}
    trainers[1].start(store, tmp_path_factory.mktemp("stalled"), plans)
    return cache(lambda: trainers[1].ended()[0]["stalled"])


@pytest.fixture
def runs(store, trainers, stalled, tmp_path):
    """Runs training by plans, one after another, in another process."""

    def run(**plans) -> tuple[dict, str]:
        trainers[0].start(store, tmp_path, plans)
        return trainers[0].ended()

    return run


@pytest.mark.slow
def test_two_ranks_learn_what_one_learns(runs) -> None:
    """Twenty steps of one epoch each, no batch statistics in play.

    With small steps: AdamW divides by the gradient's size, so that a rounding error of a weight
    that hardly matters becomes a whole step of it.
    """
    steps = {"epochs": 20, "validate_every_epochs": 20, "learning_rate": 1e-4}
    plans = {"alone": {}, "in_parts": {"gradient_accumulation": 2}, "shared": {"world_size": 2}}
    found, _ = runs(**{
        name: {"frozen": True, "training": [0, 1, 2, 3], "options": {**steps, **options}}
        for name, options in plans.items()
    })  # fmt: skip
    losses = {name: result["history"]["train_loss"] for name, result in found.items()}
    assert losses["shared"] == pytest.approx(losses["alone"], rel=1e-5)
    # The same parts are the same numbers, whoever works on them: weights and scores too.
    assert losses["shared"] == losses["in_parts"]
    assert found["shared"]["last"] == found["in_parts"]["last"]
    score = "validation_rmse_per_chip_mean"
    assert found["shared"]["history"][score][-1] == found["in_parts"]["history"][score][-1]


@pytest.mark.slow
def test_two_ranks_come_to_the_bits_of_one_with_two_parts(runs) -> None:
    """Batch normalization sees the same parts: weights, running statistics and scores agree."""
    options = {"epochs": 3, "drop_last": True}
    found, _ = runs(alone={"options": options}, shared={"options": {**options, "world_size": 2}})
    assert found["shared"] == found["alone"]


@pytest.mark.slow
def test_seven_chips_on_any_number_of_ranks_give_the_same_score(runs) -> None:
    standing_still = {"learning_rate": 1e-30, "weight_decay": 0.0, "epochs": 1}
    found, _ = runs(**{
        f"on_{size}": {"frozen": True, "options": {**standing_still, "world_size": size}}
        for size in (1, 4)
    })  # fmt: skip
    for score in ("validation_rmse_per_chip_mean", "validation_rmse_masked_per_chip_mean"):
        assert found["on_1"]["history"][score] == found["on_4"]["history"][score]


@pytest.mark.slow
def test_resume_after_a_rank_was_killed_ends_with_the_same_bits(runs) -> None:
    options = {"epochs": 4, "world_size": 2, "checkpoint_every_minutes": 1e-9, "ema_decay": 0.9}
    found, log = runs(whole={"options": options}, killed={"options": options, "act": "kill"})
    assert "A rank was lost; all 2 are started again (1)." in log
    assert found["killed"] == found["whole"]


@pytest.mark.slow
def test_a_run_of_two_ranks_is_stopped_and_continued_by_one(runs) -> None:
    options = {"epochs": 4, "gradient_accumulation": 2, "checkpoint_every_minutes": 1e-9}
    two = {**options, "world_size": 2}
    found, _ = runs(
        whole={"frozen": True, "options": options},
        begun={"frozen": True, "options": two, "act": "stop", "start": "spawn"},
        continued={"frozen": True, "options": options, "folder": "begun"},
    )
    assert "Training was interrupted after" in found["begun"]["said"]
    assert found["continued"] == found["whole"]


@pytest.mark.slow
def test_a_rank_that_stands_still_is_named_in_time(stalled) -> None:
    """The launcher kills it after thirty seconds of asking."""
    said = stalled()["said"]
    assert "rank 1 of 2 does not answer, waited for up to 15 s" in said
    assert "run the same command again to continue" in said
    assert stalled()["seconds"] < 300


@pytest.mark.slow
def test_two_machines_learn_what_two_ranks_of_one_learn(
    runs, stalled, store, trainers, tmp_path
) -> None:
    """Two launches that share nothing but folder and address."""
    options = {"epochs": 2, "world_size": 2}
    alone, _ = runs(alone={"options": options})
    meeting = {"nodes": 2, "rendezvous_address": f"127.0.0.1:{free_port()}", "timeout_s": 300}
    plan = {"options": {**options, "launch": meeting}}
    stalled()
    for machine in trainers:
        machine.start(store, tmp_path, {"together": dict(plan)})
    found = [machine.ended()[0]["together"] for machine in trainers]
    assert sorted(found, key=len) == [{"left_to_the_first": True}, alone["alone"]]


def test_more_ranks_than_gpus_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices(TrainingOptions(world_size=2))
    check_devices(TrainingOptions(world_size=4, device="cpu"))
    with pytest.raises(BadInputError, match=r"world_size 4 asks for 4 GPUs .* has 2"):
        check_devices(TrainingOptions(world_size=4))
    with pytest.raises(BadInputError, match="a device each"):
        check_devices(TrainingOptions(world_size=2, device="cuda:1"))


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "192.0.2.1:29511"])
def test_machines_that_do_not_meet_are_given_up_in_time(
    store, new_small_network, small_options, tmp_path, address
) -> None:
    address = address.format(free=free_port())
    options = small_options(
        world_size=2, launch={"nodes": 2, "rendezvous_address": address, "timeout_s": 3}
    )
    split, start = store.split("train"), time.monotonic()
    with pytest.raises(BadInputError, match=r"2 machines did not meet at .* within 3 s"):
        train(new_small_network(), split, range(9), [9], options, tmp_path, fingerprint="x")
    assert time.monotonic() - start < 30
