"""The pages on runs and on sweeps, command by command, by the real command line in small."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

PAGES = Path(__file__).parents[2] / "docs/how_to"
SMALL = {
    "training.epochs=4": "training.epochs=3",
    "sweep.trials=12": "sweep.trials=3",
    " simulated ": " test ",
}


def commands(page: str) -> list[list[str]]:
    """A page's commands, as arguments of Kedro's in the environment test."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", (PAGES / page).read_text(), re.DOTALL):
        for line in block.splitlines():
            for written, small in SMALL.items():
                line = line.replace(written, small)
            words = shlex.split(
                line.replace("/simulated/", "/test/").replace(" simulated ", " test ")
            )
            given = words[words.index("kedro") + 1 :]
            found.append([*given, "--env", "test"] if given[0] == "run" else given)
    return found


@pytest.fixture(scope="module")
def done(project, kedro, default_run, optional):
    """What every command of both pages printed, in their order."""
    optional("optuna")

    def do(arguments):
        if arguments == ["run", "--env", "test"]:
            default_run.copy_to(project)
            return default_run.result
        result = kedro(*arguments)
        assert "Traceback" not in result.stderr
        return result

    results = {page: [do(one) for one in commands(page)] for page in ("runs.md", "sweep.md")}
    (others,) = re.findall(r"`'(sweep\.parameters=.+)'`", (PAGES / "sweep.md").read_text())
    named = f"run=losses,sweep.trials=3,{others}"
    results["sweep.md"].append(
        do(["run", "--env", "test", "--pipelines", "sweep", "--params", named])
    )
    return results


def test_every_command_ends_well(done):
    """But the check, which finds that the epochs were given on the command line."""
    for results in done.values():
        for result in results:
            assert result.returncode == ("--check" in result.args), (result.args, result.stderr)


def test_runs_lie_beside_each_other_and_share_their_chips(done, project):
    data = project / "data"
    for folder in ("06_models", "07_model_output", "08_reporting"):
        assert {"test", "few_epochs", "few_epochs_again"} <= {
            path.name for path in (data / folder).iterdir()
        }
    for folder in ("02_intermediate", "03_primary", "05_model_input"):
        assert [path.name for path in (data / folder).iterdir()] == ["test"]
    histories = [
        len(pd.read_parquet(data / "06_models" / run / "training_history.parquet"))
        for run in ("test", "few_epochs")
    ]
    assert histories == [2, 3]


def test_compare_lists_all_or_the_named_ones(done, project):
    all_runs, named = done["runs.md"][2:4]
    for result in (all_runs, named):
        assert "Parameters that differ:" in result.stdout
        assert re.search(r"^training\.epochs +\d +\d$", result.stdout, re.MULTILINE)
    assert re.search(r"^few_epochs +\d+\.\d\d +[+-]\d", named.stdout, re.MULTILINE)
    assert "data/08_reporting/comparison.png" in named.stdout
    assert (project / "data/08_reporting/comparison.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_is_reproduced_bit_for_bit(done):
    check, again = done["runs.md"][4:6]
    assert check.stdout == "parameter training.epochs: was 3, is 2\n"
    assert again.stdout.startswith(check.stdout)
    assert "fit_weights: the same bits" in again.stdout
    assert re.search(r"^few_epochs_again +\d+\.\d\d +\+0\.00 ± 0\.00", again.stdout, re.MULTILINE)


def test_a_sweep_leaves_a_page_a_table_and_a_command(done, project):
    place = project / "data/08_reporting/test/sweep"
    table = pd.read_csv(place / "trials.csv")
    assert len(table) == 3
    best = json.loads((place / "best.json").read_text())
    assert best["command"].startswith("kedro run --params run=best,training.")
    assert "Sweep of 3 trials" in (place / "page.html").read_text()
    other = pd.read_csv(project / "data/08_reporting/losses/sweep/trials.csv")
    assert set(other["training.loss"]) <= {"masked_rmse", "masked_huber"}


def test_what_has_changed_is_named_with_its_status(done, kedro, project):
    path = project / "data/08_reporting/few_epochs/run.json"
    record = json.loads(path.read_text())
    now = record["runs"][-1]["machine"]["packages"]["numpy"]
    record["runs"][-1]["machine"]["packages"]["numpy"] = "1.0"
    path.write_text(json.dumps(record))
    result = kedro("reproduce", "--check", str(path))
    assert result.returncode == 1
    assert result.stdout == (
        f"package numpy: was 1.0, is {now}\nparameter training.epochs: was 3, is 2\n"
    )


def test_commands_before_the_last_one_are_said_to_be_unknown(done, kedro, project):
    """The sweep's came after the run's, in the same folder."""
    result = kedro("reproduce", "--check", str(project / "data/08_reporting/test/run.json"))
    assert result.returncode == 1
    last_line = result.stdout.splitlines()[-1]
    assert last_line.startswith("parameters of nodes run at 20")
    assert last_line.endswith("which holds the last run's; they are taken for the same")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("compare", "few_epoch"), "There is no run 'few_epoch'; did you mean 'few_epochs"),
        (("reproduce", "none.json"), "none.json can't be read (No such file or directory)"),
        (("run", "--env", "test", "--params", "run=a b"), "run=a b: a run is named by"),
        (("run", "--env", "test", "--params", "run=biomassters"), "environment biomassters"),
        (
            ("run", "--env", "test", "--pipelines", "sweep", "--params",
             "sweep.parameters=[{name: training.lr, low: 1, high: 2}]"),
            "'training.lr', which is no parameter of training or network",
        ),
        (
            ("run", "--env", "test", "--pipelines", "sweep", "--params",
             "sweep.parameters=[{name: training.learning_rate, low: 1, high: 1}]"),
            "the range of training.learning_rate, 1 to 1, is empty",
        ),
    ],
)  # fmt: skip
def test_a_wrong_name_gets_one_sentence(done, kedro, arguments, sentence):
    result = kedro(*arguments)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert sentence in line
