"""How unusual an image is, in numbers: pure functions of one forward pass.

Every score rises with abnormality, and none rises with brightness or sharpness as such. Add one
by adding a function to `SCORES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medvae.data.smoothing import smooth
from medvae.engine.evidence import INSIDE, vectors
from medvae.engine.healthy import CommonScale, Healthy, Share
from medvae.model.loss import kl_divergence, squared_error
from medvae.model.vae import VAEOutput

STRONGEST = 0.05  # share of the chest that counts as the map's strongest part
SSIM_WINDOW = 0.012  # standard deviation of the local statistics, as a share of the side


@dataclass(frozen=True)
class View:
    """One batch as the network sees it, and what healthy ones look like."""

    images: Tensor  # (B, 1, S, S)
    output: VAEOutput
    healthy: Healthy
    beta: float

    @cached_property
    def vectors(self) -> dict[str, Tensor]:
        return vectors(self.images, self.output, self.healthy.field)

    @cached_property
    def residual_z(self) -> Tensor:
        return self.healthy.residual_z(self.images - self.output.reconstruction)

    @cached_property
    def z_map(self) -> Tensor:
        return self.healthy.z_map(self.residual_z, self.output.patch_logits)

    @property
    def anomaly_map(self) -> Tensor:
        """(B, S, S), signed z-scores, weaker outside the chest."""
        return self.z_map * self.healthy.weight.to(self.z_map.device)


def mse(view: View) -> Tensor:
    """Squared reconstruction error summed over the pixels: → (B,)."""
    return squared_error(view.output.reconstruction, view.images)


def kld(view: View) -> Tensor:
    """KL divergence of q(z|x) from the standard normal, in nats: → (B,)."""
    return kl_divergence(view.output.mu, view.output.logvar)


def elbo(view: View) -> Tensor:
    """MSE + beta × KLD, the VAE's training loss of this image (the negative ELBO): → (B,)."""
    return mse(view) + view.beta * kld(view)


def ssim(view: View) -> Tensor:
    """1 − mean structural similarity of image and reconstruction: → (B,).

    Wang et al., "Image Quality Assessment" (2004), with their constants for a range of 1.
    """
    x, y = view.images, view.output.reconstruction
    mean_x, mean_y = smooth(x, SSIM_WINDOW), smooth(y, SSIM_WINDOW)
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    covariance = smooth(x * y, SSIM_WINDOW) - product
    variances = smooth(x.square() + y.square(), SSIM_WINDOW) - squares  # the sum of both
    numerator = (2 * product + 0.01**2) * (2 * covariance + 0.03**2)
    denominator = (squares + 0.01**2) * (variances + 0.03**2)
    return 1 - (numerator / denominator).flatten(1).mean(1)


def residual(view: View) -> Tensor:
    """Log mean squared z-score of the residual, weighted by the chest field: → (B,)."""
    z = view.residual_z
    field = view.healthy.field.to(z.device)
    return ((z.square() * field).flatten(1).sum(1) / field.sum() + 1e-6).log()


def hotspots(view: View) -> Tensor:
    """Log mean squared z-score of the anomaly map's strongest twentieth of the chest: → (B,).

    A mean over all of the chest drowns a small lesion, a maximum alone knows nothing of its size.
    """
    inside = (view.healthy.field > INSIDE).to(view.z_map.device)
    squares = view.z_map.square()[:, inside]  # (B, pixels of the chest)
    count = max(1, int(STRONGEST * squares.shape[1]))
    return (squares.topk(count, dim=1).values.mean(1) + 1e-6).log()


def patches(view: View) -> Tensor:
    """Log of the mean probability over the chest that a patch does not belong there: → (B,)."""
    logits = view.output.patch_logits
    if logits is None:
        raise ValueError("this network has no patch head")
    odds = logits.float()
    field = F.adaptive_avg_pool2d(view.healthy.field[None, None], odds.shape[-1]).to(odds.device)
    return ((odds.sigmoid() * field).flatten(1).sum(1) / field.sum() + 1e-6).log()


