"""The typed configuration: every number a run depends on, with its bounds and its meaning.

Loaded from YAML, changed by `key=value` overrides or the page's fields, frozen into every
checkpoint. Unknown keys are refused and all faults are reported together.
"""

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medvae.errors import ConfigError
from medvae.workspace import CONFIGS

# Where a run computes and how often it saves: all that may change before it is finished.
_MAY_CHANGE = {"training.device", "training.precision", "training.save_every_seconds"}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(Section):
    """Which images, and how they are split."""

    root: str | None = Field(None, description="Folder with the images; none = built-in phantoms.")
    normal: str = Field("NORMAL", min_length=1, description="Name of the folder of healthy images.")
    sick: str = Field("PNEUMONIA", min_length=1, description="Name of the folder of sick images.")
    protocol: Literal["auto", "official", "pooled"] = Field(
        "auto",
        description="official: the folder's own test split; pooled: all normals pooled and split "
        "by patient, test half sick; auto: official where the folder has a test split.",
    )
    validation_fraction: float = Field(
        0.12, gt=0, lt=0.5, description="Share of the training patients held out for validation."
    )
    test_fraction: float = Field(
        0.15, gt=0, lt=0.5, description="Share of the normal patients in the test set (pooled)."
    )
    phantoms: int = Field(
        600, ge=40, le=100_000, description="Images to draw when there is no folder."
    )

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: str | None) -> str | None:
        # A worker, and whoever evaluates the model later, may run in another folder.
        if root is None:
            return None
        if root.encode("utf-8", "replace").decode() != root:
            raise ValueError(f"{root!r} is not UTF-8; rename the folder")
        return os.path.realpath(os.path.expanduser(root))  # noqa: PTH111 (Path's may raise)

    @model_validator(mode="after")
    def _labels_differ(self) -> "DataConfig":
        if self.normal.lower() == self.sick.lower():
            raise ValueError(f"normal and sick folders have the same name, {self.normal!r}")
        return self


class ModelConfig(Section):
    """Shape of the variational autoencoder."""

    image_size: Literal[32, 64, 128, 256] = Field(128, description="Side of the input, in pixels.")
    width: int = Field(32, ge=4, le=256, description="Channels after the first convolution.")
    latent_size: int = Field(256, ge=1, le=4096, description="Length of the latent vector z.")
    refine: bool = Field(
        False, description="A 3x3 convolution after each strided one but the first."
    )
    patch_head: bool = Field(
        False, description="A second head that says where a patch does not belong."
    )


class LossConfig(Section):
    """MSE + beta x KL divergence."""

    beta: float = Field(1.0, ge=0, le=1000, description="Weight of the KL divergence.")
    kl_warmup_epochs: float = Field(
        2.0, ge=0, le=1000, description="Epochs over which beta rises linearly from zero."
    )


class PatchConfig(Section):
    """The second task: telling and locating patches pasted into healthy images."""

    weight: float = Field(
        1.0, ge=0, le=1000, description="Weight of the patch map's error beside MSE + beta x KLD."
    )
    share: float = Field(0.7, ge=0, le=1, description="Share of the images that get a patch.")
    patches: int = Field(3, ge=1, le=8, description="Most patches an image.")
    reacquire: float = Field(
        1.0, ge=0, le=1, description="Strength of exposure, sharpness, noise and border changes."
    )


