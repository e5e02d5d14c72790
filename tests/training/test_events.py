import signal
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from biomassters.training.interruption import TrainingInterrupted
from biomassters.training.loop import train


@pytest.fixture
def run(store, new_small_network, tmp_path):
    def begin(options, prepare=lambda network: None):
        network = new_small_network()
        prepare(network)
        train(
            network, store.split("train"), range(9), [9, 10], options, tmp_path / "checkpoints",
            fingerprint="x", event_dir=tmp_path / "events", progress=False,
        )  # fmt: skip

    return begin


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(point.step, point.value) for point in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def stop_at(number: int):
    def prepare(network) -> None:
        calls = iter(range(1, 1000))

        def hook(module, inputs) -> None:
            if next(calls) == number:
                signal.raise_signal(signal.SIGINT)

        network.encoder.register_forward_pre_hook(hook)

    return prepare


def test_curves_of_an_interrupted_run_are_those_of_a_whole_one(
    run, small_options, tmp_path
) -> None:
    options = small_options(epochs=3, checkpoint_every_minutes=1e-9)
    with pytest.raises(TrainingInterrupted):
        run(options, prepare=stop_at(5))
    run(options)
    interrupted = curves(tmp_path / "events")
    assert [step for step, _ in interrupted["step/loss_mg_per_ha"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in interrupted["epoch/held_out_rmse_mg_per_ha"]] == [2, 4, 6]
    assert "speed/gpu_memory_gib" not in interrupted  # there is none
    run(small_options(epochs=3, restart=True))
    whole = curves(tmp_path / "events")
    for name in ("step/loss_mg_per_ha", "epoch/loss_mg_per_ha", "epoch/learning_rate"):
        assert whole[name] == interrupted[name]
