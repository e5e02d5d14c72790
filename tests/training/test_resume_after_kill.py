"""A run killed outright, again and again, ends as one that was left alone."""

import json
import sys

import pytest

from biomassters.training.options import TrainingOptions

# It forks each run before it computes anything itself.
SCRIPT = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.network.options import NetworkOptions
from biomassters.training.checkpoint import CheckpointFolder, content_crc
from biomassters.training.train import train
from biomassters.training.train import new_network
from biomassters.training.options import TrainingOptions

store, folder, options = sys.argv[1:4]
KILLS, STEPS = map(int, sys.argv[4:])

def run(name):
    torch.set_num_threads(1)
    opened = ChipStore(store)
    shape = NetworkOptions(backbone="mobilenetv3_small_050", decoder_channels=(16, 16, 8, 8, 8))
    start = time.monotonic()
    result = train(
        new_network(shape, BandScaling.reference(), 1), opened.split("train"), range(9),
        [9, 10, 11], TrainingOptions.model_validate_json(options), Path(folder) / name,
        fingerprint=opened.fingerprint,
    )
    outcome = {
        "last": content_crc(result.last_state), "best": content_crc(result.best_state),
        "history": result.history.to_json(double_precision=15),
    }
    (Path(folder) / (name + ".json")).write_text(json.dumps(outcome))
    (Path(folder) / "seconds").write_text(str(time.monotonic() - start))

def tell_first_save(pipe):
    # And stand still before the third: whatever the machine's speed, the killer comes in time.
    save, saved = CheckpointFolder.save, []
    def told(self, *given):
        if len(saved) == 2:
            signal.pause()
        saved.append(save(self, *given))
        if len(saved) == 1:
            os.write(pipe, b"1")
    CheckpointFolder.save = told

def start(name, pipe=None):
    child = os.fork()
    if child:
        return child
    os.setsid()
    status = 1
    try:
        if pipe is not None:
            tell_first_save(pipe)
        run(name)
        status = 0
    finally:
        os._exit(status)

def newest():
    return max(file.name for file in (Path(folder) / "killed").glob("checkpoint_*.pt"))

def kill_at(moment):
    ears, mouth = os.pipe()
    child = start("killed", mouth)
    os.close(mouth)
    told = os.read(ears, 1)  # nothing if the child failed
    os.close(ears)
    time.sleep(moment)
    os.killpg(child, signal.SIGKILL)
    assert told and os.WIFSIGNALED(os.waitpid(child, 0)[1])
    return newest()

assert os.waitpid(start("whole"), 0)[1] == 0
step_s = float((Path(folder) / "seconds").read_text()) / STEPS
moments = random.Random(4)
reached = [kill_at(moments.uniform(0, 2 * step_s)) for _ in range(KILLS)]
assert os.waitpid(start("killed"), 0)[1] == 0
outcome = {name: json.loads((Path(folder) / (name + ".json")).read_text())
           for name in ("whole", "killed")}
print(json.dumps({"reached": reached, **outcome}))
"""
KILLS = 10
EPOCHS = KILLS + 1
STEPS = 2 * EPOCHS  # at most two for each kill, and some are left


@pytest.mark.slow
def test_resumed_after_kills_a_run_ends_with_the_same_bits(forks, store, tmp_path, capsys) -> None:
    options = TrainingOptions(
        epochs=EPOCHS,
        batch_size=4,
        crop=32,
        device="cpu",
        ema_decay=0.9,
        checkpoint_every_minutes=1e-9,  # after every step
    )
    done = forks.run(SCRIPT, store.path, tmp_path, options.model_dump_json(), KILLS, STEPS)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        hashes = {name: f"{outcome[name]['last']:08x}" for name in ("whole", "killed")}
        sys.stdout.write(f"\n{len(outcome['reached'])} kills, weights {hashes}\n")
    assert len(set(outcome["reached"])) == KILLS  # each came further than the one before
    assert outcome["killed"] == outcome["whole"]
