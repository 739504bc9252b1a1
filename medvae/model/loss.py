"""The training loss and its two parts, with their reduction stated exactly."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medvae.config import LossConfig
from medvae.model.vae import VAEOutput


class LossParts(NamedTuple):
    """Means over the batch, float32 scalars on the device."""

    loss: Tensor
    mse: Tensor
    kld: Tensor


class VAELoss:
    """MSE + beta × KL divergence, both summed within an image and averaged over the batch.

    MSE is the squared error summed over the pixels of an image: up to a factor of two and a
    constant the negative log-likelihood of a Gaussian with unit variance, so that beta = 1
    weighs the two as nats against nats of that model. beta rises linearly from zero over the
    first `kl_warmup_epochs`, so that the latent code is used before it is taxed. Higgins et
    al., "beta-VAE" (2017); Bowman et al., "Generating Sentences from a Continuous Space"
    (2016) for the warm-up.
    """

    def __init__(self, config: LossConfig) -> None:
        self.config = config

    def beta_at(self, epochs_done: float) -> float:
        """beta after `epochs_done` epochs, fractions included."""
        warmup = self.config.kl_warmup_epochs
        return self.config.beta * (min(1.0, epochs_done / warmup) if warmup else 1.0)

    def __call__(self, output: VAEOutput, target: Tensor, beta: float | None = None) -> LossParts:
        """Loss of a batch; target (B, 1, S, S) in [0, 1]; beta defaults to its final value."""
        mse = squared_error(output.reconstruction, target).mean()
        kld = kl_divergence(output.mu, output.logvar).mean()
        weight = self.config.beta if beta is None else beta
        return LossParts(mse + weight * kld, mse, kld)


def patch_error(output: VAEOutput, changed: Tensor) -> Tensor:
    """Binary cross-entropy of the patch map against where patches are, zero without a patch head.

    changed: (B, 1, S, S) in 0..1, averaged over the places of the map. In nats, summed over the
    pixels of an image and averaged over the batch as the squared error is: so neither of the two
    tasks drowns the other in the encoder.
    """
    if output.patch_logits is None:
        return changed.new_zeros(())
    logits = output.patch_logits.float()
    wanted = F.adaptive_avg_pool2d(changed.float(), logits.shape[-1])
    return changed[0].numel() * F.binary_cross_entropy_with_logits(logits, wanted)


def squared_error(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Squared error summed over each image's pixels: (B, 1, S, S) twice → (B,) float32."""
    return (reconstruction.float() - target.float()).square().flatten(1).sum(1)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) ‖ N(0, 1)) summed over z, in nats: (B, Z) twice → (B,) float32.

    Kingma and Welling (2013), appendix B.
    """
    mu, logvar = mu.float(), logvar.float()
    return 0.5 * (mu.square() + torch.exp(logvar) - 1.0 - logvar).sum(1)
