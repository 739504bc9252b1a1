"""Any image in, scores, maps and a verdict out, the same ones whatever way it came in."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medvae.data.cache import ImageSet
from medvae.data.splits import Split
from medvae.data.transform import to_model_input
from medvae.engine import checkpoint
from medvae.engine.detector import BATCH, AnomalyDetector, Detection
from medvae.engine.evaluation import score_test_images
from medvae.engine.scores import DEFAULT_SCORE
from medvae.errors import CheckpointError, DeviceError, ImageError
from tests.conftest import TrainedRun
from tests.data.drawn import chest, sick_chest


@pytest.fixture
def detector(trained: TrainedRun) -> AnomalyDetector:
    return AnomalyDetector.load(trained.best, "cpu")


def assert_alike(one: Detection, other: Detection, tolerance: float = 1e-4) -> None:
    assert one.scores.keys() == other.scores.keys()
    for name in one.scores:
        assert one.scores[name] == pytest.approx(
            other.scores[name], rel=tolerance, abs=10 * tolerance
        )
    np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=100 * tolerance)
    np.testing.assert_allclose(one.reconstruction, other.reconstruction, atol=tolerance)


def test_a_detection_holds_what_is_needed_to_judge_it(detector: AnomalyDetector) -> None:
    [found] = detector.detect([chest(900)], ["chest.png"])
    assert found.name == "chest.png"
    for picture in (found.image, found.reconstruction, found.anomaly_map):
        assert picture.shape == (32, 32)
        assert picture.dtype == np.float32
    assert np.array_equal(found.image, to_model_input(chest(900), 32).astype(np.float32) / 255)
    assert 0 <= found.reconstruction.min() <= found.reconstruction.max() <= 1
    assert np.array_equal(found.difference, found.image - found.reconstruction)
    assert np.array_equal(found.absolute_difference, np.abs(found.difference))
    assert found.pixel_threshold == detector.calibration.pixel_threshold > 0
    assert 0 < found.p_value <= 1


def test_scores_are_what_they_are_called(detector: AnomalyDetector) -> None:
    [found] = detector.detect([sick_chest(901)])
    scores = found.scores
    assert scores["mse"] == pytest.approx(float((found.difference**2).sum()), rel=1e-4)
    assert scores["kld"] > 0
    beta = detector.config.loss.beta
    assert scores["elbo"] == pytest.approx(scores["mse"] + beta * scores["kld"], rel=1e-5)
    assert found.score == scores[DEFAULT_SCORE]


def test_the_map_is_the_difference_in_units_of_the_healthy_spread(
    detector: AnomalyDetector,
) -> None:
    [found] = detector.detect([chest(902)])
    healthy = detector.calibration.healthy
    residual = torch.from_numpy(found.difference)[None, None]
    expected = (healthy.residual_z(residual)[0] * healthy.weight).numpy()
    np.testing.assert_allclose(found.anomaly_map, expected, atol=1e-4)


def test_a_white_patch_is_seen_where_it_is(detector: AnomalyDetector) -> None:
    image = chest(903).copy()
    image[20:30, 40:50] = image.max()
    [before, after] = detector.detect([chest(903), image])
    grown = after.anomaly_map - before.anomaly_map
    row, column = np.unravel_index(grown.argmax(), grown.shape)
    assert 10 <= row < 15
    assert 20 <= column < 25


def test_verdict_p_value_and_threshold_agree(
    detector: AnomalyDetector, images: ImageSet, divided: Split
) -> None:
    inputs = [images.pixels[record.row] for record in divided.test]
    names = [record.path for record in divided.test]
    for target in (0.01, 0.1, 0.3, 0.45):
        for found in detector.detect_inputs(inputs, names, target):
            assert found.unusual == (found.p_value <= target) == (found.score > found.threshold)


def test_the_target_changes_the_verdict_and_nothing_else(detector: AnomalyDetector) -> None:
    pictures = [chest(910 + i) for i in range(8)] + [sick_chest(910 + i) for i in range(8)]
    strict = detector.detect(pictures, target_fpr=0.001)
    loose = detector.detect(pictures, target_fpr=0.49)
    assert {found.threshold for found in strict} == {math.inf}  # too few images for so strict a one
    assert not any(found.unusual for found in strict)
    assert any(found.unusual for found in loose)
    for one, other in zip(strict, loose, strict=True):
        assert replace(one, target_fpr=0, threshold=0).scores == other.scores
        assert one.p_value == other.p_value
        assert np.array_equal(one.anomaly_map, other.anomaly_map)


def test_without_a_target_that_of_the_configuration_counts(detector: AnomalyDetector) -> None:
    [found] = detector.detect([chest(904)])
    assert found.target_fpr == detector.config.detection.target_fpr


def test_one_picture_scores_the_same_in_8_and_16_bits_and_floats(detector: AnomalyDetector) -> None:
    small = chest(905)
    deep = small.astype(np.uint16) * 257
    reference, *others = detector.detect([small, deep, small.astype(np.float32) / 255])
    for found in others:
        assert_alike(found, reference, tolerance=0.01)


@pytest.mark.parametrize("shape", [(32, 32), (500, 500), (40, 300)])
def test_an_image_of_any_size_is_looked_at(
    detector: AnomalyDetector, shape: tuple[int, int]
) -> None:
    image = np.asarray(Image.fromarray(chest(906)).resize(shape[::-1]))
    [found] = detector.detect([image])
    assert found.anomaly_map.shape == (32, 32)
    assert all(math.isfinite(score) for score in found.scores.values())


def test_one_by_one_is_the_same_as_together(detector: AnomalyDetector) -> None:
    pictures = [chest(2000 + i) for i in range(12)] * (BATCH // 12 + 1)  # more than one batch
    together = detector.detect(pictures)
    assert [found.name for found in together[:2]] == ["image 1", "image 2"]
    for index in (0, 5, 11, BATCH - 1, BATCH, len(pictures) - 1):
        [alone] = detector.detect([pictures[index]])
        assert_alike(alone, together[index])
        assert alone.p_value == together[index].p_value


def test_scores_are_the_figures_of_the_evaluation(
    detector: AnomalyDetector, images: ImageSet, divided: Split, chest_folder: Path
) -> None:
    """In the same batches, to the bit: another batch size adds up in another order."""
    tested = score_test_images(detector, images, divided.test)
    paths = [record.path for record in divided.test]
    pictures = [np.asarray(Image.open(chest_folder / path).convert("L")) for path in paths]
    for index, found in enumerate(detector.detect(pictures, paths)):
        assert found.scores == {name: tested.values[name][index] for name in found.scores}


def test_healthy_validation_images_have_the_p_values_of_their_ranks(
    detector: AnomalyDetector, images: ImageSet, divided: Split
) -> None:
    inputs = [images.pixels[record.row] for record in divided.validation]
    found = list(detector.detect_inputs(inputs, [record.path for record in divided.validation]))
    count = len(inputs)
    ranks = sorted(detection.p_value for detection in found)
    expected = [(rank + 2) / (count + 1) for rank in range(count)]
    assert ranks == pytest.approx(expected, abs=1.01 / (count + 1))


def test_no_images_are_no_detections(detector: AnomalyDetector) -> None:
    assert detector.detect([]) == []


@pytest.mark.parametrize(
    "bad",
    [np.zeros((50, 50), np.uint8), np.full((50, 50), np.nan), np.zeros((50, 50, 3), np.uint8)],
)
def test_an_image_with_nothing_to_look_at_is_named(
    detector: AnomalyDetector, bad: np.ndarray
) -> None:
    with pytest.raises(ImageError, match=r"^second\.png: "):
        detector.detect([chest(1), bad], ["first.png", "second.png"])


def test_the_card_says_what_the_model_is(
    detector: AnomalyDetector, trained: TrainedRun, divided: Split
) -> None:
    card = detector.card
    assert card.run == "first"
    assert card.best_epoch == trained.outcome.best_epoch
    assert card.validation_images == len(divided.validation)
    assert card.parameters > 1000
    assert trained.outcome.evaluation is not None
    assert card.metrics == trained.outcome.evaluation.to_json()


def test_loading_twice_gives_the_same_detector(trained: TrainedRun) -> None:
    first, second = (AnomalyDetector.load(trained.best, "cpu") for _ in range(2))
    [one], [other] = first.detect([chest(907)]), second.detect([chest(907)])
    assert one.scores == other.scores
    assert np.array_equal(one.anomaly_map, other.anomaly_map)


def test_a_missing_model_and_an_unknown_device_are_refused(
    trained: TrainedRun, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        AnomalyDetector.load(tmp_path / "best.pth")
    with pytest.raises(DeviceError, match="toaster"):
        AnomalyDetector.load(trained.best, "toaster")


@pytest.mark.parametrize("part", ["weights", "calibration", "config"])
def test_a_model_with_a_part_missing_is_refused_by_name(
    trained: TrainedRun, tmp_path: Path, part: str
) -> None:
    content = checkpoint.load(trained.best, "model")
    del content[part]
    torch.save(content, tmp_path / "best.pth")
    with pytest.raises(Exception, match=r"best\.pth") as caught:
        AnomalyDetector.load(tmp_path / "best.pth")
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_refused_by_name(trained: TrainedRun, tmp_path: Path) -> None:
    content = checkpoint.load(trained.best, "model")
    content["config"]["model"]["width"] = 8
    torch.save(content, tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match=r"best\.pth: its weights do not fit"):
        AnomalyDetector.load(tmp_path / "best.pth")
