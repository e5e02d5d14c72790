"""Make the packaged starter of trained weights, and hand on the intervals that belong to it.

python .ci/starter.py weights data/06_models/starter/weights.safetensors
python .ci/starter.py intervals data/06_models/starter/uncertainty.json
"""

import json
import shutil
import sys
from pathlib import Path

from biomassters.network.starter import STARTER_FILE
from biomassters.network.weights import load_network, read_description, save_network

MOST_BYTES = 4_000_000


def package_weights(file: Path) -> str:
    """Kernels rounded to float16, and what a description needs not; what was made, in words."""
    save_network(load_network(file), STARTER_FILE, read_description(file), half=True)
    size = STARTER_FILE.stat().st_size
    if size > MOST_BYTES:
        STARTER_FILE.unlink()
        sys.exit(f"{size:,} bytes are more than {MOST_BYTES:,}: train a smaller network.")
    # Intervals of earlier weights are none of these.
    STARTER_FILE.with_suffix(".uncertainty.json").unlink(missing_ok=True)
    return f"{STARTER_FILE}: {size:,} bytes"


def package_intervals(file: Path) -> str:
    """A calibration of just the packaged weights; where it was put, in words."""
    found = json.loads(file.read_text())
    if found["weights_fingerprint"] != read_description(STARTER_FILE)["fingerprint"]:
        sys.exit(
            f"{file} was calibrated for other weights: run '--env starter --pipelines "
            "inference,uncertainty --params weights=starter' first."
        )
    return str(shutil.copyfile(file, STARTER_FILE.with_suffix(".uncertainty.json")))


if __name__ == "__main__":
    verbs = {"weights": package_weights, "intervals": package_intervals}
    if len(sys.argv) != 3 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    print(verbs[sys.argv[1]](Path(sys.argv[2])))
