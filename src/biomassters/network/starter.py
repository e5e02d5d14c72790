"""The starter: weights that come with the package, called by name; no torch.

Wherever a weights file is asked for, ``starter`` names them. What they are, and what they are not:
``docs/starter.md``.
"""

import json
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


def calibration_file(weights: Path | str, of_run: Path | str) -> Path:
    """Where the intervals of weights are: where a run calibrated them, or handed on beside them.

    Args:
        weights: Their file, or ``starter``.
        of_run: What the pipeline ``uncertainty`` wrote, which may be missing. It comes first, but
            where it was made for other weights than the file that was handed on.
    """
    beside = weights_file(weights).with_suffix(".uncertainty.json")
    if not beside.is_file():
        return Path(of_run)
    try:
        same = _made_for(Path(of_run)) == _made_for(beside)
    except FileNotFoundError:
        return beside
    except ValueError:  # damaged, which its reader says
        return Path(of_run)
    return Path(of_run) if same else beside


def _made_for(calibration: Path) -> str | None:
    models = json.loads(calibration.read_text("utf-8"))
    return models.get("weights_fingerprint") if isinstance(models, dict) else None
