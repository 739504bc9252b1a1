"""The drawn radiographs: the same for a seed, anatomically sane, and sick where the mask says."""

from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageFilter

from medvae.data.phantom import LESIONS, draw_phantom
from medvae.errors import DataError

SEEDS = range(12)
SIZE = 128
draw = cache(draw_phantom)


def difference(seed: int, lesion: str) -> np.ndarray:
    """What the lesion did to the grey levels of its patient, (SIZE, SIZE) float."""
    return draw(seed, lesion, SIZE).image.astype(float) - draw(seed, None, SIZE).image


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    return (
        np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(2 * pixels + 1)))
        > 0
    )


def region(image: np.ndarray, rows: tuple[float, float], columns: tuple[float, float]) -> float:
    """Mean grey of a box given in shares of the image."""
    top, bottom, left, right = (round(share * len(image)) for share in (*rows, *columns))
    return float(image[top:bottom, left:right].mean())


def centre(mask: np.ndarray) -> tuple[float, float]:
    """Row and column of a mask's middle, in shares of the image."""
    rows, columns = np.nonzero(mask)
    return float(rows.mean() / len(mask)), float(columns.mean() / len(mask))


@pytest.mark.parametrize("lesion", [None, *LESIONS])
def test_same_arguments_draw_the_same(lesion: str | None) -> None:
    first, second = draw_phantom(7, lesion, 64), draw_phantom(7, lesion, 64)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)


@pytest.mark.parametrize("seed", [-1, 0, 2**70])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert not np.array_equal(draw_phantom(seed, None, 32).image, draw_phantom(1, None, 32).image)


@pytest.mark.parametrize("size", [32, 100, 256])
@pytest.mark.parametrize("lesion", [None, *LESIONS])
def test_types_and_shapes(lesion: str | None, size: int) -> None:
    drawn = draw_phantom(3, lesion, size)
    assert drawn.image.shape == drawn.mask.shape == (size, size)
    assert drawn.image.dtype == np.uint8
    assert drawn.mask.dtype == np.bool_
    assert drawn.lesion == lesion


def test_images_may_be_written_to() -> None:
    # torch warns about arrays that may not, and only some films carry a burnt-in letter
    assert all(draw(seed, None, 32).image.flags.writeable for seed in SEEDS)


def test_greys_are_spread_like_those_of_a_radiograph() -> None:
    for seed in SEEDS:
        image = draw(seed, None, SIZE).image
        assert 85 < image.mean() < 170, seed
        assert 40 < image.std() < 85, seed
        assert (image == 255).mean() < 0.02, seed
        assert np.percentile(image, 99) > 170, seed


def test_healthy_patients_differ() -> None:
    images = np.stack([draw(seed, None, SIZE).image for seed in SEEDS]).astype(float)
    assert images.std(axis=0).mean() > 12
    likeness = np.corrcoef(images.reshape(len(images), -1))
    assert likeness[np.triu_indices(len(images), 1)].max() < 0.99


def test_a_patient_is_the_same_at_every_size() -> None:
    for seed in SEEDS:
        large = Image.fromarray(draw(seed, None, 2 * SIZE).image)
        reduced = np.asarray(large.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=float)
        assert np.abs(reduced - draw(seed, None, SIZE).image).mean() < 5, seed


def test_both_lungs_are_darker_than_what_surrounds_them() -> None:
    for seed in SEEDS:
        image = draw(seed, None, SIZE).image
        right = region(image, (0.35, 0.55), (0.22, 0.36))
        left = region(image, (0.30, 0.45), (0.66, 0.78))
        spine = region(image, (0.35, 0.55), (0.46, 0.54))
        belly = region(image, (0.88, 1.0), (0.25, 0.75))
        assert max(right, left) + 40 < min(spine, belly), seed


