"""The imaging demonstration's patients: real chest radiographs of children, and the same pictures, some of them mirrored.

Data: PneumoniaMNIST (MedMNIST v2, Yang et al. 2023; radiographs of Kermany et al. 2018), CC BY 4.0, as one file that the user
has. A public rule cuts its training images: the even ones are *public*, the backbone was pre-trained on them and hyper-parameters
were chosen on them, the odd ones are the hospitals'. The file does not say whose a radiograph is, so each counts as a patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.images import Source
from client.records import ColumnMap, Row
from client.scan import Scan
from shared.card import TaskCard
from shared.errors import InputError
from simulations.partition import Scheme, deal
from simulations.study import SPLIT, Study, check_pins

WHERE = "file:pneumoniamnist.npz"  # in a card's [files]
SKEW = Scheme("dirichlet", 2.0)  # how labels differ between the made-up hospitals
MIRRORED = "mirrored"  # a label of this name asks for the second task

Pictures = NDArray[np.uint8]  # (N, H, W)


@dataclass(frozen=True)
class Shots:
    """Pictures (N, H, W) of 8 bits and the name of each one's label."""

    pictures: Pictures
    labels: Sequence[str]


def chest_study(path: Path, card: TaskCard) -> Study:
    """Return the hospitals' radiographs, with the finding that the card asks for.

    Raises:
        InputError: the file is not there, not the pinned one, or not of MedMNIST's form.
    """
    arrays = read_arrays(path, card.files)
    parts = {"train": private_half(arrays), "test": part_of(arrays, "test")}
    if any(label.name == MIRRORED for label in card.labels):
        parts = {name: mirrored(shots, seed) for seed, (name, shots) in enumerate(parts.items(), start=1)}
    pictures = np.concatenate([shots.pictures for shots in parts.values()])
    rows: list[Row] = []
    for name, shots in parts.items():
        rows += [{"image": len(rows) + n, "finding": label, SPLIT: name} for n, label in enumerate(shots.labels)]
    columns = ColumnMap("finding", {label.name: label.name for label in card.labels}, {}, split=SPLIT)

    def read(row: Row) -> Scan:
        return Scan((pictures[row["image"]].astype(np.float32) / np.float32(255),))

    source = Source(str(path), "image", read)
    return Study(rows, columns, _hospitals(rows, card), str(path), lambda _: source)


def read_arrays(path: Path, pins: Mapping[str, str]) -> Mapping[str, NDArray[np.uint8]]:
    """Return the arrays of the .npz file that a card pins; raise `InputError` where it is another."""
    try:
        check_pins(pins, WHERE, path.read_bytes())
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as .npz ({error}); name the pneumoniamnist.npz that the card pins.") from None


def public_half(arrays: Mapping[str, NDArray[np.uint8]]) -> Shots:
    """Return the even training images."""
    return _every_second(part_of(arrays, "train"), 0)


def private_half(arrays: Mapping[str, NDArray[np.uint8]]) -> Shots:
    """Return the odd training images, which the made-up hospitals hold."""
    return _every_second(part_of(arrays, "train"), 1)


def mirrored(shots: Shots, seed: int) -> Shots:
    """Mirror every second picture on average, and label by that alone: a side marker that was set wrong.

    Which ones is drawn from the public `seed`; the labels that the pictures came with are forgotten.
    """
    turned = np.random.default_rng(seed).random(len(shots.labels)) < 0.5
    pictures = np.where(turned[:, None, None], shots.pictures[:, :, ::-1], shots.pictures)
    return Shots(pictures, [MIRRORED if t else "upright" for t in turned])


def part_of(arrays: Mapping[str, NDArray[np.uint8]], part: str) -> Shots:
    """Return one part of the file as it is: `train`, `val` or `test`."""
    names = ("normal", "pneumonia")
    return Shots(arrays[f"{part}_images"], [names[int(label)] for label in arrays[f"{part}_labels"].ravel()])


def _every_second(shots: Shots, first: int) -> Shots:
    return Shots(shots.pictures[first::2], shots.labels[first::2])


def _hospitals(rows: Sequence[Row], card: TaskCard) -> list[str]:
    """Return the hospital of each row: labels are dealt out unevenly by a public seed."""
    names, sites = [label.name for label in card.labels], card.plan.sites
    where = deal(SKEW, [names.index(row["finding"]) for row in rows], [row[SPLIT] == "train" for row in rows], len(sites), 0)
    return [sites[number] for number in where]
