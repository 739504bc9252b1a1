"""What a sweep tries, and how its runs are ranked: by healthy validation images alone.

A sweep is one parent job and a `train` job for each combination of values. Knows nothing of the
job table.

Validation losses of different beta are not comparable, because beta is part of the loss. So runs
are ranked by MSE + KLD at beta 1 (the negative ELBO, up to constants) of the epoch that each run
chose by its own loss. No test image, and no sick one, has a say. What would change the validation
images or their size cannot be tried, since nothing could be compared then.
"""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from jobs.views import JobView
from medvae.config import Config
from medvae.errors import ConfigError

SWEEP = "sweep"
MOST_RUNS = 200
TRIED = (
    "loss.beta",
    "loss.kl_warmup_epochs",
    "model.width",
    "model.latent_size",
    "training.learning_rate",
    "training.batch_size",
    "training.epochs",
    "training.augment",
)


@dataclass(frozen=True)
class Range:
    """Drawn log-uniformly between the two, both above zero; whole numbers if both are."""

    low: float
    high: float

    def draw(self, source: random.Random) -> float:
        value = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
        whole = float(self.low).is_integer() and float(self.high).is_integer()
        return round(value) if whole else float(f"{value:.3g}")


Values = list[Any] | Range


@dataclass(frozen=True)
class SweepPlan:
    """`trials` = None: every combination (a grid); else so many different random ones."""

    space: dict[str, Values]
    trials: int | None = None
    seed: int = 0

    @classmethod
    def parse(
        cls, assignments: Sequence[str], trials: int | None = None, seed: int = 0
    ) -> "SweepPlan":
        """From `loss.beta=0.5,1,2` and `training.learning_rate=1e-4..1e-2`."""
        return cls(dict(_parse(assignment) for assignment in assignments), trials, seed)

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> "SweepPlan":
        space = {
            key: Range(**values) if isinstance(values, dict) else values
            for key, values in payload["space"].items()
        }
        return cls(space, payload["trials"], payload["seed"])

    def payload(self) -> dict[str, Any]:
        """The plan as plain values, for the job table."""
        space = {
            key: {"low": values.low, "high": values.high} if isinstance(values, Range) else values
            for key, values in self.space.items()
        }
        return {"space": space, "trials": self.trials, "seed": self.seed}

    def changes(self) -> list[dict[str, Any]]:
        """What each run changes in the configuration. Raises `ConfigError`."""
        self._check()
        if self.trials is None:
            values = [choices for choices in self.space.values() if isinstance(choices, list)]
            combinations = itertools.product(*values)
            return [dict(zip(self.space, chosen, strict=True)) for chosen in combinations]
        source = random.Random(self.seed)
        found: list[dict[str, Any]] = []
        for _ in range(100 * self.trials):  # a small space may hold fewer than were asked for
            drawn = {key: _draw(values, source) for key, values in self.space.items()}
            if drawn not in found:
                found.append(drawn)
            if len(found) == self.trials:
                break
        return found

    def configs(self, base: Config) -> list[tuple[dict[str, Any], Config]]:
        """The changes and the whole configuration of each run. Raises `ConfigError`."""
        return [(change, base.override(change)) for change in self.changes()]

    def _check(self) -> None:
        if not self.space:
            raise ConfigError("a sweep needs something to try: loss.beta=0.5,1,2")
        for key, values in self.space.items():
            if key not in TRIED:
                raise ConfigError(f"a sweep cannot try {key!r}: expected one of {', '.join(TRIED)}")
            if isinstance(values, Range) and self.trials is None:
                raise ConfigError(f"{key}: a range needs a random search; give its number of runs")
            if isinstance(values, Range) and not 0 < values.low < values.high:
                raise ConfigError(f"{key}: expected LOW..HIGH with 0 < LOW < HIGH")
        sizes = [len(values) for values in self.space.values() if isinstance(values, list)]
        runs = math.prod(sizes) if self.trials is None else self.trials
        if not 1 <= runs <= MOST_RUNS:
            raise ConfigError(f"a sweep of {runs} runs: expected 1 to {MOST_RUNS}")


@dataclass(frozen=True)
class Trial:
    """One run of a sweep; `elbo` is None until it has finished, lower is better."""

    job: JobView
    changes: dict[str, Any]
    elbo: float | None

    def line(self) -> str:
        figure = "" if self.elbo is None else f"{self.elbo:.2f}"
        return f"{figure:>10}  {self.job.status.value:<9}  {self.job.id:<22}  {told(self.changes)}"


def ranked(runs: Sequence[JobView]) -> list[Trial]:
    """The best first, then those without a figure."""
    trials = [_trial(job) for job in runs]
    return sorted(
        trials, key=lambda trial: (math.inf if trial.elbo is None else trial.elbo, trial.job.name)
    )


def told(changes: dict[str, Any]) -> str:
    """For people: `beta=0.5 width=16`."""
    return " ".join(f"{key.partition('.')[2]}={value}" for key, value in changes.items())


def _trial(job: JobView) -> Trial:
    elbo = (job.result or {}).get("best_validation_elbo")
    usable = isinstance(elbo, float) and math.isfinite(elbo)
    return Trial(job, job.payload.get("changes", {}), elbo if usable else None)


def _draw(values: Values, source: random.Random) -> Any:
    return values.draw(source) if isinstance(values, Range) else source.choice(values)


def _parse(assignment: str) -> tuple[str, Values]:
    key, equals, text = assignment.partition("=")
    if not equals or not text:
        raise ConfigError(f"{assignment!r}: expected SECTION.KEY=VALUE,VALUE or LOW..HIGH")
    low, dots, high = text.partition("..")
    try:
        if dots:
            return key.strip(), Range(float(low), float(high))
        return key.strip(), [_value(part) for part in text.split(",")]
    except (ValueError, yaml.YAMLError):
        raise ConfigError(
            f"{assignment!r}: expected numbers, as in 0.5,1,2 or 1e-4..1e-2"
        ) from None


def _value(text: str) -> Any:
    value = yaml.safe_load(text)
    return (
        value if isinstance(value, bool | int | float) else float(text)
    )  # YAML reads 1e-4 as text
