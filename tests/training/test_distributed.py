"""Several real processes train one network."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.training.checks import check_devices
from biomassters.training.loop import train
from biomassters.training.options import TrainingOptions

SCRIPT = """
import itertools, json, os, signal, sys, time
from pathlib import Path
import torch
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store_reader import ChipStore
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.training.checkpoint import content_crc
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
        "last": content_crc(result.last_state), "best": content_crc(result.best_state),
        "history": result.history.to_dict("list"),
    }

def ask_to_stop():
    # As a terminal's Ctrl-C: to the one that started the ranks, which passes it on.
    os.kill(os.getppid(), signal.SIGTERM)
    noted = signal.getsignal(signal.SIGTERM).__self__
    while not noted.requested:
        time.sleep(0.01)

ACTS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stall": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "stop": ask_to_stop,
}

def in_the_middle_of_a_step(number, act):
    # Between backward pass and optimizer, on the second rank, when it is started for the first
    # time. Ranks import this file too; which of them this is they know when they compute.
    clip, calls = torch.nn.utils.clip_grad_norm_, itertools.count(1)
    def acting(*given, **named):
        if os.environ.get("RANK") == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            if next(calls) == number:
                act()
        return clip(*given, **named)
    torch.nn.utils.clip_grad_norm_ = acting

if os.environ.get("ACT"):
    in_the_middle_of_a_step(3, ACTS[os.environ["ACT"]])

if __name__ == "__main__":
    torch.set_num_threads(1)
    store, folder = ChipStore(sys.argv[1]), sys.argv[2]
    out = {}
    for name, plan in json.loads(sys.argv[3]).items():
        kind = NoStatistics if plan.pop("frozen", False) else AgbNet
        place = plan.pop("folder", name)
        os.environ["ACT"] = plan.pop("act", "")  # for the ranks
        start = time.monotonic()
        try:
            out[name] = run(store, folder, place, plan["options"],
                            plan["training"], plan["validation"], kind)
        except (TrainingInterrupted, BadInputError) as end:
            out[name] = {"said": str(end), "seconds": time.monotonic() - start}
        except SystemExit:
            out[name] = {"left_to_the_first": True}
    print(json.dumps(out))
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


def started(store, folder: Path, plans: dict) -> subprocess.Popen:
    """A process that trains by plans, one after another, and prints what they came to."""
    for plan in plans.values():
        plan["options"] = {**BASE, **plan["options"]}
        plan.setdefault("training", list(range(5)))
        plan.setdefault("validation", HELD_OUT)
    script = folder / "ranks.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(store.path), str(folder), json.dumps(plans)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def ended(process: subprocess.Popen) -> tuple[dict, str]:
    """What it printed, and its log."""
    try:
        printed, log = process.communicate(timeout=1200)
    finally:
        process.kill()
    assert process.returncode == 0, log
    return json.loads(printed.splitlines()[-1]), log


@pytest.fixture
def runs(store, tmp_path):
    """Runs training by plans, one after another, in a process of its own."""
    return lambda **plans: ended(started(store, tmp_path, plans))


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
        begun={"frozen": True, "options": two, "act": "stop"},
        continued={"frozen": True, "options": options, "folder": "begun"},
    )
    assert "Training was interrupted after" in found["begun"]["said"]
    assert found["continued"] == found["whole"]


@pytest.mark.slow
def test_a_rank_that_stands_still_is_named_in_time(runs) -> None:
    """Frozen as by a hanging file system; a launcher kills it after thirty seconds of asking."""
    launch = {"timeout_s": 15, "max_restarts": 0}
    options = {"epochs": 4, "world_size": 2, "launch": launch}
    found, _ = runs(stalled={"options": options, "act": "stall"})
    said = found["stalled"]["said"]
    assert "rank 1 of 2 does not answer, waited for up to 15 s" in said
    assert "run the same command again to continue" in said
    assert found["stalled"]["seconds"] < 300


@pytest.mark.slow
def test_two_machines_learn_what_two_ranks_of_one_learn(runs, store, tmp_path) -> None:
    """Two launches that share nothing but folder and address."""
    options = {"epochs": 2, "world_size": 2}
    alone, _ = runs(alone={"options": options})
    meeting = {"nodes": 2, "rendezvous_address": f"127.0.0.1:{free_port()}", "timeout_s": 300}
    plan = {"options": {**options, "launch": meeting}}
    machines = [started(store, tmp_path, {"together": dict(plan)}) for _ in range(2)]
    found = [ended(machine)[0]["together"] for machine in machines]
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