def _mahalanobis(name: str) -> "ScoreFunction":
    def score(view: View) -> Tensor:
        return view.healthy.gaussians[name].log_distance(view.vectors[name])

    score.__doc__ = (
        f"Log Mahalanobis distance of the {name} evidence (see evidence.py) from the training "
        "normals: → (B,). Lee et al., 'A Simple Unified Framework for Detecting "
        "Out-of-Distribution Samples' (2018)."
    )
    return score


ScoreFunction = Callable[[View], Tensor]
SCORES: dict[str, ScoreFunction] = {
    "mse": mse,
    "kld": kld,
    "elbo": elbo,
    "ssim": ssim,
    "residual": residual,
    "hotspots": hotspots,
    "shape": _mahalanobis("shape"),
    "bands": _mahalanobis("bands"),
    "latent": _mahalanobis("latent"),
    "features": _mahalanobis("features"),
    "regions": _mahalanobis("regions"),
    "patches": patches,
}
NEED_PATCH_HEAD = ("regions", "patches")
COMBINED = ("residual", "hotspots", "bands", "latent", "features", "regions", "patches")
DEFAULT_SCORE = "combined"


def measure(view: View) -> dict[str, Tensor]:
    """Every score that this network can give, name → (B,) float32 on the CPU.

    `combined` comes last and only when the common scale has been measured.
    """
    values = {
        name: score(view).float().cpu()
        for name, score in SCORES.items()
        if view.output.patch_logits is not None or name not in NEED_PATCH_HEAD
    }
    if view.healthy.common_scale:
        values[DEFAULT_SCORE] = combine(values, view.healthy.common_scale)
    return values


def combine(values: dict[str, Tensor], scale: CommonScale) -> Tensor:
    """Sum over kinds of evidence of weight · (score − healthy mean) / healthy spread: → (B,)."""
    parts = [share.weight * (values[n] - share.mean) / share.spread for n, share in scale.items()]
    return torch.stack(parts).sum(0)


def common_scale(values: dict[str, Tensor]) -> CommonScale:
    """How each kind of evidence counts, learnt from its (N,) scores of healthy images alone.

    The weights, none below zero and one in sum, make the combined score vary as little as can be
    among healthy images: what wavers from one healthy chest to the next says little, and what two
    kinds say alike counts once. Markowitz, "Portfolio Selection" (1952); covariances by Ledoit and
    Wolf (2004). The fewer the images, the nearer they stay to equal weights: Frahm and Memmel,
    "Dominating estimators for minimum-variance portfolios" (2010).
    """
    from scipy.optimize import nnls  # late, as below: once a training
    from sklearn.covariance import ledoit_wolf

    names = [name for name in COMBINED if name in values]
    scores = np.stack([values[name].numpy() for name in names], 1).astype(np.float64)  # (N, K)
    means, spreads = scores.mean(0), scores.std(0).clip(1e-6)
    covariance, _ = ledoit_wolf((scores - means) / spreads, assume_centered=True)
    # With C = L L', the least w' C w of that kind is, up to its sum, the least |L' w − L⁻¹ 1|.
    root = np.linalg.cholesky(covariance)
    weights, _ = nnls(root.T, np.linalg.solve(root, np.ones(len(names))))
    weights = _towards_equal(weights / weights.sum(), covariance, len(scores))
    shares = zip(means.tolist(), spreads.tolist(), weights.tolist(), strict=True)
    return {name: Share(*share) for name, share in zip(names, shares, strict=True)}


def _towards_equal(weights: np.ndarray, covariance: np.ndarray, images: int) -> np.ndarray:
    """Weights (K,) of least variance, estimated on so many images, drawn towards equal ones.

    By (K − 3) / (images − K + 2) over the share by which equal weights vary more; never beyond.
    """
    kinds = len(weights)
    equal = np.full(kinds, 1 / kinds)
    if kinds <= 3:
        return weights
    if images <= kinds:
        return equal
    more = (equal @ covariance @ equal) / (weights @ covariance @ weights) - 1
    doubt = min(1.0, (kinds - 3) / (images - kinds + 2) / max(more, 1e-9))
    return np.asarray(doubt * equal + (1 - doubt) * weights)
