from pathlib import Path

import numpy as np
import pytest

from client.nifti import read_nifti
from client.scan import UnreadableError
from shared.pixels import ImageTable
from tests.pictures import write_nifti

BRAIN = ImageTable(size=4, window=(50, 100))


def ramp() -> np.ndarray:
    """Return a volume (3, 4, 9) whose values grow to the right by 1, to the front by 3 and to the head by 10."""
    x, y, z = np.mgrid[:3, :4, :9]
    return (x + 3 * y + 10 * z).astype(np.float32)


def test_slices_are_evenly_spaced_with_the_front_at_the_top(tmp_path: Path) -> None:
    found = read_nifti(write_nifti(tmp_path / "a.nii.gz", ramp()), BRAIN, 3)
    assert [picture.shape for picture in found.pictures] == [(4, 3)] * 3
    first = found.pictures[0] * 100  # slice 1
    np.testing.assert_allclose(first[-1], [10, 11, 12], atol=1e-4)  # the back, from left to right
    np.testing.assert_allclose(first[0], [19, 20, 21], atol=1e-4)
    assert [round(float(p[-1, 0]) * 100) for p in found.pictures] == [10, 40, 70]


def test_a_volume_that_is_stored_another_way_round_gives_the_same_slices(tmp_path: Path) -> None:
    turned = ramp()[::-1].transpose(2, 0, 1)  # stored by head, left, front
    affine = np.array([[0, -1, 0, 2], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    plain = read_nifti(write_nifti(tmp_path / "a.nii", ramp()), BRAIN, 2)
    other = read_nifti(write_nifti(tmp_path / "b.nii", turned, affine), BRAIN, 2)
    for one, two in zip(plain.pictures, other.pictures, strict=True):
        np.testing.assert_array_equal(one, two)


def test_without_a_window_slices_share_the_volumes_range(tmp_path: Path) -> None:
    found = read_nifti(write_nifti(tmp_path / "a.nii", ramp()), ImageTable(size=4), 9)
    assert found.pictures[0].min() == 0
    assert found.pictures[-1].max() == 1
    assert found.pictures[0].max() < 0.2


def test_a_film_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"shape \(2, 2, 2, 5\); give one volume of three dimensions"):
        read_nifti(write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2, 5), dtype=np.float32)), BRAIN, 1)
