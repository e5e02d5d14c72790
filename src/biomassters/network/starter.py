"""The starter: weights that come with the package, called by name; no torch.

Wherever a weights file is asked for, ``starter`` names them. What they are, and what they are not:
``docs/starter.md``.
"""

from pathlib import Path

STARTER = "starter"
STARTER_FILE = Path(__file__).parents[1] / "starter" / "starter.safetensors"
NO_STARTER = (
    "The starter weights are missing in this installation: install the package again, or give a "
    "weights file of your own with '--params weights=PATH'."
)


def weights_file(name: Path | str) -> Path:
    """The file that a user's ``weights=…`` means.

    Kedro makes a path of the name before anybody sees it, so that its last part decides: weights
    files have a suffix.
    """
    return STARTER_FILE if Path(name).name == STARTER else Path(name)


def calibration_file(weights: Path | str, default: Path | str) -> Path:
    """Where the intervals of weights are: handed on beside them, or where a run calibrated them."""
    beside = weights_file(weights).with_suffix(".uncertainty.json")
    return beside if beside.is_file() else Path(default)
