"""The model card of a run in Markdown, written from what its checkpoint says of itself.

After Mitchell et al., "Model Cards for Model Reporting" (2019). Every figure stands with its
interval and beside the trivial baselines.
"""

import math
from pathlib import Path
from typing import Any

from medvae.atomic import replacing
from medvae.config import Config
from medvae.data.baselines import BASELINES
from medvae.engine.calibration import Calibration
from medvae.engine.evaluation import Evaluation
from medvae.engine.labels import WORDS
from medvae.engine.scores import DEFAULT_SCORE

NAME = "MODEL_CARD.md"
_USE = """\
## Intended use

Research on unsupervised anomaly detection in frontal chest radiographs: ranking images by how
unusual they are against the healthy images of its own training source, and showing where they
differ. Not for diagnosis, triage or any other clinical decision: it is **not a medical device**,
and nobody has tested it as one.

## Limits

- *Unusual* is not *sick*: another scanner, age group, projection, tube or marker is unusual too.
  On images of another hospital the threshold does not hold; set one on healthy images from there.
- A finding that changes little in size or brightness is missed. The heatmap shows differences to
  a healthy reconstruction, and a difference is no diagnosis.
- The p-value assumes that healthy images to come are like the healthy validation images.
- The test images come from the same source as the training images, so that the figures say
  nothing about another source. Where a trivial baseline comes close, the data set has a shortcut.
"""


def model_card(content: dict[str, Any]) -> str:
    """The card of a finished model. `content`: of its checkpoint; weights are not needed.

    Raises `KeyError` or `TypeError` for content that no run has written.
    """
    config = Config.parse(content["config"], "checkpoint")
    sections = (
        f"# Model card: {_code(content['run'])}\n\nResearch use only. Not a medical device; "
        f"not for diagnosis.\n\n{_model(content, config)}",
        _data(content),
        _figures(content["metrics"]),
        _threshold(content, config),
        _USE.strip(),
        _made_by(content),
    )
    return "\n\n".join(sections) + "\n"


def write_card(file: Path, content: dict[str, Any]) -> str:
    """Write the card of a finished model; returns its text. Raises like `model_card`."""
    text = model_card(content)
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")
    return text


def _model(content: dict[str, Any], config: Config) -> str:
    shape = config.model
    return (
        f"A convolutional variational autoencoder (input {shape.image_size} × {shape.image_size}, "
        f"width {shape.width}, latent size {shape.latent_size}, beta {config.loss.beta:g}), "
        "trained on normal images only. It was kept after epoch "
        f"{content['best_epoch']} of {config.training.epochs}, the one of the lowest loss on "
        f"healthy validation images ({content['best_validation_loss']:.4g})."
    )


def _data(content: dict[str, Any]) -> str:
    root = content["config"]["data"]["root"]
    parts = content["split"]
    name = "procedural phantoms, no patient" if root is None else _code(content["data"]["root"])
    left_out = "".join(f"\n- Left out: {count} ({why})" for why, count in parts["left_out"].items())
    return (
        f"## Data\n\n- Source: {name}\n- Contents: {_plain(content['data']['summary'])}\n"
        f"- Protocol: {_plain(parts['protocol'])}, split by patient, seed {parts['seed']}\n"
        f"- Training: {len(parts['train'])} healthy images, no sick one\n"
        f"- Validation: {len(parts['validation'])} healthy images, no sick one; they chose the "
        f"epoch and set the threshold\n- Test: {len(parts['test'])} images{left_out}"
    )


def _figures(metrics: dict[str, Any]) -> str:
    title = "## Figures\n\n"
    if not metrics:
        return f"{title}Not evaluated: the data set holds no sick images to test with."
    found = Evaluation.from_json(metrics)
    names = sorted(found.auroc, key=lambda name: (name in BASELINES, name != found.score))
    rows = "".join(
        f"\n| {WORDS.get(name, _code(name))} | {found.auroc[name]} "
        f"| {found.average_precision[name]} |"
        for name in names
    )
    return (
        f"{title}On {found.normal_images} healthy and {found.sick_images} sick test images of "
        f"{found.patients} patients, with 95 % intervals from a bootstrap over patients. Calling "
        f"every image sick has a precision of {found.all_positive_precision:.3f}.\n\n"
        f"| score | AUROC | average precision |\n| --- | --- | --- |{rows}\n\n"
        "| at the threshold | |\n| --- | --- |\n"
        f"| sensitivity | {found.sensitivity} |\n| specificity | {found.specificity} |\n"
        f"| balanced accuracy | {found.balanced_accuracy} |"
    )


def _threshold(content: dict[str, Any], config: Config) -> str:
    calibration = Calibration.from_content(content["calibration"])
    fpr = config.detection.target_fpr
    value = calibration.threshold(DEFAULT_SCORE, fpr)
    images = len(calibration.scores[DEFAULT_SCORE])
    if math.isinf(value):
        return (
            f"## Threshold\n\nNone: {images} healthy validation images are too few for at most "
            f"{100 * fpr:.3g} % false positives, and no image is called unusual."
        )
    return (
        f"## Threshold\n\nAn image is called unusual above a score of {value:.4g}. At most "
        f"{100 * fpr:.3g} % of healthy images score that high: a split-conformal p-value against "
        f"{images} healthy validation images, which also set the weights of its parts (where they "
        "are fewer than a hundred, one image in a hundred more). No sick image has a say in it."
    )


def _made_by(content: dict[str, Any]) -> str:
    versions = ", ".join(f"{_plain(k)} {_plain(v)}" for k, v in content["versions"].items())
    return (
        f"## Made by\n\nMED-ANOMALY-VAE, {_plain(content['created'])} (UTC); {versions}; "
        f"seed {content['seed']}."
    )


def _code(text: Any) -> str:
    """Text of the user's as code, in which Markdown has no meaning."""
    return f"`{' '.join(str(text).replace('`', ' ').split())}`"


def _plain(text: Any) -> str:
    """Text that must not become a link, a picture or a tag, whoever wrote the checkpoint."""
    return "".join(sign for sign in " ".join(str(text).split()) if sign not in "<>[]`|\\*_!")
