"""Run below torchrun by test_distributed.py: the gradients of a batch divided over processes.

Prints the largest relative difference from the gradients of the whole batch, in float64; then
every process fails.
"""

import torch
from torch import Tensor, nn

from medvae.config import ModelConfig
from medvae.device import choose_compute
from medvae.distributed import World, join
from medvae.errors import MedVAEError
from medvae.model.vae import VAE, VAEOutput

TINY = ModelConfig(image_size=32, width=4, latent_size=8)


def loss_of(output: VAEOutput, images: Tensor) -> Tensor:
    """Like the training loss, but in the precision of its input."""
    error = (output.reconstruction - images).square().sum((1, 2, 3))
    return (error + output.mu.square().sum(1) + output.logvar.exp().sum(1)).mean()


def gradients(model: nn.Module) -> list[Tensor]:
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


def difference(world: World, batch: int) -> float:
    torch.manual_seed(0)
    whole, divided = VAE(TINY).double(), VAE(TINY).double()
    divided.load_state_dict(whole.state_dict())
    network = world.network(divided)
    images = torch.rand(batch, 1, 32, 32, dtype=torch.float64)
    noise = torch.randn(batch, TINY.latent_size, dtype=torch.float64)
    loss_of(whole(images, noise), images).backward()
    mine = world.part(images)
    loss = loss_of(network(mine, world.part(noise)), mine)
    world.weigh(loss, len(mine), batch).backward()
    pairs = [
        *zip(gradients(whole), gradients(divided), strict=True),
        *zip(whole.buffers(), divided.buffers(), strict=True),
    ]
    return max(float((a - b).abs().max() / (a.abs().max() + 1e-9)) for a, b in pairs)


with join() as together:
    together.connect(choose_compute("cpu", "fp32"))
    for size in (8, 5, 1):  # even, uneven, and one process without any image
        print(size, difference(together, size), flush=True)
    together.leave()
    raise MedVAEError("both fail")
