"""Every way we could think of to get a sick or a test image into training; none may work."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from medvae.config import DataConfig
from medvae.data.cache import ImageSet, import_images
from medvae.data.catalog import Catalog, Record, fingerprint
from medvae.data.leak_guard import check_no_leak, detail_correlation, perceptual_hash
from medvae.data.loader import HealthyLoaders, build_healthy_loaders
from medvae.data.splits import PARTS, Split, from_manifest, read_manifest, split
from medvae.data.transform import to_model_input
from medvae.device import Compute
from medvae.errors import DataError, LeakError
from medvae.workspace import Workspace
from tests.data.drawn import chest, encoded, sick_chest, write

SIZE = 64
NEW_NAME = "train/NORMAL/IM-9999-0001.png"


def spread(folder: Path, count: int) -> list[Path]:
    files = sorted(folder.iterdir())
    return files[:: max(1, len(files) // count)][:count]


@pytest.fixture(scope="module")
def clean_root(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """A few radiographs in the public layout: real ones where there are any. Not to be changed."""
    root = tmp_path_factory.mktemp("clean") / "set"
    for place, count in (
        ("train/NORMAL", 16), ("train/PNEUMONIA", 3), ("test/NORMAL", 4), ("test/PNEUMONIA", 4)
    ):  # fmt: skip
        (root / place).mkdir(parents=True)
        for file in spread(shared_data / place, count):
            shutil.copy(file, root / place)
    return root


@pytest.fixture
def root(tmp_path: Path, clean_root: Path) -> Path:
    """The same in a folder of its own, to smuggle something in."""
    return shutil.copytree(clean_root, tmp_path / "set")


def load(root: Path, workspace: Workspace) -> ImageSet:
    return import_images(DataConfig(), root, SIZE, workspace, lambda done, total: None)


def divide(images: ImageSet) -> Split:
    return split(images.catalog, DataConfig(validation_fraction=0.3), 0)


def build(images: ImageSet, divided: Split) -> HealthyLoaders:
    compute = Compute(torch.device("cpu"), "fp32")
    return build_healthy_loaders(images, divided, compute, batch_size=4, seed=0, augment=False)


def try_to_train(root: Path, workspace: Workspace) -> HealthyLoaders:
    images = load(root, workspace)
    return build(images, divide(images))


def first(root: Path, place: str) -> Path:
    return min((root / place).iterdir())


def gray(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("L"))


def test_clean_data_is_let_through(root: Path, workspace: Workspace) -> None:
    loaders = try_to_train(root, workspace)
    assert len(loaders.train.dataset) + len(loaders.validation.dataset) == 16


# --- Another file of the same picture ----------------------------------------------------------

Disguise = Callable[[np.ndarray], bytes]


def gamma(exponent: float) -> Disguise:
    return lambda pixels: encoded((255 * (pixels / 255) ** exponent).astype(np.uint8))


def resized(width: int, height: int) -> Disguise:
    return lambda pixels: encoded(np.asarray(Image.fromarray(pixels).resize((width, height))))


def blurred(pixels: np.ndarray) -> bytes:
    return encoded(np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1.5))))


def noisy(pixels: np.ndarray) -> bytes:
    noise = np.random.default_rng(0).normal(0, 6, pixels.shape)
    return encoded(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def in_colour(pixels: np.ndarray) -> bytes:
    return encoded(np.repeat(pixels[..., None], 3, axis=2), "WEBP", quality=60)


def turned_by_a_tag(pixels: np.ndarray) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = 3
    return encoded(np.rot90(pixels, 2), exif=tags)


DISGUISES: dict[str, Disguise] = {
    "as a PNG": lambda pixels: encoded(pixels, compress_level=1),
    "with 16 bits": lambda pixels: encoded(pixels.astype(np.uint16) * 100),
    "in colour": in_colour,
    "at quality 30": lambda pixels: encoded(pixels, "JPEG", quality=30),
    "at quality 10": lambda pixels: encoded(pixels, "JPEG", quality=10),
    "smaller": resized(100, 100),
    "larger": resized(500, 500),
    "out of proportion": resized(150, 97),
    "darker": gamma(2.0),
    "brighter": gamma(0.5),
    "with less contrast": lambda pixels: encoded((pixels // 3 + 80).astype(np.uint8)),
    "mirrored": lambda pixels: encoded(np.fliplr(pixels)),
    "mirrored and at quality 30": lambda p: encoded(np.fliplr(p), "JPEG", quality=30),
    "blurred": blurred,
    "noisy": noisy,
    "turned, with a tag that turns it back": turned_by_a_tag,
}


@pytest.mark.parametrize("source", ["train/PNEUMONIA", "test/PNEUMONIA", "test/NORMAL"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguised_copy_is_recognised_and_both_files_are_named(
    root: Path, workspace: Workspace, source: str, disguise: str
) -> None:
    original = first(root, source)
    write(root / NEW_NAME, DISGUISES[disguise](gray(original)))
    with pytest.raises(LeakError) as caught:
        try_to_train(root, workspace)
    assert NEW_NAME in str(caught.value)
    assert original.relative_to(root).as_posix() in str(caught.value)


@pytest.mark.parametrize("source", ["train/PNEUMONIA", "test/PNEUMONIA"])
@pytest.mark.parametrize("link", [False, True])
def test_the_same_file_of_a_sick_image_under_another_name_stops_the_import(
    root: Path, workspace: Workspace, source: str, link: bool
) -> None:
    original = first(root, source)
    if link:
        (root / NEW_NAME).symlink_to(original)
    else:
        shutil.copy(original, root / NEW_NAME)
    with pytest.raises(DataError) as caught:
        try_to_train(root, workspace)
    assert NEW_NAME in str(caught.value)
    assert original.relative_to(root).as_posix() in str(caught.value)


@pytest.mark.parametrize("place", ["train/NORMAL", "val/NORMAL"])
def test_the_same_file_of_a_test_image_is_kept_for_the_test_alone(
    root: Path, workspace: Workspace, place: str
) -> None:
    original = first(root, "test/NORMAL")
    copy = write(root / place / "IM-9999-0001.jpeg", original.read_bytes())
    images = load(root, workspace)
    divided = divide(images)
    build(images, divided)
    learnt = {record.sha256 for record in divided.train + divided.validation}
    assert original.name in {Path(record.path).name for record in divided.test}
    assert learnt.isdisjoint(record.sha256 for record in divided.test)
    assert images.catalog.duplicates == (
        (copy.relative_to(root).as_posix(), original.relative_to(root).as_posix()),
    )


# --- A picture in the wrong place ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["person777_bacteria_1.png", "person777_virus_1.png", "PERSON777_VIRUS.png",
     "777_Pneumonia.png", "PNEUMONIA/p777.png", "old_pneumonia_cases/p777.png", "virus.png"],
)  # fmt: skip
def test_a_healthy_label_on_a_name_that_says_sick_is_refused(
    root: Path, workspace: Workspace, name: str
) -> None:
    write(root / "train/NORMAL" / name, sick_chest(77))
    with pytest.raises(LeakError, match="says it is sick") as caught:
        try_to_train(root, workspace)
    assert name in str(caught.value)


def test_a_label_folder_may_say_that_it_holds_no_pneumonia(
    root: Path, tmp_path: Path, workspace: Workspace
) -> None:
    for split_name in ("train", "test"):
        (root / split_name / "NORMAL").rename(root / split_name / "no_pneumonia")
    config = DataConfig(normal="no_pneumonia", validation_fraction=0.3)
    images = import_images(config, root, SIZE, workspace, lambda done, total: None)
    build(images, split(images.catalog, config, 0))


HEALTHY_LISTED, SICK_LISTED = 20, 4


def write_list(root: Path, folder: str, with_split: bool, odd_one: str = "") -> Path:
    """A manifest.csv and its images, every third of them for the test where it tells the split."""
    lines = ["path,label,split" if with_split else "path,label"]
    for i in range(HEALTHY_LISTED + SICK_LISTED):
        sick = i >= HEALTHY_LISTED
        path = odd_one if odd_one and i == 0 else f"{folder}{i}.png"
        write(root / path, sick_chest(3000 + i) if sick else chest(i))
        source_split = "," + ("test" if sick or i % 3 == 0 else "train") if with_split else ""
        lines.append(f"{path},{'sick' if sick else 'normal'}{source_split}")
    write(root / "manifest.csv", "\n".join(lines).encode())
    return root


def write_nih_with_its_test(root: Path) -> Path:
    lines, tested = ["Image Index,Finding Labels,Patient ID"], []
    for i in range(HEALTHY_LISTED + SICK_LISTED):
        name, sick = f"{i:08d}_000.png", i >= HEALTHY_LISTED
        write(root / "images" / name, sick_chest(3000 + i) if sick else chest(i))
        lines.append(f"{name},{'Mass' if sick else 'No Finding'},{i}")
        tested += [name] if sick or i % 3 == 0 else []
    write(root / "Data_Entry_2017.csv", "\n".join(lines).encode())
    write(root / "test_list.txt", "\n".join(tested).encode())
    return root


@pytest.mark.parametrize(
    "make",
    [
        lambda root: write_list(root, "", with_split=False),
        lambda root: write_list(root, "images/", with_split=True),
        write_nih_with_its_test,
    ],
    ids=["a list beside its images", "a list with splits and one folder", "NIH with its test"],
)
def test_a_table_needs_no_label_folders(
    tmp_path: Path, workspace: Workspace, make: Callable[[Path], Path]
) -> None:
    loaders = try_to_train(make(tmp_path / "set"), workspace)
    assert len(loaders.train.dataset) >= 8


@pytest.mark.parametrize("with_split", [False, True])
@pytest.mark.parametrize(
    "path", ["virus_0.png", "PNEUMONIA/0.png", "2019/PNEUMONIA/0.png", "old_pneumonia/a/b/c/0.png"]
)
def test_a_listed_normal_image_whose_path_says_sick_is_refused(
    tmp_path: Path, workspace: Workspace, path: str, with_split: bool
) -> None:
    root = write_list(tmp_path / "set", "images/", with_split, odd_one=path)
    images = load(root, workspace)
    record = next(r for r in images.catalog.records if r.path == path)
    with pytest.raises(LeakError, match=f"says it is sick.*{path}"):
        build(images, replace(divide(images), train=(record,)))


@pytest.mark.parametrize("source", ["train/PNEUMONIA", "test/PNEUMONIA", "test/NORMAL"])
def test_another_picture_of_a_forbidden_patient_never_gets_into_training(
    root: Path, workspace: Workspace, source: str
) -> None:
    known = next(r.patient for r in load(root, workspace).catalog.records if source in r.path)
    name = f"train/NORMAL/{known}-follow-up.png"
    write(root / name, chest(555))
    images = load(root, workspace)
    divided = divide(images)
    assert name not in {record.path for record in divided.train + divided.validation}
    assert sum(divided.left_out.values()) == 1
    record = next(r for r in images.catalog.records if r.path == name)
    for part in ("train", "validation"):
        smuggled = replace(divided, **{part: (*getattr(divided, part), record)})
        with pytest.raises(LeakError, match="same patient") as caught:
            build(images, smuggled)
        assert name in str(caught.value)


# --- A manifest changed by hand ------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(clean_root: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load(clean_root, Workspace(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def divided(images: ImageSet) -> Split:
    return divide(images)


def sign(manifest: dict[str, Any]) -> None:
    """What somebody would do who knows how manifests are checked."""
    manifest["fingerprints"] = {
        part: fingerprint(sha256 for _, sha256 in manifest[part]) for part in PARTS
    }


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("target", ["train", "validation"])
@pytest.mark.parametrize("label", ["NORMAL", "PNEUMONIA"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_test_image_moved_or_copied_in_the_manifest_is_refused(
    images: ImageSet,
    divided: Split,
    tmp_path: Path,
    label: str,
    target: str,
    keep: bool,
    signed: bool,
) -> None:
    manifest = divided.manifest()
    row = next(row for row in manifest["test"] if f"/{label}/" in row[0])
    manifest[target].append(row)
    if not keep:
        manifest["test"].remove(row)
    if signed:
        sign(manifest)
    file = tmp_path / "split.json"
    file.write_text(json.dumps(manifest))
    with pytest.raises(LeakError) as caught:
        build(images, from_manifest(read_manifest(file), images.catalog))
    if signed:
        assert row[0] in str(caught.value)
    else:
        assert target in str(caught.value)


@pytest.mark.parametrize("signed", [False, True])
def test_the_hash_of_a_sick_image_under_a_healthy_path_is_refused(
    images: ImageSet, divided: Split, tmp_path: Path, signed: bool
) -> None:
    manifest = divided.manifest()
    sick = images.catalog.of("sick")[0]
    path = manifest["train"][0][0]
    manifest["train"][0] = [path, sick.sha256]
    if signed:
        sign(manifest)
    file = tmp_path / "split.json"
    file.write_text(json.dumps(manifest))
    with pytest.raises(LeakError, match=path):
        build(images, from_manifest(read_manifest(file), images.catalog))


# --- A split made by hand ------------------------------------------------------------------------


def smuggle(divided: Split, part: str, record: Record) -> Split:
    return replace(divided, **{part: (*getattr(divided, part), record)})


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_sick_record_is_refused_whatever_it_claims_to_be(
    images: ImageSet, divided: Split, part: str
) -> None:
    sick = images.catalog.of("sick")[0]
    relabelled = replace(sick, label="normal")
    renamed = replace(relabelled, path="train/NORMAL/new.png")
    rehashed = replace(renamed, sha256="0" * 64)
    stranger = replace(rehashed, patient="nobody")  # now only its pixels tell
    for record in (sick, relabelled, renamed, rehashed, stranger):
        with pytest.raises(LeakError) as caught:
            build(images, smuggle(divided, part, record))
        assert record.path in str(caught.value)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_healthy_record_that_points_at_the_pixels_of_a_sick_one_is_refused(
    images: ImageSet, divided: Split, part: str
) -> None:
    record = getattr(divided, part)[0]
    swapped = replace(record, row=images.catalog.of("sick")[2].row)
    changed = replace(divided, **{part: (swapped, *getattr(divided, part)[1:])})
    with pytest.raises(LeakError, match=record.path):
        build(images, changed)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_healthy_test_record_is_refused(images: ImageSet, divided: Split, part: str) -> None:
    tested = next(record for record in divided.test if record.label == "normal")
    stranger = replace(tested, patient="nobody", sha256="0" * 64, path="train/NORMAL/new.png")
    for record in (tested, stranger):
        with pytest.raises(LeakError) as caught:
            build(images, smuggle(divided, part, record))
        assert record.path in str(caught.value)


def test_a_sick_image_that_is_in_no_part_of_the_split_is_guarded_too(
    images: ImageSet, divided: Split
) -> None:
    tested = {record.path for record in divided.test}
    sick = next(record for record in images.catalog.of("sick") if record.path not in tested)
    stranger = replace(
        sick, label="normal", patient="nobody", sha256="0", path="train/NORMAL/x.png"
    )
    with pytest.raises(LeakError, match=sick.path):
        build(images, smuggle(divided, "train", stranger))


def test_a_test_image_of_the_folder_is_refused_even_when_the_split_leaves_it_out(
    images: ImageSet, divided: Split
) -> None:
    tested = next(record for record in divided.test if record.label == "normal")
    rest = tuple(record for record in divided.test if record != tested)
    with pytest.raises(LeakError, match=tested.path):
        build(images, replace(divided, train=(*divided.train, tested), test=rest))


def test_one_patient_in_training_and_validation_is_refused(
    images: ImageSet, divided: Split
) -> None:
    moved = replace(divided.train[0], patient=divided.validation[0].patient)
    with pytest.raises(LeakError, match=moved.path):
        build(images, replace(divided, train=(moved, *divided.train[1:])))


def test_many_offenders_are_counted_and_the_first_are_named(
    images: ImageSet, divided: Split
) -> None:
    sick = images.catalog.of("sick")[:5]
    with pytest.raises(LeakError, match="and 2 more") as caught:
        build(images, replace(divided, train=(*divided.train, *sick)))
    assert all(record.path in str(caught.value) for record in sick[:3])
    assert "\n" not in str(caught.value)


# --- No false alarms -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 64])
def test_different_patients_that_look_alike_are_no_leak(size: int) -> None:
    healthy = [to_model_input(chest(i), size) for i in range(160)]
    sick = [to_model_input(sick_chest(5000 + i), size) for i in range(80)]
    records = [
        Record(f"{label}/{row}.png", label, str(row), str(row), None, row)
        for row, label in enumerate(["normal"] * len(healthy) + ["sick"] * len(sick))
    ]  # type: ignore[arg-type]
    images = ImageSet(Catalog(Path(), tuple(records)), np.stack([*healthy, *sick]))
    check_no_leak(
        Split("pooled", 0, tuple(records[:130]), tuple(records[130:160]), tuple(records[160:]), {}),
        images,
    )


def test_healthy_patients_of_the_real_or_drawn_set_are_no_copies_of_its_sick_ones(
    shared_data: Path, tmp_path: Path, workspace: Workspace
) -> None:
    for place in ("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA"):
        (tmp_path / "set" / place).mkdir(parents=True)
        for file in spread(shared_data / place, 120):
            (tmp_path / "set" / place / file.name).symlink_to(file)
    try_to_train(tmp_path / "set", workspace)


def test_perceptual_hashes_stand_for_the_picture_and_not_for_its_exposure() -> None:
    one, same, other = (
        to_model_input(pixels, SIZE) for pixels in (chest(1), chest(1) // 2 + 60, chest(2))
    )
    hashes = perceptual_hash(np.stack([one, same, other]))
    assert hashes.shape == (3, 255)
    assert set(np.unique(hashes)) == {-1.0, 1.0}
    assert (hashes[0] != hashes[1]).sum() < 8 < (hashes[0] != hashes[2]).sum()


def test_fine_detail_correlates_between_copies_and_not_between_patients() -> None:
    one, other = to_model_input(chest(1), SIZE), to_model_input(chest(2), SIZE)
    assert detail_correlation(one, one) == pytest.approx(1)
    assert detail_correlation(one, other) < 0.7
    assert detail_correlation(255 - one, one) < 0
