"""Batches of healthy images: all of them once, in an order that follows from seed and epoch."""

import pickle
import threading
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medvae.data.cache import ImageSet
from medvae.data.loader import XRayDataset, XRayLoader, build_healthy_loaders
from medvae.data.ring import Ring
from medvae.data.splits import Split
from medvae.device import Compute

CPU = Compute(torch.device("cpu"), "fp32")


@dataclass(frozen=True)
class Roomy(Compute):
    """A device with room for all images, as a GPU has."""

    def resident_budget(self) -> int:
        return 10**9


@pytest.fixture
def dataset(images: ImageSet, divided: Split) -> XRayDataset:
    return XRayDataset(images, divided.train)


def make(dataset: XRayDataset, **options: Any) -> XRayLoader:
    settings = {"batch_size": 8, "compute": CPU, "seed": 1, "augment": False}
    return XRayLoader(dataset, **{**settings, **options})


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def test_an_item_is_the_image_of_its_record(images: ImageSet, dataset: XRayDataset) -> None:
    assert len(dataset) == len(dataset.records)
    for index in (0, 3, len(dataset) - 1):
        item = dataset[index]
        assert item.shape == (1, 32, 32)
        assert item.dtype == torch.uint8
        assert np.array_equal(item[0].numpy(), images.pixels[dataset.records[index].row])


def test_a_data_set_knows_its_size(dataset: XRayDataset) -> None:
    assert dataset.size == 32
    assert dataset.nbytes == len(dataset) * 32 * 32


def test_batches_are_floats_from_0_to_1_of_one_channel(dataset: XRayDataset) -> None:
    batches = list(make(dataset).shuffled(epoch=0))
    assert {batch.dtype for batch in batches} == {torch.float32}
    assert {tuple(batch.shape[1:]) for batch in batches} == {(1, 32, 32)}
    whole = torch.cat(batches)
    assert (float(whole.min()), float(whole.max())) == (0.0, 1.0)


@pytest.mark.parametrize("batch_size", [1, 7, 8, 1000])
def test_an_epoch_shows_every_image_once(dataset: XRayDataset, batch_size: int) -> None:
    loader = make(dataset, batch_size=batch_size)
    batches = list(loader.shuffled(epoch=2))
    assert len(batches) == loader.steps_per_epoch
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    expected = {bytes(dataset[i].numpy()) for i in range(len(dataset))}
    seen = [bytes((x * 255).round().to(torch.uint8).numpy()) for x in torch.cat(batches)]
    assert len(seen) == len(dataset)
    assert set(seen) == expected


@pytest.mark.parametrize(("least", "passes"), [(0, 1), (30, 1), (56, 2), (100, 4)])
def test_an_epoch_passes_through_a_small_set_several_times(
    dataset: XRayDataset, least: int, passes: int
) -> None:
    loader, count = make(dataset, least_images=least), len(dataset)
    assert loader.images_per_epoch == passes * count
    assert sum(loader.batch_at(step) for step in range(loader.steps_per_epoch)) == passes * count
    seen = torch.cat(list(loader.shuffled(epoch=0)))
    for turn in seen.split(count):  # each image once in each pass, in another order
        assert len({bytes(image.numpy()) for image in turn}) == count
    assert passes == 1 or not torch.equal(seen[:count], seen[count : 2 * count])
    entered = list(make(dataset, least_images=least).shuffled(0, first_step=1))
    assert same(entered, list(loader.shuffled(epoch=0))[1:])


def test_ordered_batches_follow_the_records(dataset: XRayDataset) -> None:
    batches = list(make(dataset).ordered())
    assert torch.equal(torch.cat(batches), dataset.take(slice(None)).float() / 255)


@pytest.mark.parametrize("augment", [False, True])
def test_seed_and_epoch_alone_decide_the_batches(dataset: XRayDataset, augment: bool) -> None:
    first = list(make(dataset, augment=augment).shuffled(epoch=1))
    torch.manual_seed(99)
    np.random.default_rng(99).random()
    assert same(first, list(make(dataset, augment=augment).shuffled(epoch=1)))
    assert not same(first, list(make(dataset, augment=augment).shuffled(epoch=2)))
    assert not same(first, list(make(dataset, augment=augment, seed=2).shuffled(epoch=1)))