class TrainingConfig(Section):
    """The optimisation, and where it runs."""

    epochs: int = Field(20, ge=1, le=10_000, description="Passes over the training images.")
    least_images: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="A smaller set is passed through several times an epoch, to about so many.",
    )
    batch_size: int = Field(64, ge=1, le=4096, description="Images a step.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Peak learning rate of Adam.")
    weight_average: float = Field(
        0.0, ge=0, lt=1, description="Decay a step of the averaged weights; 0 = no averaging."
    )
    augment: bool = Field(
        False, description="Move, turn, zoom and re-expose each training image a little."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of every random draw.")
    device: str = Field("auto", description="auto, mps, cuda, cuda:1 or cpu.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Number format of the forward and backward pass."
    )
    save_every_seconds: float = Field(
        30.0, gt=0, le=3600, description="Longest time between two resume points."
    )


class DetectionConfig(Section):
    """How a score becomes a verdict."""

    target_fpr: float = Field(
        0.05, gt=0, lt=0.5, description="Share of healthy images that may be called unusual."
    )


class Config(Section):
    """Everything a run depends on."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    patch: PatchConfig = PatchConfig()
    training: TrainingConfig = TrainingConfig()
    detection: DetectionConfig = DetectionConfig()

    @classmethod
    def parse(cls, values: Any, source: str = "configuration") -> "Config":
        """Build a config from nested plain values; `ConfigError` lists every fault at once."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: {_faults(error)}") from None

    @classmethod
    def load(cls, path: str | Path) -> "Config":
        """Read a YAML file, or a preset by name (`default`, `quick`)."""
        file = _find(path)
        values = read_yaml_file(file)
        return cls.parse({} if values is None else values, str(file))

    def override(self, changes: dict[str, Any]) -> "Config":
        """A copy with dotted keys replaced: `{"training.epochs": 5}`."""
        values = self.model_dump()
        for dotted, value in changes.items():
            section, _, key = dotted.partition(".")
            if not key or not isinstance(values.get(section), dict):
                raise ConfigError(
                    f"unknown setting {dotted!r}: expected SECTION.KEY with a section out of "
                    f"{', '.join(values)}"
                )
            values[section][key] = value
        return Config.parse(values, "changed configuration")

    def check_same_run(self, known: Any, where: Path) -> None:
        """Raise `ConfigError`, naming what differs, unless a run begun with `known` is this one.

        known: a configuration as plain values, which was read from `where`.
        """
        begun = Config.parse(known, f"{where}: its configuration").model_dump()
        differing = [
            f"{section}.{key} was {begun[section][key]!r} and is {value!r}"
            for section, values in self.model_dump().items()
            for key, value in values.items()
            if f"{section}.{key}" not in _MAY_CHANGE and begun[section][key] != value
        ]
        if differing:
            raise ConfigError(
                f"{where}: of a run with other settings ({', '.join(differing)}); go on with the "
                "same ones, or take another name"
            )


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """`["training.epochs=5"]` to `{"training.epochs": 5}`; values are read as YAML."""
    changes = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r}: expected SECTION.KEY=VALUE")
        changes[key.strip()] = read_yaml(value, key.strip())
    return changes


def read_yaml_file(file: Path) -> Any:
    """What stands in a YAML file; `ConfigError` when it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not a file that can be read ({_one_line(error)})") from None
    return read_yaml(text, str(file))


def read_yaml(text: str, source: str) -> Any:
    """The values that a text stands for; `ConfigError` when it is not YAML."""
    try:
        return yaml.safe_load(text)
    # Beside its own errors PyYAML raises those of Python's: of an impossible date or number, and
    # of brackets that are nested too deep.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{source}: not readable YAML ({_one_line(error)}); put a text in quotes"
        ) from None


def presets() -> list[str]:
    """Names of the presets that come with the program."""
    return sorted(file.stem for file in CONFIGS.glob("*.yaml"))


def _find(path: str | Path) -> Path:
    for file in (Path(path), CONFIGS / f"{path}.yaml"):
        if file.is_file():
            return file
    raise ConfigError(f"no configuration {path!s}: expected a YAML file or one of {presets()}")


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'top level'}: {fault['msg']}"
        + (f" (found {_shown(fault['input'])})" if fault["type"] != "value_error" else "")
        for fault in error.errors(include_url=False)
    )


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # Python prints no number of more than 4300 digits
        return "a number too long to print"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
