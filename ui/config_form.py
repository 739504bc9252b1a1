"""A form made from the configuration's own schema: a new setting appears by itself.

Labels, help, bounds and defaults all come from `medvae.config`; nothing is said twice.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from medvae.config import Config
from medvae.workspace import CONFIGS

MAIN = ("training.epochs", "training.batch_size", "model.latent_size", "loss.beta")
ELSEWHERE = ("data.root",)  # chosen as the data set, not typed as a setting
_ACRONYMS = {"kl": "KL", "fpr": "false-positive rate"}

Fault = tuple[str, str]  # label of the field, what is wrong with it


@dataclass(frozen=True)
class FormField:
    """One setting, as a person sees it."""

    section: str
    name: str
    label: str
    help: str
    kind: Literal["whole", "number", "choice", "switch", "text"]
    default: Any
    choices: tuple[Any, ...] = ()

    @property
    def dotted(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def key(self) -> str:
        """Its name as a keyword argument."""
        return f"{self.section}__{self.name}"

    def component(self, value: Any) -> gr.components.Component:
        common: dict[str, Any] = {
            "label": self.label,
            "info": self.help,
            "elem_id": f"setting-{self.section}-{self.name}",
        }
        if self.kind == "switch":
            return gr.Checkbox(value, **common)
        if self.kind == "choice":
            return gr.Dropdown(list(self.choices), value=value, **common)
        if self.kind == "text":
            return gr.Textbox(value or "", **common)
        # No minimum or maximum here: Gradio would refuse one field at a time, and we all at once.
        return gr.Number(value, precision=0 if self.kind == "whole" else None, **common)


def form_fields() -> list[FormField]:
    """Every setting that the form asks for, in the order of the schema."""
    return [
        _field(section, name, info)
        for section, outer in Config.model_fields.items()
        for name, info in outer.annotation.model_fields.items()  # type: ignore[union-attr]
        if f"{section}.{name}" not in ELSEWHERE
    ]


def read_form(root: str | None, settings: dict[str, Any]) -> Config | list[Fault]:
    """The configuration that the form asks for, or everything that is wrong with it."""
    fields = {field.key: field for field in form_fields()}
    values: dict[str, dict[str, Any]] = {name: {} for name in Config.model_fields}
    values["data"]["root"] = root
    faults = []
    for key, value in settings.items():
        field = fields[key]
        if value is None or (field.kind == "text" and not value.strip()):
            faults.append((field.label, "is empty"))
        values[field.section][field.name] = value
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        return _all_faults(error, faults)
    return faults or config


def values_of(config: Config) -> list[Any]:
    """The values of a configuration in the order of `form_fields`."""
    return [getattr(getattr(config, f.section), f.name) for f in form_fields()]


def describe_preset(name: str) -> str:
    """The first sentence of the comment that opens a preset's file."""
    lines = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda x: x.startswith("#"), lines))
    return comment.partition(". ")[0].rstrip(".") + "."


def _field(section: str, name: str, info: FieldInfo) -> FormField:
    kind, choices = _kind(info.annotation)
    words = [_ACRONYMS.get(word, word) for word in name.split("_")]
    label = " ".join(words)
    return FormField(
        section,
        name,
        label[0].upper() + label[1:],
        " ".join(filter(None, [info.description, _bounds(info)])),
        kind,
        info.default,
        choices,
    )


def _kind(
    annotation: Any,
) -> tuple[Literal["whole", "number", "choice", "switch", "text"], tuple[Any, ...]]:
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        [inner] = [each for each in get_args(annotation) if each is not type(None)]
        return _kind(inner)
    if annotation is bool:
        return "switch", ()
    if annotation is int:
        return "whole", ()
    return ("number" if annotation is float else "text"), ()


def _bounds(info: FieldInfo) -> str:
    """ "1 to 10,000", "above 0, at most 1", or nothing."""
    limits = dict(_limits(info))
    if "ge" in limits and "le" in limits:
        return f"{limits['ge']:,} to {limits['le']:,}."
    words = {"ge": "at least", "gt": "above", "lt": "below", "le": "at most"}
    text = ", ".join(f"{word} {limits[sign]:,}" for sign, word in words.items() if sign in limits)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _limits(info: FieldInfo) -> Iterator[tuple[str, float]]:
    for constraint in info.metadata:
        for sign in ("ge", "gt", "lt", "le"):
            if hasattr(constraint, sign):
                yield sign, getattr(constraint, sign)


def _all_faults(error: ValidationError, found: list[Fault]) -> list[Fault]:
    labels = {field.dotted: field.label for field in form_fields()}
    empty = {label for label, _ in found}
    for fault in error.errors(include_url=False):
        dotted = ".".join(str(part) for part in fault["loc"][:2])
        label = labels.get(dotted, dotted)
        if label not in empty:
            message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
            given = "" if fault["type"] == "value_error" else f" (found {fault['input']})"
            found.append((label, message[0].lower() + message[1:] + given))
    return found
