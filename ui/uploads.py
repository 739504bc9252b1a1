"""What was dropped on the page, as single images: files as they are, archives one by one.

Reads nothing before it is asked, and never more than the limits allow.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from medvae.data.decode import SUFFIXES
from medvae.data.stores import open_store
from medvae.errors import DataError
from medvae.limits import MB, Limits

ARCHIVES = (".zip", ".tar")
FILES_PER_IMAGE = 20  # of an archive that are listed: tables and thumbnails are passed over


@dataclass(frozen=True)
class UploadedImage:
    """An image by its name, and how to get its bytes. `read` raises `DataError` or `OSError`."""

    name: str
    read: Callable[[], bytes]


def uploaded_images(files: Sequence[Path]) -> list[UploadedImage]:
    """All images in these files. Raises `DataError` when they are more than one may upload."""
    limits = Limits.current()
    images: list[UploadedImage] = []
    total = 0
    for file in files:
        for image, size in _images_in(file):
            images.append(image)
            total += size
            if len(images) > limits.upload_files:
                raise DataError(
                    f"more than {limits.upload_files} images at once (limit upload_files)"
                )
            if total > limits.upload_mb * MB:
                raise DataError(f"more than {limits.upload_mb} MB at once (limit upload_mb)")
    return images


def _images_in(file: Path) -> Iterator[tuple[UploadedImage, int]]:
    if file.suffix.lower() not in ARCHIVES:
        size = file.stat().st_size if file.exists() else 0
        yield UploadedImage(file.name, partial(_read, file)), size
        return
    limits = Limits.current()
    listed = limits.model_copy(update={"archive_entries": FILES_PER_IMAGE * limits.upload_files})
    try:
        store = open_store(file, limits=listed)
    except DataError as error:
        reason = str(error).replace(str(file), file.name)  # where it lies is nobody's business
        yield UploadedImage(file.name, partial(_refuse, reason)), 0
        return
    for stored in store.files():
        path = PurePosixPath(stored.path)
        if path.suffix.lower() in SUFFIXES or not path.suffix:  # DICOM files often have none
            yield UploadedImage(path.name, partial(store.read, stored.path)), stored.size


def _read(file: Path) -> bytes:
    Limits.current().check_bytes(file.stat().st_size)
    return file.read_bytes()


def _refuse(reason: str) -> bytes:
    raise DataError(reason)
