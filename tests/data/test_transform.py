"""From any gray image to the network's input: size, stretch, and what holds nothing to look at."""

import numpy as np
import pytest
from PIL import Image

from medvae.data.transform import read_model_input, to_model_input
from medvae.errors import ImageError
from tests.data.drawn import chest, encoded


def off(first: np.ndarray, second: np.ndarray) -> int:
    """Largest difference in gray levels."""
    return int(np.abs(first.astype(int) - second.astype(int)).max())


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("shape", [(64, 64), (300, 200), (17, 900)])
def test_any_shape_comes_out_square_and_stretched_to_the_full_range(
    shape: tuple[int, int], size: int
) -> None:
    image = np.asarray(Image.fromarray(chest(1)).resize(shape[::-1]))
    pixels = to_model_input(image, size)
    assert pixels.shape == (size, size)
    assert pixels.dtype == np.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_finer_detail_than_the_result_can_show_is_averaged_not_picked() -> None:
    ramp = np.tile(np.linspace(64, 191, 512, dtype=np.float32), (512, 1))
    stripes = np.where(np.arange(512) % 3, -30, 60).astype(np.float32)  # 0 on average
    smooth, striped = (to_model_input(image, 32) for image in (ramp, ramp + stripes))
    assert off(smooth, striped) <= 12  # picked columns would be up to 60 off


def test_one_picture_in_8_and_16_bits_and_in_floats_gives_one_result() -> None:
    small = chest(1)
    reference = to_model_input(small, 32)
    for same in (
        small.astype(np.uint16) * 257,
        (small.astype(np.uint16) * 257).astype(">u2"),
        small.astype(np.float32) / 255,
        small.astype(np.float64) * -1e3 * -1,
        small.astype(np.int32) - 1024,
    ):
        assert off(to_model_input(same, 32), reference) <= 1


def test_exposure_does_not_matter_only_contrast_within_the_image() -> None:
    image = chest(1).astype(np.float32)
    assert off(to_model_input(image, 32), to_model_input(image * 0.01 + 3, 32)) <= 1


def test_an_input_of_the_right_size_and_range_is_left_as_it_is() -> None:
    pixels = to_model_input(chest(1), 64)
    assert np.array_equal(to_model_input(pixels, 64), pixels)


def test_the_image_handed_in_is_not_changed() -> None:
    image = chest(1).astype(np.float32)
    before = image.copy()
    to_model_input(image, 32)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_constant_image_is_an_error_that_says_so(value: int, dtype: type) -> None:
    with pytest.raises(ImageError, match=rf"same value \({value}\)"):
        to_model_input(np.full((64, 64), value, dtype), 32)


def test_what_is_constant_but_for_noise_of_the_last_digit_is_an_error_too() -> None:
    image = np.full((64, 64), 4000, np.float32)
    image[3, 3] = np.nextafter(np.float32(4000), np.float32(5000))
    with pytest.raises(ImageError, match="same value"):
        to_model_input(image, 32)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_a_number_is_an_error(bad: float) -> None:
    image = chest(1).astype(np.float32)
    image[5, 5] = bad
    with pytest.raises(ImageError, match="not numbers"):
        to_model_input(image, 32)


@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 64, 64), (64,), (0, 64), (0, 0)])
def test_what_is_no_height_by_width_is_an_error_that_says_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="shape") as caught:
        to_model_input(np.zeros(shape, np.uint8), 32)
    assert str(shape) in str(caught.value)


def test_an_error_names_the_file() -> None:
    with pytest.raises(ImageError, match=r"^blank\.png: "):
        read_model_input(encoded(np.zeros((64, 64), np.uint8)), "blank.png", 32)
