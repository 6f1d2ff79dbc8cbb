import numpy as np
import pytest

from shared.errors import InputError
from shared.pixels import ImageTable, own_range, spread
from shared.toml import parse

GREY = ImageTable(size=4, mean=(0.5,), std=(0.25,))
COLOUR = ImageTable(size=4, channels=3, mean=(0, 0, 0), std=(1, 1, 2))


def test_a_picture_of_the_right_size_is_only_normalised() -> None:
    picture = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_array_equal(GREY.prepare(picture), ((picture - 0.5) / 0.25)[None])


def test_grey_becomes_three_channels_and_colour_becomes_grey() -> None:
    picture = np.full((4, 4), 0.5, dtype=np.float32)
    assert COLOUR.prepare(picture)[:, 0, 0].tolist() == [0.5, 0.5, 0.25]
    green = np.zeros((4, 4, 3), dtype=np.float32)
    green[..., 1] = 1
    np.testing.assert_allclose(GREY.prepare(green), (0.587 - 0.5) / 0.25, rtol=1e-5)


def test_the_longer_side_is_cut_or_squeezed() -> None:
    picture = np.zeros((4, 12), dtype=np.float32)
    picture[:, 4:8] = 1  # the middle
    crop, stretch = (ImageTable(size=4, mean=(0,), std=(1,), fit=fit).prepare(picture) for fit in ("crop", "stretch"))
    assert (crop == 1).all()
    assert stretch.mean() == pytest.approx(1 / 3, abs=0.01)
    assert stretch[0, 0, 0] < 0.2


def test_making_smaller_takes_means_and_keeps_the_mean() -> None:
    picture = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    small = ImageTable(size=4, mean=(0,), std=(1,)).prepare(picture)
    assert small.mean() == pytest.approx(picture.mean(), abs=0.01)
    assert small.std() < 0.1  # single pixels would have .29


def test_flat_values_have_no_range() -> None:
    assert own_range(np.full((2, 2), 7, dtype=np.float32)).tolist() == [[0, 0], [0, 0]]


def test_the_slices_that_are_read_are_in_order_and_never_at_one_end_only() -> None:
    for available in range(1, 40):
        for wanted in range(1, 12):
            picked = spread(available, wanted)
            assert len(picked) == min(available, wanted) == len(set(picked))
            assert picked == sorted(picked)
            assert abs((picked[0] + picked[-1]) / 2 - (available - 1) / 2) <= 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size = 4\nchannels = 3", "mean has 1 numbers for 3 channels"),
        ("size = 4\nstd = [0.0]", "key 'std.0': Input should be greater than 0"),
        ("size = 4\nwindow = [40, 0]", "key 'window.1'"),
        ("size = 4\nsizee = 3", "did you mean 'size'"),
    ],
)
def test_a_wrong_table_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(ImageTable, text, "card.toml")
    assert said in str(caught.value)
