"""The loss against its formulas written out, and against torch's own divergence."""

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_divergence

from medvae.config import LossConfig
from medvae.model.loss import VAELoss, kl_divergence, squared_error
from medvae.model.vae import VAEOutput

SEEDED = torch.Generator().manual_seed(0)
TARGET = torch.rand(5, 1, 8, 8, generator=SEEDED)
OUTPUT = VAEOutput(
    torch.rand(5, 1, 8, 8, generator=SEEDED),
    torch.randn(5, 3, generator=SEEDED) * 2,
    torch.randn(5, 3, generator=SEEDED) * 2,
)


def test_squared_error_is_summed_over_the_pixels_of_each_image() -> None:
    by_hand = [
        sum(
            (float(OUTPUT.reconstruction[i, 0, y, x]) - float(TARGET[i, 0, y, x])) ** 2
            for y in range(8)
            for x in range(8)
        )
        for i in range(5)
    ]
    assert squared_error(OUTPUT.reconstruction, TARGET).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_divergence_is_that_of_two_normal_distributions() -> None:
    posterior = Normal(OUTPUT.mu, torch.exp(OUTPUT.logvar / 2))
    expected = reference_divergence(posterior, Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_divergence(OUTPUT.mu, OUTPUT.logvar), expected)


def test_divergence_is_zero_for_the_prior_and_positive_elsewhere() -> None:
    zeros = torch.zeros(1, 4)
    assert float(kl_divergence(zeros, zeros)) == 0
    assert (kl_divergence(OUTPUT.mu, OUTPUT.logvar) > 0).all()
    assert float(kl_divergence(torch.full((1, 4), 2.0), zeros)) == pytest.approx(8)  # 4 · 2² / 2


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_the_loss_is_mse_plus_beta_times_divergence_averaged_over_the_batch(beta: float) -> None:
    parts = VAELoss(LossConfig(beta=beta))(OUTPUT, TARGET)
    mse = squared_error(OUTPUT.reconstruction, TARGET).mean()
    kld = kl_divergence(OUTPUT.mu, OUTPUT.logvar).mean()
    torch.testing.assert_close(parts.mse, mse)
    torch.testing.assert_close(parts.kld, kld)
    torch.testing.assert_close(parts.loss, mse + beta * kld)


def test_a_beta_of_the_moment_replaces_the_final_one() -> None:
    parts = VAELoss(LossConfig(beta=4.0))(OUTPUT, TARGET, beta=0.25)
    torch.testing.assert_close(parts.loss, parts.mse + 0.25 * parts.kld)


def test_twice_the_batch_is_the_same_loss() -> None:
    loss = VAELoss(LossConfig())
    doubled = VAEOutput(*(torch.cat([part, part]) for part in OUTPUT[:3]))
    torch.testing.assert_close(
        loss(doubled, torch.cat([TARGET, TARGET])).loss, loss(OUTPUT, TARGET).loss
    )


def test_half_precision_is_summed_in_single() -> None:
    output = VAEOutput(*(part.bfloat16() for part in OUTPUT[:3]))
    parts = VAELoss(LossConfig())(output, TARGET)
    assert {part.dtype for part in parts} == {torch.float32}


def test_beta_rises_linearly_over_the_warm_up_and_stays() -> None:
    loss = VAELoss(LossConfig(beta=2.0, kl_warmup_epochs=4.0))
    assert [loss.beta_at(epochs) for epochs in (0, 1, 2.5, 4, 100)] == [0, 0.5, 1.25, 2, 2]


def test_without_warm_up_beta_is_final_from_the_start() -> None:
    assert VAELoss(LossConfig(beta=2.0, kl_warmup_epochs=0)).beta_at(0) == 2.0


def test_the_gradient_of_the_divergence_is_that_of_its_formula() -> None:
    mu = OUTPUT.mu.clone().requires_grad_()
    logvar = OUTPUT.logvar.clone().requires_grad_()
    kl_divergence(mu, logvar).sum().backward()
    torch.testing.assert_close(mu.grad, mu.detach())
    torch.testing.assert_close(logvar.grad, (logvar.detach().exp() - 1) / 2)
