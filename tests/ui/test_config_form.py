from typing import Any

import pytest

from medvae.config import Config, presets
from ui.config_form import ELSEWHERE, MAIN, describe_preset, form_fields, read_form, values_of


def settings(**changes: Any) -> dict[str, Any]:
    """The form as it is when nobody has touched it, with some changes."""
    fields = form_fields()
    return {f.key: v for f, v in zip(fields, values_of(Config()), strict=True)} | changes


def test_every_setting_of_the_schema_is_asked_for() -> None:
    schema = {
        f"{section}.{name}" for section, values in Config().model_dump().items() for name in values
    }
    assert {field.dotted for field in form_fields()} == schema - set(ELSEWHERE)
    assert set(MAIN) <= schema


def test_every_setting_has_a_control_with_help() -> None:
    for field in form_fields():
        assert field.help, field.dotted
        control = field.component(field.default)
        assert control.label == field.label


def test_bounds_come_from_the_schema() -> None:
    helps = {field.dotted: field.help for field in form_fields()}
    assert helps["training.epochs"].endswith("1 to 10,000.")
    assert helps["training.learning_rate"].endswith("Above 0, at most 1.")


def test_an_untouched_form_is_the_default_configuration() -> None:
    assert read_form(None, settings()) == Config()


def test_a_changed_form_is_the_changed_configuration() -> None:
    config = read_form("/images", settings(training__epochs=3, training__augment=True))
    assert config == Config().override(
        {"data.root": "/images", "training.epochs": 3, "training.augment": True}
    )


def test_all_faults_are_found_at_once() -> None:
    faults = read_form(
        None,
        settings(
            training__epochs=-1,
            model__latent_size=0,
            loss__beta=None,
            training__device="  ",
            data__sick="normal",
        ),
    )
    assert isinstance(faults, list)
    assert {label for label, _ in faults} == {
        "Epochs",
        "Latent size",
        "Beta",
        "Device",
        "data",
    }
    words = dict(faults)
    assert words["Epochs"] == "should be greater than or equal to 1 (found -1)"
    assert words["Beta"] == "is empty"


@pytest.mark.parametrize("name", presets())
def test_every_preset_says_what_it_is(name: str) -> None:
    words = describe_preset(name)
    assert len(words) > 10
    assert words.endswith(".")
    assert words.count(".") == 1
