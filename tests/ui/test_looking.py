import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvae.data.catalog import Record
from medvae.errors import DataError
from tests.data.drawn import chest, encoded, write
from ui.context import Context
from ui.looking import Look, Unreadable, draw_records, look_at_files
from ui.looking import look_at_test_images as look_at_test
from ui.pictures import film_frames, preview, stretched, to_uri


def silent(done: int, total: int, what: str) -> None:
    """Nobody waits for the bar."""


def test_one_bad_file_never_loses_the_others(with_model: Context, tmp_path: Path) -> None:
    files = [
        write(tmp_path / "good.png", chest(1, size=100)),
        write(tmp_path / "text.png", b"hello"),
        write(tmp_path / "blank.png", np.full((64, 64), 7, np.uint8)),
        write(tmp_path / "cut.jpg", encoded(chest(2), "JPEG")[:600]),
        tmp_path / "gone.png",
        write(tmp_path / "deep.png", chest(3).astype(np.uint16) * 200),
    ]
    looks = look_at_files(with_model.model.detector(), files, silent)
    assert [type(look) for look in looks] == [
        Look, Unreadable, Unreadable, Unreadable, Unreadable, Look
    ]  # fmt: skip
    reasons = [look.reason for look in looks if isinstance(look, Unreadable)]
    assert "not an image" in reasons[0]
    assert "same value" in reasons[1]
    assert reasons[3] == "No such file or directory"  # and not where it was looked for
    assert all("\n" not in reason for reason in reasons)


def test_pictures_keep_the_proportions_of_the_original(with_model: Context, tmp_path: Path) -> None:
    wide = np.asarray(Image.fromarray(chest(1)).resize((800, 400)))
    [look] = look_at_files(
        with_model.model.detector(), [write(tmp_path / "wide.png", wide)], silent
    )
    assert isinstance(look, Look)
    assert look.original.shape == look.counterpart.shape == (192, 384)
    assert look.heat.shape == (192, 384, 3)


def test_too_many_files_are_refused(with_model: Context) -> None:
    with pytest.raises(DataError, match="limit upload_files"):
        look_at_files(with_model.model.detector(), [Path("x.png")] * 201, silent)


def test_test_images_come_with_their_truth_and_the_score_of_the_evaluation(
    with_model: Context,
) -> None:
    detector = with_model.model.detector()
    looks = look_at_test(detector, with_model.workspace, "both", 4, 0, silent)
    truths = [look.truth for look in looks if isinstance(look, Look)]
    assert truths == ["sick", "normal", "sick", "normal"]
    assert looks == looks
    again = look_at_test(detector, with_model.workspace, "sick", 2, 0, silent)
    assert [name_of(look) for look in again] == [name_of(looks[0]), name_of(looks[2])]
    trained_on = {
        path for part in ("train", "validation") for path, _ in detector.content["split"][part]
    }
    assert not trained_on & {name_of(look) for look in looks}


def name_of(look: Look | Unreadable) -> str:
    return look.detection.name if isinstance(look, Look) else look.name


def test_records_are_drawn_by_the_seed() -> None:
    test = [
        Record(f"{i}", "sick" if i % 3 else "normal", f"{i}", f"{i}", None, i) for i in range(30)
    ]
    one, same, other = (draw_records(test, "both", 8, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert [record.label for record in one[:4]] == ["sick", "normal", "sick", "normal"]
    assert len(draw_records(test, "normal", 100, 0)) == 10
    with pytest.raises(DataError, match="no such images"):
        draw_records(test[:1], "sick", 3, 0)


def test_a_12_bit_image_in_a_16_bit_file_is_not_saturated() -> None:
    gray = np.linspace(0, 4095, 500 * 600).reshape(500, 600).astype(np.uint16)
    shown = preview(gray)
    assert shown.shape == (320, 384)
    assert (shown.min(), shown.max()) == (0, 255)
    assert 120 < np.median(shown) < 135


def test_small_images_are_not_blown_up_and_counterparts_fit() -> None:
    assert preview(chest(1, size=64)).shape == (64, 64)
    assert stretched(np.full((8, 8), 0.5, np.float32), (30, 20)).shape == (30, 20)
    assert to_uri(chest(1)).startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("border", [0, 1])
def test_the_sample_strip_falls_into_its_images(tmp_path: Path, border: int) -> None:
    side, number = 32, 4
    shape = (2 * (side + border) + border, number * (side + border) + border)
    strip = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(strip, "PNG")
    frames = film_frames(write(tmp_path / "strip.png", strip.getvalue()))
    assert frames is not None
    assert [len(row) for row in frames] == [number, number]
    assert film_frames(tmp_path / "gone.png") is None