def test_heart_lies_to_the_right_of_the_image_and_the_dome_is_higher_on_its_left() -> None:
    mean = np.mean([draw(seed, None, SIZE).image for seed in range(24)], axis=0)
    assert region(mean, (0.5, 0.6), (0.60, 0.66)) > region(mean, (0.5, 0.6), (0.34, 0.40)) + 30
    assert region(mean, (0.71, 0.75), (0.20, 0.26)) > region(mean, (0.71, 0.75), (0.74, 0.80)) + 10


# --- Lesions -----------------------------------------------------------------------------------


def test_healthy_mask_is_empty() -> None:
    assert not any(draw(seed, None, SIZE).mask.any() for seed in SEEDS)


@pytest.mark.parametrize("size", [32, SIZE])
@pytest.mark.parametrize("lesion", LESIONS)
def test_sick_mask_is_neither_empty_nor_everything(lesion: str, size: int) -> None:
    for seed in SEEDS:
        assert 0 < draw(seed, lesion, size).mask.mean() < 0.2, seed


@pytest.mark.parametrize("lesion", LESIONS)
def test_lesion_is_seen_where_the_mask_says(lesion: str) -> None:
    for seed in SEEDS:
        change, mask = np.abs(difference(seed, lesion)), draw(seed, lesion, SIZE).mask
        assert change[grow(mask, 4)].sum() > 0.95 * change.sum(), seed
        assert (change[mask] > 5).mean() > 0.75, seed


@pytest.mark.parametrize("lesion", LESIONS)
def test_free_air_is_darker_and_every_other_lesion_brighter(lesion: str) -> None:
    sign = -1 if lesion == "pneumothorax" else 1
    for seed in SEEDS:
        assert sign * difference(seed, lesion)[draw(seed, lesion, SIZE).mask].mean() > 10, seed


@pytest.mark.parametrize("lesion", LESIONS)
def test_lesion_lies_in_a_lung(lesion: str) -> None:
    for seed in SEEDS:
        healthy, mask = draw(seed, None, SIZE).image, draw(seed, lesion, SIZE).mask
        assert healthy[mask].mean() < region(healthy, (0.35, 0.55), (0.46, 0.54)) - 20, seed
        border = mask.copy()
        border[2:-2, 2:-2] = False
        assert not border.any(), seed


def test_lesions_lie_where_the_diseases_do() -> None:
    for seed in SEEDS:
        fluid, gas = (centre(draw(seed, kind, SIZE).mask) for kind in ("effusion", "pneumothorax"))
        assert fluid[0] > 0.5 > gas[0], seed  # fluid sinks, air rises
        assert abs(gas[1] - 0.5) > 0.15, seed  # along the flank


def test_fluid_climbs_the_flank() -> None:
    for seed in SEEDS:
        mask = draw(seed, "effusion", SIZE).mask
        columns = np.flatnonzero(mask.any(axis=0))
        if columns.mean() > SIZE / 2:
            columns = columns[::-1]  # from the flank to the middle
        tops, quarter = mask.argmax(axis=0)[columns], len(columns) // 4
        assert tops[:quarter].mean() < tops[-quarter:].mean() - 2, seed


def test_both_sides_fall_ill() -> None:
    for lesion in LESIONS:
        sides = {centre(draw(seed, lesion, SIZE).mask)[1] > 0.5 for seed in SEEDS}
        assert sides == {True, False}, lesion


def test_nodules_are_round_and_6_to_16_pixels_wide() -> None:
    for seed in SEEDS:
        area = draw(seed, "nodule", 256).mask.sum()
        assert 0.8 * np.pi * 3**2 < area < 3 * np.pi * 8.5**2, seed


@pytest.mark.parametrize(("lesion", "size"), [("fracture", 64), ("", 64), (None, 31)])
def test_what_cannot_be_drawn_is_refused(lesion: str | None, size: int) -> None:
    with pytest.raises(DataError, match=r"choose one of consolidation|ask for 32"):
        draw_phantom(0, lesion, size)
