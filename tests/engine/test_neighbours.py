"""Nearest healthy neighbours: an image is its own, and distances grow."""

import numpy as np

from medvae.data.cache import ImageSet
from medvae.data.splits import Split
from medvae.engine.detector import AnomalyDetector
from medvae.engine.neighbours import HealthyNeighbours
from tests.conftest import TrainedRun


def test_a_training_image_is_its_own_nearest_neighbour(
    trained: TrainedRun, images: ImageSet, divided: Split
) -> None:
    detector = AnomalyDetector.load(trained.best, "cpu")
    training = images.pixels[[record.row for record in divided.train]]
    neighbours = HealthyNeighbours(detector, training)
    for index, found in enumerate(neighbours.find(training[:4], count=3)):
        assert found[0].row == index
        assert found[0].distance < 0.01
        distances = [neighbour.distance for neighbour in found]
        assert distances == sorted(distances)
    assert len(neighbours.find(np.stack([training[0]]), count=10_000)[0]) == len(training)
