"""How well a map finds what is known to be there: painted lesions, phantom masks, real boxes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from benchmarks.painted import paint_lesions
from medvae.data.cache import ImageSet
from medvae.data.catalog import Record
from medvae.data.layouts import Box
from medvae.engine.audit import auroc_of
from medvae.engine.detector import AnomalyDetector, Detection

CONTRASTS = (0.3, 0.15)  # gray levels of 1
FALSE_POSITIVES = 0.3  # up to which share of healthy pixels AUPRO integrates


def detections_of(detector: AnomalyDetector, pixels: np.ndarray) -> list[Detection]:
    """Detections on (N, S, S) uint8 images."""
    return list(detector.detect_inputs(list(pixels), [str(i) for i in range(len(pixels))]))


def pixel_auroc(maps: np.ndarray, masks: np.ndarray) -> float:
    """Chance that a lesion's pixel stands higher than a healthy one: (N, S, S) twice."""
    return float(roc_auc_score(masks.ravel(), maps.ravel()))


def aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """Mean share of each lesion that is found, over false-positive rates up to 0.3.

    Bergmann et al., "Uninformed Students" (2020).
    """
    healthy = np.sort(maps[~masks])
    rates = np.linspace(0, FALSE_POSITIVES, 61)
    thresholds = np.quantile(healthy, 1 - rates)
    shares = []
    for single, mask in zip(maps, masks, strict=True):
        regions, count = label(mask)
        for region in range(1, count + 1):
            inside = np.sort(single[regions == region])
            shares.append(1 - np.searchsorted(inside, thresholds, side="left") / len(inside))
    return float(np.trapezoid(np.mean(shares, axis=0), rates) / FALSE_POSITIVES)


def painted_lesions(detector: AnomalyDetector, pixels: np.ndarray) -> dict[str, Any]:
    """Figures on healthy images (N, S, S) with a lesion painted in each, by contrast.

    `vanished`: 1 where the reconstruction shows nothing of the lesion, 0 where it copies it.
    """
    before = detections_of(detector, pixels)
    healthy = np.array([found.score for found in before])
    figures = {}
    for contrast in CONTRASTS:
        painted = paint_lesions(pixels, contrast)
        after = detections_of(detector, painted.images)
        maps = np.stack([np.abs(found.anomaly_map) for found in after])
        scores = np.array([found.score for found in after])
        figures[str(contrast)] = {
            "pixel_auroc": pixel_auroc(maps, painted.masks),
            "aupro": aupro(maps, painted.masks),
            "image_auroc": auroc_of(scores, healthy),
            "vanished": 1 - _copied(before, after, painted.masks),
        }
    return figures


def fidelity(found: Sequence[Detection]) -> dict[str, float]:
    """How much of healthy images is kept: mean PSNR in dB and mean structural similarity."""
    error = np.array([np.square(one.difference).mean() for one in found])
    ssim = 1 - np.array([one.scores["ssim"] for one in found])
    return {"psnr": float((-10 * np.log10(error)).mean()), "ssim": float(ssim.mean())}


def phantom_lesions(
    detector: AnomalyDetector, images: ImageSet, test: Sequence[Record]
) -> dict[str, float]:
    """Pixel AUROC by kind of lesion on the test phantoms."""
    kinds: dict[str, list[Record]] = {}
    for record in test:
        if record.label == "sick":
            kinds.setdefault(Path(record.path).stem.split("_", 1)[1], []).append(record)
    figures = {}
    for kind, records in sorted(kinds.items()):
        found = detections_of(detector, images.pixels[[record.row for record in records]])
        masks = np.stack([_phantom_mask(images.catalog.root, r, detector) for r in records])
        figures[kind] = pixel_auroc(np.stack([np.abs(f.anomaly_map) for f in found]), masks)
    return figures


def box_hits(detector: AnomalyDetector, images: ImageSet) -> dict[str, float]:
    """Share of the images with a radiologist's box whose map has its maximum inside one.

    Boxes of any data set that has some: NIH's, RSNA's. `chance` is their mean share of the area.
    """
    size = detector.config.model.image_size
    records = [record for record in images.catalog.records if record.boxes]
    found = detections_of(detector, images.pixels[[record.row for record in records]])
    hits, areas = [], []
    for record, one in zip(records, found, strict=True):
        peak = np.abs(one.anomaly_map).argmax()
        inside = _in_boxes(size, record.boxes)
        hits.append(bool(inside.flat[peak]))
        areas.append(inside.mean())
    return {"images": len(hits), "hits": float(np.mean(hits)), "chance": float(np.mean(areas))}


def _copied(before: Sequence[Detection], after: Sequence[Detection], masks: np.ndarray) -> float:
    """Change of the reconstruction over change of the image, inside the lesions."""
    changed = [
        np.array([(b.image - a.image)[m].mean(), (b.reconstruction - a.reconstruction)[m].mean()])
        for a, b, m in zip(before, after, masks, strict=True)
    ]
    image, reconstruction = np.mean(changed, axis=0)
    return float(reconstruction / image)


def _phantom_mask(root: Path, record: Record, detector: AnomalyDetector) -> np.ndarray:
    size = detector.config.model.image_size
    with Image.open(root / "masks" / Path(record.path).name) as mask:
        return np.asarray(mask.resize((size, size), Image.Resampling.BOX)) > 127


def _in_boxes(size: int, boxes: Sequence[Box]) -> np.ndarray:
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    inside = np.zeros((size, size), bool)
    for x, y, width, height in boxes:
        inside |= (columns >= x) & (columns < x + width) & (rows >= y) & (rows < y + height)
    return inside
