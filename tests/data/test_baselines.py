"""The one-line scores that every model stands beside."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from medvae.data.baselines import BASELINES, lack_of_detail, mean_brightness
from tests.data.drawn import chest


def test_brightness_is_the_mean_gray_value() -> None:
    pixels = np.stack([chest(0), chest(1), np.full((64, 64), 200, np.uint8)])
    assert mean_brightness(pixels) == pytest.approx([image.mean() for image in pixels], abs=1e-3)


def test_a_smoother_image_scores_higher() -> None:
    sharp = chest(1)
    versions = [
        np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(radius)))
        for radius in (0, 1, 2, 4)
    ]
    scores = lack_of_detail(np.stack(versions))
    assert list(scores) == sorted(scores)
    assert len(set(scores)) == 4
    assert float(lack_of_detail(np.full((1, 64, 64), 9, np.uint8))[0]) == 0


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_one_float_an_image_whatever_the_others_are(name: str) -> None:
    pixels = np.stack([chest(i) for i in range(5)])
    scores = BASELINES[name](pixels)
    assert scores.shape == (5,)
    assert scores.dtype == np.float32
    assert BASELINES[name](pixels[3:4])[0] == scores[3]
