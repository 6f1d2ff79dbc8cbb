from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_windowing

from client.dicom import read_dicom
from client.scan import ScanPolicy, UnreadableError
from shared.pixels import ImageTable
from tests.pictures import group, write_dicom

HEAD = ImageTable(size=4, window=(40, 80))  # 0 to 80 Hounsfield units
PLAIN = ImageTable(size=4)
OPEN = ScanPolicy()
STORED = np.array([[1000, 1040], [1080, 3000]], dtype=np.uint16)


def test_values_are_rescaled_before_the_cards_window(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, RescaleSlope=2, RescaleIntercept=-2040)
    [picture] = read_dicom(path, HEAD, 1, OPEN).pictures  # -40, 40, 120, 3960 Hounsfield units
    assert picture.tolist() == [[0.0, 0.5], [1.0, 1.0]]
    assert picture.dtype == np.float32


def test_monochrome1_is_turned_round(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, RescaleSlope=2, RescaleIntercept=-2040, PhotometricInterpretation="MONOCHROME1")
    [picture] = read_dicom(path, HEAD, 1, OPEN).pictures
    assert picture.tolist() == [[1.0, 0.5], [0.0, 0.0]]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_files_own_window_is_pydicoms(function: str, tmp_path: Path) -> None:
    stored = np.arange(64, dtype=np.int16).reshape(8, 8) * 40 - 1000
    tags: dict[str, Any] = {"WindowCenter": [50, 400], "WindowWidth": [350, 2000], "VOILUTFunction": function}
    path = write_dicom(tmp_path / "a.dcm", stored, RescaleSlope=1.5, RescaleIntercept=-100, **tags)
    file = dcmread(path)
    other = apply_windowing(apply_modality_lut(file.pixel_array, file), file)  # on the scale of what the file could store
    low, high = -(2**15) * 1.5 - 100, (2**15 - 1) * 1.5 - 100
    [picture] = read_dicom(path, PLAIN, 1, OPEN).pictures
    np.testing.assert_allclose(picture, (other - low) / (high - low), atol=1e-4)
    assert 0.1 < picture.mean() < 0.9


def test_without_any_window_the_files_own_range_is_used(tmp_path: Path) -> None:
    [picture] = read_dicom(write_dicom(tmp_path / "a.dcm", STORED), PLAIN, 1, OPEN).pictures
    assert picture[0, 0] == 0
    assert picture[1, 1] == 1
    assert picture[0, 1] == pytest.approx(40 / 2000)


def test_colour_stays_colour(tmp_path: Path) -> None:
    red = np.zeros((2, 2, 3), dtype=np.uint8)
    red[..., 0] = 255
    [picture] = read_dicom(write_dicom(tmp_path / "a.dcm", red, SamplesPerPixel=3), PLAIN, 1, OPEN).pictures
    assert picture[0, 0].tolist() == [1, 0, 0]


def test_frames_of_one_file_are_evenly_spaced(tmp_path: Path) -> None:
    frames = np.stack([np.full((2, 2), 1000 + 10 * n, dtype=np.uint16) for n in range(9)])
    path = write_dicom(tmp_path / "a.dcm", frames, RescaleSlope=1, RescaleIntercept=-1000)
    found = read_dicom(path, HEAD, 3, OPEN)
    assert [float(picture[0, 0]) for picture in found.pictures] == [10 / 80, 40 / 80, 70 / 80]
    assert found.patient == "P1"


def test_an_enhanced_file_has_a_scale_for_each_frame(tmp_path: Path) -> None:
    frames = np.full((2, 2, 2), 10, dtype=np.uint16)
    scales = [group(PixelValueTransformationSequence=[group(RescaleSlope=slope, RescaleIntercept=0)]) for slope in (1, 4)]
    view = group(FrameVOILUTSequence=[group(WindowCenter=40, WindowWidth=80, VOILUTFunction="LINEAR_EXACT")])
    path = write_dicom(tmp_path / "a.dcm", frames, PerFrameFunctionalGroupsSequence=scales, SharedFunctionalGroupsSequence=[view])
    assert [float(p[0, 0]) for p in read_dicom(path, PLAIN, 2, OPEN).pictures] == [10 / 80, 40 / 80]


def test_a_table_of_values_in_the_file_is_applied(tmp_path: Path) -> None:
    table = group(LUTDescriptor=[4, 0, 8], LUTData=np.array([0, 255, 51, 102], dtype=np.uint16).tobytes())
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 1], [2, 3]], dtype=np.uint16), VOILUTSequence=[table])
    [picture] = read_dicom(path, PLAIN, 1, OPEN).pictures
    np.testing.assert_allclose(picture, [[0, 1], [0.2, 0.4]], atol=1e-6)


def test_text_in_the_picture_is_refused_unless_the_hospital_allows_it(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, BurnedInAnnotation="YES")
    with pytest.raises(UnreadableError, match=r"BurnedInAnnotation \(0028,0301\) says YES"):
        read_dicom(path, PLAIN, 1, OPEN)
    assert read_dicom(path, PLAIN, 1, ScanPolicy(allow_burned_in=True)).pictures


@pytest.mark.parametrize("patient", [None, "", "  "])
def test_a_file_without_a_patient_is_refused_where_one_is_needed(patient: str | None, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, patient)
    with pytest.raises(UnreadableError, match=r"PatientID \(0010,0020\) is missing or empty"):
        read_dicom(path, PLAIN, 1, ScanPolicy(need_patient=True))
    assert read_dicom(path, PLAIN, 1, OPEN).patient is None


def test_colour_by_palette_is_said_to_be_unread(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(UnreadableError, match="'PALETTE COLOR', which is not read"):
        read_dicom(path, PLAIN, 1, OPEN)
