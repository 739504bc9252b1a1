"""A data set of phantoms on disk, in the same layout as a real one, with lesion masks beside it."""

import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from medvae.data.phantom import LESIONS, VERSION, draw_phantom
from medvae.errors import DataError

SMALLEST_COUNT = 6  # images that leave one healthy and one sick for the test


def _plan(count: int) -> list[tuple[str, str | None]]:
    """Folder and lesion of each image: 70 % healthy to train on, the rest half sick to test on."""
    train = round(0.7 * count)
    sick = (count - train) // 2
    healthy = count - train - sick
    kinds = [LESIONS[turn % len(LESIONS)] for turn in range(sick)]
    plan: list[tuple[str, str | None]] = [("train/NORMAL", None)] * train
    return plan + [("test/NORMAL", None)] * healthy + [("test/PNEUMONIA", kind) for kind in kinds]


def _write_one(root: Path, seed: int, size: int, index: int, place: tuple[str, str | None]) -> None:
    folder, lesion = place
    phantom = draw_phantom((seed << 32) + index, lesion, size)
    name = f"phantom{index:05d}" + (f"_{lesion}" if lesion else "") + ".png"
    Image.fromarray(phantom.image).save(root / folder / name, compress_level=3)
    if lesion:
        Image.fromarray(phantom.mask).convert("L").save(root / "masks" / name)


def _write_all(
    root: Path, count: int, seed: int, size: int, on_progress: Callable[[int, int], None] | None
) -> None:
    plan = _plan(count)
    for folder in {"masks", *(folder for folder, _ in plan)}:
        (root / folder).mkdir(parents=True)
    # After one large block is freed, glibc keeps small ones instead of handing each back to the
    # kernel: a quarter less time. Elsewhere this costs nothing.
    np.empty(1 << 24, np.uint8)
    # Threads, since numpy and Pillow let go of the interpreter lock, and since processes cannot
    # be forked once a GPU is in use, nor spawned from a worker that is itself a daemon.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        written = pool.map(partial(_write_one, root, seed, size), range(count), plan)
        for done, _ in enumerate(written, start=1):
            if on_progress:
                on_progress(done, count)
    finally:
        pool.shutdown(cancel_futures=True)


def _is_complete(folder: Path, wanted: dict[str, int]) -> bool:
    """Whether the folder holds the wanted set; DataError where it holds anything else."""
    if not folder.exists():
        return False
    try:
        found = json.loads((folder / "phantoms.json").read_text())
    except (OSError, ValueError):
        found = None
    images = sum(1 for _ in folder.glob("*/*/*.png"))
    if found == wanted and images == wanted["count"]:
        return True
    raise DataError(
        f"{folder} holds {images} images drawn with {found or 'unknown parameters'}, expected "
        f"{wanted}: choose another folder, or delete this one to have it drawn again."
    )


def write_phantoms(
    folder: Path,
    count: int = 600,
    seed: int = 0,
    size: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a data set `folder/{train,test}/{NORMAL,PNEUMONIA}/*.png` and returns the folder.

    70 % of the images are train/NORMAL; of the rest half are healthy and half sick, each lesion in
    turn, with the lesion's pixels (0 or 255) in `folder/masks/` under the same name. A name up to
    its `_` is the patient. The folder appears whole or not at all, and is kept when it is there
    already. `on_progress(done, count)` is called after each image. Raises DataError when the
    folder holds something else, or count or size is too small.
    """
    if count < SMALLEST_COUNT:
        raise DataError(f"{count} images cannot be split: ask for {SMALLEST_COUNT} or more.")
    wanted = {"count": count, "seed": seed, "size": size, "version": VERSION}
    if _is_complete(folder, wanted):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        draft = Path(scratch) / folder.name
        _write_all(draft, count, seed, size, on_progress)
        (draft / "phantoms.json").write_text(json.dumps(wanted))
        try:
            draft.replace(folder)
        except OSError:  # another process may have been faster
            if not _is_complete(folder, wanted):
                raise
    return folder
