"""Several real processes train one network."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.training.checks import check_devices
from biomassters.training.loop import train
from biomassters.training.options import TrainingOptions

SCRIPT = """
import json, multiprocessing, os, signal, sys, threading, time
from pathlib import Path
import torch
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store_reader import ChipStore
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.training.checkpoint import weights_crc
from biomassters.training.interruption import TrainingInterrupted
from biomassters.training.loop import train
from biomassters.training.options import TrainingOptions
from biomassters.training.step import seed_torch

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
        progress=False,
    )
    return {
        "last": weights_crc(result.last_state), "best": weights_crc(result.best_state),
        "history": result.history.to_dict("list"),
    }

def children():
    return [child.pid for child in multiprocessing.active_children()]

def at_first_checkpoint(folder, name, act):
    def wait_and_act():
        while not list((Path(folder) / name).glob("checkpoint_*.pt")):
            time.sleep(0.01)
        act()
    threading.Thread(target=wait_and_act, daemon=True).start()

ACTS = {
    "kill": lambda: os.kill(max(children()), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGTERM),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    store, folder = ChipStore(sys.argv[1]), sys.argv[2]
    out = {}
    for name, plan in json.loads(sys.argv[3]).items():
        kind = NoStatistics if plan.pop("frozen", False) else AgbNet
        place, act = plan.pop("folder", name), plan.pop("act", "")
        if act:
            at_first_checkpoint(folder, place, ACTS[act])
        try:
            out[name] = run(store, folder, place, plan["options"],
                            plan["training"], plan["validation"], kind)
        except TrainingInterrupted as interruption:
            out[name] = str(interruption)
    print(json.dumps(out))
"""
HELD_OUT = [5, 6, 7, 8, 9, 10, 11]  # seven
BASE = {
    "batch_size": 4, "crop": 32, "device": "cpu", "loader_threads": 1, "drop_last": False,
    "learning_rate": 1e-3, "validation_batch_size": 1,
}  # fmt: skip


@pytest.fixture
def runs(store, tmp_path):
    """Runs training by plans, one after another, in a process of its own."""

    def run(**plans):
        script = tmp_path / "ranks.py"
        script.write_text(SCRIPT)
        for plan in plans.values():
            plan["options"] = {**BASE, **plan["options"]}
            plan.setdefault("training", list(range(5)))
            plan.setdefault("validation", HELD_OUT)
        command = [sys.executable, str(script), str(store.path), str(tmp_path), json.dumps(plans)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=550)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

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
        begun={"frozen": True, "options": two, "act": "stop"},
        continued={"frozen": True, "options": options, "folder": "begun"},
    )
    assert "Training was interrupted after" in found["begun"]
    assert found["continued"] == found["whole"]


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
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        free = unused.getsockname()[1]
    options = small_options(
        world_size=2,
        launch={"nodes": 2, "rendezvous_address": address.format(free=free), "timeout_s": 3},
    )
    split, start = store.split("train"), time.monotonic()
    with pytest.raises(BadInputError, match=r"2 machines did not meet at .* within 3 s"):
        train(new_small_network(), split, range(9), [9], options, tmp_path, fingerprint="x")
    assert time.monotonic() - start < 30
