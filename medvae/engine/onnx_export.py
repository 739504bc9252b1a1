"""A model's network as an ONNX file, for programs without PyTorch, checked against the original.

Only the network: preprocessing is `medvae.data.transform`, and how unusual an image is follows from
the calibration, which stays in the checkpoint. Needs `onnx` and ONNX Runtime only when called.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medvae.atomic import replacing
from medvae.device import Compute
from medvae.engine import checkpoint
from medvae.engine.detector import load_model
from medvae.errors import ExportError
from medvae.model.vae import VAE

IMAGES = "images"  # (B, 1, S, S) float32 in 0..1, any B
TOLERANCE = 1e-4  # of an output's largest value
CHECKED = (1, 7)  # batch sizes


class _Network(nn.Module):
    """Through the mean of q(z|x), as detection goes, with outputs that have names."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.model(images)
        wanted = (output.reconstruction, output.mu, output.logvar, output.patch_logits)
        return tuple(part for part in wanted if part is not None)


def export_onnx(model: Path, out: Path) -> Path:
    """Write the network of a checkpoint; returns where.

    Its outputs: reconstruction (B, 1, S, S), mu and logvar (B, Z), and patch_logits
    (B, 1, S/4, S/4) where the model has that head. Raises `CheckpointError`, or `ExportError` when
    ONNX Runtime does not compute what PyTorch computes; nothing is written then.
    """
    content = checkpoint.load(model, "model")
    config = checkpoint.config_of(content, model)
    cpu = Compute(torch.device("cpu"), "fp32", contiguous=True)
    network = _Network(load_model(config, content["weights"], model, cpu)).eval()
    names = ["reconstruction", "mu", "logvar", *(["patch_logits"] * config.model.patch_head)]
    side = config.model.image_size
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand((count, 1, side, side), generator=generator) for count in CHECKED]
    facts = {
        "run": content["run"],
        "preprocessing": json.dumps(content["preprocessing"]),
        "use": "research only, not a medical device",
    }
    try:
        with replacing(out) as partial:
            _write(network, batches[-1], names, facts, partial)
            _compare(network, batches, names, partial)
    except OSError as error:
        raise ExportError(f"{out}: not written ({error.strerror or error})") from None
    return out


def _write(
    network: nn.Module, example: Tensor, names: list[str], facts: dict[str, str], file: Path
) -> None:
    program = torch.onnx.export(
        network,
        (example,),
        input_names=[IMAGES],
        output_names=names,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(facts)
    program.save(file)


def _compare(network: nn.Module, batches: list[Tensor], names: list[str], file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    for images in batches:
        found: list[Any] = session.run(names, {IMAGES: images.numpy()})
        with torch.inference_mode():
            expected = network(images)
        for name, mine, theirs in zip(names, expected, found, strict=True):
            off = float((mine - torch.from_numpy(theirs)).abs().max() / mine.abs().max())
            if not off <= TOLERANCE:
                raise ExportError(
                    f"{name} of {len(images)} images is off by {off:.1e} of its largest value in "
                    f"ONNX Runtime {onnxruntime.__version__}; expected at most {TOLERANCE:.0e}"
                )
