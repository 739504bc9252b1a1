"""How many healthy images the threshold really calls unusual, by the number that it rests on.

The validation images that order the p-values have also set the weights of `combined`. Here healthy
scores are drawn from a known distribution, correlated kinds of evidence, so that any number of new
ones can be judged. Beside it stands what split conformal prediction promises where nothing was
fitted to those images.

    python -m benchmarks.threshold
"""

import math

import numpy as np
import torch
import typer
from torch import Tensor

from medvae.engine.scores import COMBINED, combine, common_scale

TARGET = 0.05
NEW = 400  # healthy images judged each time


def false_positives(images: int, turns: int, rng: np.random.Generator) -> np.ndarray:
    """Share of new healthy images called unusual, in each turn: (turns,)."""
    mixing = 0.5 * rng.normal(size=(len(COMBINED), len(COMBINED))) + np.eye(len(COMBINED))

    def draw(count: int) -> dict[str, Tensor]:
        scores = rng.normal(size=(count, len(COMBINED))) @ mixing.T
        return {name: torch.from_numpy(scores[:, k]) for k, name in enumerate(COMBINED)}

    shares = []
    for _ in range(turns):
        validation = draw(images)
        scale = common_scale(validation)
        ordered = combine(validation, scale).sort().values
        threshold = ordered[-math.floor(TARGET * (images + 1) + 1e-9)]
        shares.append(float((combine(draw(NEW), scale) > threshold).double().mean()))
    return np.array(shares)


def main(turns: int = 600, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for images in (20, 40, 60, 100, 144, 300, 1000):
        shares = false_positives(images, turns, rng)
        promised = math.floor(TARGET * (images + 1) + 1e-9) / (images + 1)
        error = shares.std() / math.sqrt(turns)
        print(
            f"{images:5d} validation images: {shares.mean():.4f} ± {error:.4f} called unusual, "
            f"{promised:.4f} with nothing fitted to them"
        )


if __name__ == "__main__":
    typer.run(main)
