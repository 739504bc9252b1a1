"""How unusual an image is, in numbers: pure functions of one forward pass.

Every score rises with abnormality. Add one by adding a function to `SCORES`.
"""

from collections.abc import Callable

from torch import Tensor

from medvae.model.loss import kl_divergence, squared_error
from medvae.model.vae import VAEOutput

ScoreFunction = Callable[[Tensor, VAEOutput, float], Tensor]


def mse(images: Tensor, output: VAEOutput, beta: float) -> Tensor:
    """Squared reconstruction error summed over the pixels: (B, 1, S, S) → (B,)."""
    return squared_error(output.reconstruction, images)


def kld(images: Tensor, output: VAEOutput, beta: float) -> Tensor:
    """KL divergence of q(z|x) from the standard normal, in nats: → (B,)."""
    return kl_divergence(output.mu, output.logvar)


def elbo(images: Tensor, output: VAEOutput, beta: float) -> Tensor:
    """MSE + beta × KLD, the training loss of this one image (the negative ELBO): → (B,)."""
    return mse(images, output, beta) + beta * kld(images, output, beta)


SCORES: dict[str, ScoreFunction] = {"mse": mse, "kld": kld, "elbo": elbo}
DEFAULT_SCORE = "elbo"
LABELS = {"mse": "MSE", "kld": "KLD", "elbo": "MSE + beta × KLD"}
