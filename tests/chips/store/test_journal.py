import pytest

from biomassters.chips.store.journal import Journal, plan_of
from biomassters.chips.store.manifest import ChipRecord
from biomassters.errors import BadInputError

PLAN = plan_of("lz4", {"train": ["a1", "b2"]})


@pytest.fixture
def record(made_chips):
    return ChipRecord.of(made_chips().chip("a1"), "train", 0, "source", 7, {"s1": [1] * 12})


def test_remembers_what_is_done(tmp_path, record):
    with Journal(tmp_path, PLAN) as journal:
        assert journal.valid_record("train", 0, "source") is None
        journal.append(record)
    with Journal(tmp_path, PLAN) as journal:
        assert journal.records == {("train", 0): record}
        assert journal.valid_record("train", 0, "source") == record


def test_a_chip_whose_source_changed_is_not_done(tmp_path, record):
    with Journal(tmp_path, PLAN) as journal:
        journal.append(record)
        assert journal.valid_record("train", 0, "another") is None
        assert journal.records == {}


@pytest.mark.parametrize("kept", [0, 1, 30])
def test_a_torn_last_line_is_dropped(tmp_path, record, kept):
    with Journal(tmp_path, PLAN) as journal:
        journal.append(record)
        size = (tmp_path / "journal.jsonl").stat().st_size
        journal.append(record)
    with (tmp_path / "journal.jsonl").open("rb+") as file:
        file.truncate(size + kept)
    for _ in range(2):  # the second time over what the first appended
        with Journal(tmp_path, PLAN) as journal:
            assert list(journal.records) == [("train", 0)]
            journal.append(record)


@pytest.mark.parametrize(
    "other", [plan_of("none", {"train": ["a1", "b2"]}), plan_of("lz4", {"train": ["b2", "a1"]})]
)
def test_another_plan_starts_afresh(tmp_path, record, other):
    with Journal(tmp_path, PLAN) as journal:
        journal.append(record)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "leftover").touch()
    with Journal(tmp_path, other) as journal:
        assert journal.records == {}
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]


def test_one_writer_at_a_time(tmp_path):
    with Journal(tmp_path, PLAN), pytest.raises(BadInputError, match="Another run is writing"):
        Journal(tmp_path, PLAN)
    with Journal(tmp_path, PLAN):
        pass


def test_a_damaged_line_is_as_if_it_were_not_there(tmp_path, record):
    with Journal(tmp_path, PLAN) as journal:
        journal.append(record)
    path = tmp_path / "journal.jsonl"
    plan, line = path.read_bytes().splitlines()
    path.write_bytes(plan + b"\n" + line.replace(b'"present": "1', b'"present": "0') + b"\n")
    with Journal(tmp_path, PLAN) as journal:
        assert journal.records == {}
