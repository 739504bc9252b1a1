"""The presets that come with the program, and what the configuration refuses."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from medvae.config import Config, parse_overrides, presets
from medvae.errors import ConfigError
from medvae.workspace import CONFIGS


def refusal(values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.parse(values, "mine.yaml")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads_by_name_and_by_path(name: str) -> None:
    assert Config.load(name) == Config.load(CONFIGS / f"{name}.yaml")


def test_presets_are_the_files_in_configs() -> None:
    assert presets() == sorted(path.stem for path in CONFIGS.iterdir() if path.suffix == ".yaml")
    assert {"default", "reference", "quick"} <= set(presets())


def test_the_reference_is_what_is_built_in() -> None:
    assert Config.load("reference") == Config()


def test_default_preset_shows_every_key() -> None:
    written = yaml.safe_load((CONFIGS / "default.yaml").read_text(encoding="utf-8"))
    assert {section: set(keys) for section, keys in written.items()} == {
        section: set(keys) for section, keys in Config().model_dump().items()
    }


def test_every_setting_says_what_it_is_for() -> None:
    sections = Config.model_fields
    undescribed = [
        f"{section}.{key}"
        for section, field in sections.items()
        for key, setting in field.annotation.model_fields.items()  # type: ignore[union-attr]
        if not setting.description
    ]
    assert undescribed == []


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"model": {"latent_size": 0}}, "model.latent_size"),
        ({"model": {"latent_size": "many"}}, "model.latent_size"),
        ({"model": {"image_size": 100}}, "model.image_size"),
        ({"model": {"width": 0}}, "model.width"),
        ({"training": {"epochs": -1}}, "training.epochs"),
        ({"training": {"epochs": 0}}, "training.epochs"),
        ({"training": {"epochs": 1.5}}, "training.epochs"),
        ({"training": {"batch_size": 0}}, "training.batch_size"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate"),
        ({"training": {"precision": "fp8"}}, "training.precision"),
        ({"training": {"seed": -1}}, "training.seed"),
        ({"training": {"save_every_seconds": 0}}, "training.save_every_seconds"),
        ({"loss": {"beta": -0.1}}, "loss.beta"),
        ({"loss": {"beta": float("nan")}}, "loss.beta"),
        ({"loss": {"kl_warmup_epochs": float("inf")}}, "loss.kl_warmup_epochs"),
        ({"data": {"protocol": "mine"}}, "data.protocol"),
        ({"data": {"validation_fraction": 0}}, "data.validation_fraction"),
        ({"data": {"test_fraction": 0.5}}, "data.test_fraction"),
        ({"data": {"normal": ""}}, "data.normal"),
        ({"data": {"phantoms": 3}}, "data.phantoms"),
        ({"detection": {"target_fpr": 0}}, "detection.target_fpr"),
        ({"detection": {"target_fpr": 1}}, "detection.target_fpr"),
        ({"training": None}, "training"),
        ({"training": {"epoch": 3}}, "training.epoch"),
        ({"trainning": {}}, "trainning"),
    ],
)
def test_an_impossible_value_or_unknown_key_is_refused_by_name(values: Any, key: str) -> None:
    message = refusal(values)
    assert message.startswith("mine.yaml: ")
    assert re.search(rf"(^|[ ;]){re.escape(key)}: ", message)


def test_all_faults_are_reported_together_with_what_was_found() -> None:
    message = refusal(
        {"model": {"latent_size": 0}, "training": {"epochs": -1, "lr": 1}, "colour": "blue"}
    )
    for part in ("model.latent_size", "found 0", "training.epochs", "found -1", "training.lr"):
        assert part in message
    assert "colour" in message


def test_the_two_label_folders_need_different_names_whatever_their_case() -> None:
    assert "same name" in refusal({"data": {"normal": "Lungs", "sick": "lungs"}})


@pytest.mark.parametrize("values", [[], "text", 3])
def test_something_else_than_a_mapping_is_refused(values: Any) -> None:
    assert "mine.yaml" in refusal(values)


@pytest.mark.parametrize(
    "content",
    [b"training: [", b"a: b: c", b"\xff\xfe\x00", b"!!python/object/apply:os.getcwd []", b"\t- x"],
)
def test_a_file_that_is_not_yaml_is_refused_in_one_line_that_names_it(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.yaml") as caught:
        Config.load(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_presets() -> None:
    with pytest.raises(ConfigError, match="no configuration nowhere") as caught:
        Config.load("nowhere")
    assert all(name in str(caught.value) for name in presets())


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")
    assert Config.load(file) == Config()


def test_a_file_changes_only_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("training:\n  epochs: 3\n")
    assert Config.load(file) == Config().override({"training.epochs": 3})


def test_overrides_replace_single_keys_and_leave_the_original_alone() -> None:
    before = Config()
    after = before.override(
        parse_overrides(["training.epochs=5", "data.root=~/my data", "loss.beta=.5"])
    )
    assert (after.training.epochs, after.data.root, after.loss.beta) == (
        5,
        str(Path("~/my data").expanduser()),
        0.5,
    )
    assert after.training.batch_size == before.training.batch_size
    assert before == Config()


@pytest.mark.parametrize(
    "assignment",
    ["training.epochs", "epochs=5", "training.epoch=5", "training.epochs=-1", "nothing.epochs=5",
     "training=5", "training.epochs=[", "training.epochs=@5", "=5", "training.epochs="],
)  # fmt: skip
def test_an_override_that_makes_no_sense_is_refused_in_one_line(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().override(parse_overrides([assignment]))
    assert "\n" not in str(caught.value)


def test_a_data_set_is_the_same_one_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text("data:\n  root: images\n")
    monkeypatch.chdir(tmp_path)
    config = Config.load("mine.yaml")
    assert config.data.root == str(tmp_path / "images")
    monkeypatch.chdir("/")
    assert Config.parse(config.model_dump()) == config
    with pytest.raises(ConfigError, match=r"data\.root: .*null"):
        config.override({"data.root": "a\0b"})


def test_a_configuration_survives_plain_values() -> None:
    config = Config.load("quick").override({"data.root": "/somewhere", "training.augment": True})
    assert Config.parse(config.model_dump(mode="json")) == config


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().training.epochs = 3  # type: ignore[misc]
