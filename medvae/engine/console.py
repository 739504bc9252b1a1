"""A run's events as progress bars and lines on a terminal."""

import sys

from tqdm import tqdm

from medvae.engine.events import (
    EpochEnded,
    Event,
    FormatChosen,
    Preparing,
    Progress,
    RunEnded,
    RunStarted,
)


class ConsoleProgress:
    """Listens to a run; use as a context manager so that the last bar is closed."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""

    def __enter__(self) -> "ConsoleProgress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Preparing):
            self._show(event.stage, event.done, event.total, "images")
        elif isinstance(event, FormatChosen):
            tried = "; ".join(f"{name}: {found}" for name, found in event.tried.items())
            self._say(f"trains in {event.format} ({tried or 'too short a run to try others'})")
        elif isinstance(event, RunStarted):
            self._say(
                f"{event.device}, {event.precision}: {event.parameters:,} parameters, "
                f"{event.train_images} training and {event.validation_images} validation images"
                + (f", resumed at step {event.resumed_at_step}" if event.resumed_at_step else "")
            )
        elif isinstance(event, Progress):
            stage = f"Epoch {event.epoch} of {event.epochs}"
            self._show(stage, event.step, event.steps_per_epoch, "steps")
        elif isinstance(event, EpochEnded):
            self._say(
                f"epoch {event.epoch:3d}  loss {event.loss:8.2f}  mse {event.mse:8.2f}  "
                f"kld {event.kld:7.2f}  validation {event.validation_loss:8.2f}"
                f"{' *' if event.best else '  '}  {event.images_per_second:6.0f} images/s"
            )
        elif isinstance(event, RunEnded):
            self._say(f"trained for {event.seconds:.0f} s, best epoch {event.best_epoch}")

    def _show(self, stage: str, done: int, total: int, unit: str) -> None:
        if self._bar is None or stage != self._stage:
            self._close()
            self._stage = stage
            self._bar = tqdm(
                desc=stage, total=total, unit=f" {unit}", leave=False, disable=None, file=sys.stderr
            )
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def _say(self, line: str) -> None:
        self._close()
        print(line, flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