@pytest.mark.parametrize("augment", [False, True])
def test_an_epoch_entered_in_the_middle_goes_on_with_the_same_batches(
    dataset: XRayDataset, augment: bool
) -> None:
    whole = list(make(dataset, augment=augment).shuffled(epoch=3))
    for first_step in range(len(whole) + 1):
        rest = list(make(dataset, augment=augment).shuffled(3, first_step))
        assert same(rest, whole[first_step:])


def test_augmentation_changes_images_anew_every_epoch(dataset: XRayDataset) -> None:
    plain, moved = make(dataset), make(dataset, augment=True)
    for one, other in zip(plain.shuffled(0), moved.shuffled(0), strict=True):
        assert all(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(torch.cat(list(plain.ordered())), torch.cat(list(moved.ordered())))


@pytest.mark.parametrize("augment", [False, True])
def test_images_that_live_on_the_device_give_the_same_batches(
    dataset: XRayDataset, augment: bool
) -> None:
    streaming = make(dataset, augment=augment)
    resident = make(dataset, augment=augment, compute=Roomy(torch.device("cpu"), "fp32"))
    assert (streaming.resident, resident.resident) == (False, True)
    assert same(list(streaming.shuffled(1)), list(resident.shuffled(1)))
    assert same(list(streaming.ordered()), list(resident.ordered()))


@dataclass(frozen=True)
class ReadsAhead(Compute):
    """A CPU whose images come as those of a GPU that is too small for them."""

    @property
    def reads_ahead(self) -> bool:
        return True


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_images_that_are_read_ahead_are_the_same(
    dataset: XRayDataset, augment: bool, batch_size: int
) -> None:
    plain = make(dataset, augment=augment, batch_size=batch_size)
    ahead = make(
        dataset,
        augment=augment,
        batch_size=batch_size,
        compute=ReadsAhead(torch.device("cpu"), "fp32"),
    )
    for _ in range(2):
        assert same(list(plain.shuffled(1)), list(ahead.shuffled(1)))
        assert same(list(plain.ordered()), list(ahead.ordered()))
    assert same(list(plain.shuffled(1, 1)), list(ahead.shuffled(1, 1)))


def test_an_epoch_left_in_the_middle_leaves_no_thread(dataset: XRayDataset) -> None:
    ahead = make(dataset, compute=ReadsAhead(torch.device("cpu"), "fp32"))
    batches = ahead.shuffled(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if "read-ahead" in thread.name]


def test_what_fails_in_reading_ahead_is_raised_where_the_batch_is_asked_for() -> None:
    def fill(indices: np.ndarray, into: np.ndarray) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        list(Ring(fill, (4, 1, 8, 8), torch.device("cpu")).batches([np.arange(4)]))


def test_the_log_says_where_the_images_are(dataset: XRayDataset) -> None:
    cpu = torch.device("cpu")
    assert "stay on the device" in make(dataset, compute=Roomy(cpu, "fp32")).residence()
    assert "read ahead" in make(dataset, compute=ReadsAhead(cpu, "fp32")).residence()
    assert "may keep 0 MB" in make(dataset).residence()


def test_every_step_has_draws_of_its_own(dataset: XRayDataset) -> None:
    loader = make(dataset)
    draws = [torch.rand(4, generator=loader.generator(step)) for step in range(50)]
    assert all(not torch.equal(one, other) for one, other in pairwise(draws))
    assert torch.equal(draws[7], torch.rand(4, generator=make(dataset).generator(7)))


def test_the_validation_images_are_never_augmented(images: ImageSet, divided: Split) -> None:
    loaders = build_healthy_loaders(images, divided, CPU, batch_size=8, seed=0, augment=True)
    assert (loaders.train.augment, loaders.validation.augment) == (True, False)
    assert [r.path for r in loaders.train.dataset.records] == [r.path for r in divided.train]
    assert [r.path for r in loaders.validation.dataset.records] == [
        r.path for r in divided.validation
    ]


def test_a_data_set_survives_the_way_to_another_process(dataset: XRayDataset) -> None:
    there_and_back = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(there_and_back[2], dataset[2])
