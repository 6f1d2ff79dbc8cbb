import json
from pathlib import Path

import pandas as pd
import pytest

from client.records import Cohort, ColumnMap, cohort, read_rows
from client.site import load_site
from shared.card import Task
from shared.errors import InputError

ROWS = [
    {"who": "p1", "years": "30", "pulse": "70", "dx": "neg", "part": "train"},
    {"who": "p2", "years": "70", "pulse": "", "dx": "pos", "part": "train"},
    {"who": "p1", "years": "31", "pulse": "95", "dx": "neg", "part": "train"},
    {"who": "p1", "years": "32", "pulse": "95", "dx": "neg", "part": "train"},
    {"who": "p3", "years": "50", "pulse": "80", "dx": "pos", "part": "test"},
]
HOW = ColumnMap("dx", {"neg": "well", "pos": "sick"}, {"age": "years"}, patient="who", split="part")


def read(task: Task, rows: list[dict[str, str]], how: ColumnMap = HOW) -> Cohort:
    return cohort(rows, how, task.card.record_text, ["well", "sick"], 2, "rows.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_every_kind_of_table_reads_the_same(task: Task, tmp_path: Path, kind: str) -> None:
    path, frame = tmp_path / f"rows.{kind}", pd.DataFrame(ROWS)
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    found = cohort(read_rows(path), HOW, task.card.record_text, ["well", "sick"], 2, str(path))
    assert found == read(task, ROWS)


def test_records_are_grouped_by_patient_and_bounded(task: Task) -> None:
    found = read(task, ROWS)
    assert found.size == 2
    assert found.patients == (0, 1, 0)  # the third record of p1 is beyond k_max = 2
    assert found.texts == ("age low pulse slow", "age high pulse missing", "age low pulse fast")
    assert found.labels == (0, 1, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dx": "maybe"}, "rows.csv: row 2: label 'maybe' is not mapped; [data.labels] knows neg, pos."),
        ({"dx": ""}, "rows.csv: row 2: label column 'dx' is empty; fill it or drop the row."),
        ({"dx": None}, "rows.csv: row 2: label column 'dx' is empty"),
        ({"years": "old"}, "rows.csv: row 2: field 'age': value 'old' is not a number; mend the cell or extend the card."),
        ({"years": "inf"}, "value 'inf' is not a finite number"),
        ({"who": " "}, "rows.csv: row 2: column 'who' names no patient; every record needs one."),
        ({"part": "dev"}, "rows.csv: row 2: column 'part' says 'dev'; write train or test."),
    ],
)
def test_a_bad_cell_names_file_row_and_mend(task: Task, change: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(task, [ROWS[0], ROWS[1] | change])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            ColumnMap("dx", {"neg": "well", "pos": "sick"}, {}),
            "column 'age' is missing; the table has dx, part, pulse, who, years.",
        ),
        (ColumnMap("label", {}, {"age": "years"}), "column 'label' is missing"),
        (ColumnMap("dx", {"neg": "fine", "pos": "sick"}, {"age": "years"}), "maps to 'fine', which is no label of the task card"),
        (
            ColumnMap("dx", {"neg": "well", "pos": "sick"}, {"age": "years", "sex": "x"}),
            "maps 'sex', which the task card does not use",
        ),
    ],
)
def test_a_bad_mapping_names_the_column(task: Task, how: ColumnMap, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(task, ROWS, how)
    assert said in str(caught.value)


def test_broken_files_get_one_sentence(task: Task, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no rows"):
        read(task, [])
    with pytest.raises(InputError, match=r"no such file; check \[data\] path"):
        read_rows(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"files ending in '.xlsx' are not read; use .csv, .parquet, .jsonl"):
        read_rows(tmp_path / "rows.xlsx")
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": ')
    with pytest.raises(InputError, match="line 2 is not JSON"):
        read_rows(tmp_path / "rows.jsonl")
    (tmp_path / "rows.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        read_rows(tmp_path / "rows.parquet")


SITE = """
schema = 1
site = "North"
[data]
path = "rows.csv"
label = "dx"
labels = { neg = "well", pos = "sick" }
[ledger]
path = "ledger.jsonl"
[policy]
epsilon = 3.0
delta = 1e-4
tasks = ["0000000000000000000000000000000000000000000000000000000000000000"]
"""


def test_a_site_files_paths_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    site = load_site(path)
    assert site.data.path == tmp_path / "rows.csv"
    assert site.ledger.path == tmp_path / "ledger.jsonl"
    path.write_text(SITE.replace("epsilon", "epsilom"))
    with pytest.raises(InputError, match=r"key 'policy.epsilom' is not known here; did you mean 'epsilon'\?"):
        load_site(path)
