"""Who goes where: by patient, from the seed, sick images to the test alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medvae.config import DataConfig
from medvae.data.catalog import Catalog, Label, Record
from medvae.data.splits import PARTS, Split, from_manifest, read_manifest, split
from medvae.errors import DataError, LeakError


def record(place: str, label: Label, patient: str, number: int = 0) -> Record:
    source_split = place if place in ("train", "val", "test") else None
    path = f"{place}/{label}/{patient}-{number}.png"
    return Record(path, label, patient, f"hash of {path}", source_split, 0)


def catalog(*records: Record) -> Catalog:
    rows = (replace(r, row=row) for row, r in enumerate(sorted(records, key=lambda r: r.path)))
    return Catalog(Path("/data/set"), tuple(rows))


def people(place: str, label: Label, count: int, each: int = 1, name: str = "p") -> list[Record]:
    return [
        record(place, label, f"{place}{name}{i}", number)
        for i in range(count)
        for number in range(each)
    ]


FLAT = catalog(*people("flat", "normal", 60, 2), *people("flat", "sick", 40, name="s"))
OFFICIAL = catalog(
    *people("train", "normal", 50, 2),
    *people("train", "sick", 30, name="s"),
    *people("val", "normal", 4),
    *people("val", "sick", 4, name="s"),
    *people("test", "normal", 10),
    *people("test", "sick", 20, name="s"),
)


def patients(records: tuple[Record, ...]) -> set[str]:
    return {r.patient for r in records}


@pytest.mark.parametrize(
    ("data", "protocol"), [(FLAT, "pooled"), (OFFICIAL, "official"), (OFFICIAL, "pooled")]
)
@pytest.mark.parametrize("seed", range(5))
def test_no_sick_image_and_no_test_patient_is_trained_on(
    data: Catalog, protocol: Any, seed: int
) -> None:
    result = split(data, DataConfig(protocol=protocol), seed)
    assert all(r.label == "normal" for r in result.train + result.validation)
    parts = [patients(getattr(result, part)) for part in PARTS]
    assert sum(map(len, parts)) == len(set.union(*parts))
    paths = [r.path for part in PARTS for r in getattr(result, part)]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("data", [FLAT, OFFICIAL])
def test_the_same_seed_gives_the_same_split_and_another_seed_another(data: Catalog) -> None:
    first, again, other = (split(data, DataConfig(), seed) for seed in (1, 1, 2))
    assert first == again
    assert first.train != other.train


def test_the_order_of_the_files_does_not_matter() -> None:
    turned = Catalog(FLAT.root, FLAT.records[::-1])
    config = DataConfig(protocol="pooled")
    one, two = split(FLAT, config, 3), split(turned, config, 3)
    assert [r.path for r in one.train] == [r.path for r in two.train]


def test_pooled_test_is_half_sick_and_parts_have_the_configured_sizes() -> None:
    config = DataConfig(protocol="pooled", test_fraction=0.2, validation_fraction=0.1)
    result = split(FLAT, config, 0)
    labels = [r.label for r in result.test]
    assert labels.count("sick") == labels.count("normal") == 24
    assert len(result.validation) == 10
    assert len(result.train) == 86
    assert result.protocol == "pooled"


def test_pooled_takes_all_sick_images_when_there_are_few() -> None:
    few = catalog(*people("flat", "normal", 60, 2), *people("flat", "sick", 3, name="s"))
    labels = [r.label for r in split(few, DataConfig(), 0).test]
    assert (labels.count("sick"), labels.count("normal")) == (3, 18)


def test_official_keeps_the_test_of_the_folder_and_its_validation_images() -> None:
    result = split(OFFICIAL, DataConfig(protocol="official", validation_fraction=0.1), 0)
    assert {r.path for r in result.test} == {
        r.path for r in OFFICIAL.records if r.source_split == "test"
    }
    given = {r.path for r in OFFICIAL.of("normal") if r.source_split == "val"}
    assert given <= {r.path for r in result.validation}
    assert len(result.validation) == 4 + 10
    assert len(result.train) == 90


def test_a_patient_of_the_given_validation_images_is_not_trained_on() -> None:
    others = [record("train", "normal", f"valp{i}", 9) for i in range(4)]
    result = split(catalog(*OFFICIAL.records, *others), DataConfig(), 0)
    assert {r.path for r in others} <= {r.path for r in result.validation}
    assert patients(result.train).isdisjoint(patients(result.validation))


def test_auto_is_official_where_the_folder_has_a_whole_test_and_else_pooled() -> None:
    assert split(OFFICIAL, DataConfig(), 0).protocol == "official"
    assert split(FLAT, DataConfig(), 0).protocol == "pooled"
    half = catalog(*people("train", "normal", 50), *people("test", "normal", 10))
    assert split(half, DataConfig(), 0).protocol == "pooled"


def test_official_without_a_test_in_the_folder_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"data\.protocol=pooled"):
        split(FLAT, DataConfig(protocol="official"), 0)


def test_normal_images_of_sick_or_tested_patients_are_left_out_and_counted() -> None:
    shared = catalog(
        *OFFICIAL.records,
        record("train", "normal", "trains3", 1),
        record("train", "normal", "testp2", 1),
        record("train", "normal", "tests5", 1),
    )
    result = split(shared, DataConfig(), 0)
    assert sum(result.left_out.values()) == 3
    assert "3 left out" in result.summary()
    assert not {"trains3", "testp2", "tests5"} & patients(result.train + result.validation)


@pytest.mark.parametrize(
    "records",
    [
        people("flat", "normal", 1, each=100),  # one patient cannot be divided
        people("flat", "normal", 5),
        [record("flat", "normal", f"p{i}") for i in range(30)]
        + [record("flat", "sick", f"p{i}", 1) for i in range(30)],
        people("test", "normal", 30) + people("test", "sick", 30, name="s"),
    ],
)
def test_too_few_patients_are_refused_in_one_line(records: list[Record]) -> None:
    with pytest.raises(DataError, match="expected at least") as caught:
        split(catalog(*records), DataConfig(), 0)
    assert "\n" not in str(caught.value)


def test_a_manifest_survives_json_and_gives_back_the_same_split(tmp_path: Path) -> None:
    for data in (FLAT, OFFICIAL):
        result = split(data, DataConfig(), 4)
        file = tmp_path / "split.json"
        file.write_text(json.dumps(result.manifest()))
        assert from_manifest(read_manifest(file), data) == result


def test_fingerprints_tell_splits_apart_part_by_part() -> None:
    one, two = (split(OFFICIAL, DataConfig(), seed).fingerprints() for seed in (1, 2))
    assert one["test"] == two["test"]
    assert one["train"] != two["train"]
    assert len(set(one.values())) == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"train": 3}', "null", '{"train": [[1]]}'])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "split.json"
    file.write_text(content)
    with pytest.raises(DataError) as caught:
        from_manifest(read_manifest(file), FLAT)
    assert "\n" not in str(caught.value)


def test_a_missing_manifest_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.json"):
        from_manifest(read_manifest(tmp_path / "nothing.json"), FLAT)


@pytest.mark.parametrize("field", ["protocol", "seed", "train", "left_out", "fingerprints"])
@pytest.mark.parametrize("value", [None, 7, "text", [["a"]]])
def test_a_manifest_with_a_field_of_another_kind_is_refused(field: str, value: object) -> None:
    manifest = split(FLAT, DataConfig(), 0).manifest()
    if field in ("protocol", "seed"):
        del manifest[field]
    else:
        manifest[field] = value
    with pytest.raises(DataError):
        from_manifest(manifest, FLAT)


Edit = Callable[[dict[str, Any]], None]


def move_from_test(manifest: dict[str, Any]) -> None:
    manifest["train"].append(manifest["test"].pop())


def copy_from_test(manifest: dict[str, Any]) -> None:
    manifest["validation"].append(manifest["test"][0])


def add_a_sick_one(manifest: dict[str, Any]) -> None:
    manifest["train"].append(next(row for row in manifest["test"] if "/sick/" in row[0]))


def drop_a_test_image(manifest: dict[str, Any]) -> None:
    manifest["test"].pop(0)


def swap_hashes(manifest: dict[str, Any]) -> None:
    one, other = manifest["train"][0], manifest["test"][0]
    one[1], other[1] = other[1], one[1]


def swap_paths(manifest: dict[str, Any]) -> None:
    one, other = manifest["train"][0], manifest["test"][0]
    one[0], other[0] = other[0], one[0]


def name_a_stranger(manifest: dict[str, Any]) -> None:
    manifest["train"].append(["elsewhere/normal/x.png", "another hash"])


def repeat_a_row(manifest: dict[str, Any]) -> None:
    manifest["train"].append(manifest["train"][0])


@pytest.mark.parametrize(
    "edit",
    [move_from_test, copy_from_test, add_a_sick_one, drop_a_test_image, swap_hashes, swap_paths,
     name_a_stranger, repeat_a_row],
)  # fmt: skip
def test_a_manifest_changed_by_hand_is_a_leak(edit: Edit, tmp_path: Path) -> None:
    manifest = split(OFFICIAL, DataConfig(), 0).manifest()
    edit(manifest)
    file = tmp_path / "split.json"
    file.write_text(json.dumps(manifest))
    with pytest.raises(LeakError):
        from_manifest(read_manifest(file), OFFICIAL)


def test_data_that_changed_since_the_split_is_a_leak_that_names_the_path() -> None:
    result = split(FLAT, DataConfig(), 0)
    gone = result.train[5]
    changed = tuple(replace(r, sha256="new") if r == gone else r for r in FLAT.records)
    with pytest.raises(LeakError, match=gone.path):
        from_manifest(result.manifest(), Catalog(FLAT.root, changed))


def test_a_split_says_its_sizes_in_one_line() -> None:
    result = Split("pooled", 0, FLAT.records[:9], FLAT.records[9:13], FLAT.records[-5:], {"why": 2})
    assert result.summary() == (
        "pooled protocol: 9 training, 4 validation, 5 test images (5 sick); 2 left out: why"
    )
