"""Public data sets from the network: goes on where it was cut off, and trusts no byte unchecked.

Our own few lines, because torchvision's helper starts over after each break of the line; Kaggle's
client does all of this itself.
"""

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from medvae.errors import DataError
from medvae.limits import MB, Limits

KAGGLE_SET = "paultimothymooney/chest-xray-pneumonia"
KAGGLE_BYTES = 2_500_000_000  # of its archive, and about as much again unpacked
TRIES = 4  # breaks of the line in a row without a single byte in between
PAUSE = 0.5  # seconds before the second try, twice as long before each further one
CHUNK = 2**18
TIMEOUT = 30.0  # seconds without a byte

OnProgress = Callable[[int, int], None]  # bytes done, bytes in all


PUBLIC_SETS = ("medmnist", "kaggle")


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, and what must arrive."""

    url: str
    name: str
    size: int
    md5: str


MEDMNIST = RemoteFile(
    "https://zenodo.org/records/10519652/files/pneumoniamnist_128.npz?download=1",
    "pneumoniamnist_128.npz",
    75_506_212,
    "05b46931834c231683c68f40c47b2971",  # published by MedMNIST; told from damage, not forgery
)


def check_public_set(name: str) -> None:
    """Raises `DataError` for a name that is none of PUBLIC_SETS."""
    if name not in PUBLIC_SETS:
        raise DataError(f"{name!r}: no public data set; expected {' or '.join(PUBLIC_SETS)}")


def fetch_public_set(name: str, folder: Path, on_progress: OnProgress) -> Path:
    """One of PUBLIC_SETS; `folder` is for those without a cache of their own. Raises `DataError`.

    Kaggle's client does not tell how far it is.
    """
    check_public_set(name)
    return download_kaggle() if name == "kaggle" else download(MEDMNIST, folder, on_progress)


def download(
    remote: RemoteFile, folder: Path, on_progress: OnProgress, pause: float = PAUSE
) -> Path:
    """Fetch a file, whole and checked; a second call goes on where it broke off.

    `pause`: seconds before the second try. Raises `DataError`.
    """
    target = folder / remote.name
    if target.exists() and _md5(target) == remote.md5:
        return target
    part = target.with_name(f"{target.name}.part")
    folder.mkdir(parents=True, exist_ok=True)
    done = part.stat().st_size if part.exists() else 0
    check_free_space(folder, remote.size - done)
    failures = 0
    while _length(part) < remote.size:
        before = _length(part)
        try:
            _fetch(remote, part, on_progress)
        except httpx.TransportError as error:
            failures = 0 if _length(part) > before else failures + 1
            if failures >= TRIES:
                raise DataError(_unreachable(remote, error)) from None
            time.sleep(pause * 2**failures)
    if _md5(part) != remote.md5:
        part.unlink()
        raise DataError(
            f"{remote.name}: what arrived has another checksum than {remote.md5}; it was removed, "
            "download it again"
        )
    part.replace(target)
    return target


def download_kaggle() -> Path:
    """The Kaggle set through Kaggle's own client, into its cache. Raises `DataError`."""
    import kagglehub
    import requests
    from kagglehub import exceptions
    from kagglehub.config import get_cache_folder

    check_free_space(Path(get_cache_folder()), 2 * KAGGLE_BYTES)
    try:
        return Path(kagglehub.dataset_download(KAGGLE_SET))
    except (exceptions.KaggleApiHTTPError, exceptions.UnauthenticatedError) as error:
        status = getattr(getattr(error, "response", None), "status_code", "no login")
        raise DataError(
            f"kaggle.com refused {KAGGLE_SET} ({status}); accept the set's terms on its page and "
            "put your key into ~/.kaggle/kaggle.json"
        ) from None
    except exceptions.DataCorruptionError:
        raise DataError(f"{KAGGLE_SET}: arrived damaged; download it again") from None
    except (requests.RequestException, exceptions.BackendError, OSError) as error:
        raise DataError(
            f"cannot reach kaggle.com ({type(error).__name__}); check the network, and run the "
            "same command again: it goes on where it broke"
        ) from None


def check_free_space(folder: Path, needed: int) -> None:
    """Raises `DataError` when the disk would be filled beyond the limit."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    spare = Limits.current().free_disk_mb * MB
    if free < needed + spare:
        raise DataError(
            f"{existing}: {free / MB:,.0f} MB free; {needed / MB:,.0f} MB are needed, and "
            f"{spare / MB:,.0f} MB must stay free (limit free_disk_mb)"
        )


def _fetch(remote: RemoteFile, part: Path, on_progress: OnProgress) -> None:
    """One connection: appends what comes to `part`, from the byte after its last."""
    begin = _length(part)
    headers = {"Range": f"bytes={begin}-"} if begin else {}
    with httpx.stream(
        "GET", remote.url, headers=headers, timeout=TIMEOUT, follow_redirects=True
    ) as answer:
        _check_status(remote, answer.status_code)
        goes_on = begin > 0 and answer.status_code == httpx.codes.PARTIAL_CONTENT
        done = begin if goes_on else 0
        with part.open("ab" if goes_on else "wb") as out:
            for chunk in answer.iter_raw():
                done += len(chunk)
                if done > remote.size:
                    out.close()
                    part.unlink()
                    raise DataError(
                        f"{remote.name}: the server sends more than {remote.size:,} bytes; it is "
                        "not the file that was expected"
                    )
                out.write(chunk)
                on_progress(done, remote.size)
    if done < remote.size:
        raise httpx.ReadError("the connection ended early")


def _check_status(remote: RemoteFile, status: int) -> None:
    if status in (401, 403):
        raise DataError(f"{remote.url}: no permission ({status}); download it in a browser")
    if status in (408, 429) or status >= 500:
        raise httpx.ReadError(f"status {status}")
    if status not in (200, 206):
        raise DataError(f"{remote.url}: the server answers {status}; the file may have moved")


def _unreachable(remote: RemoteFile, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"cannot download {remote.url} ({reason}); check the network, and run the same command "
        "again: it goes on where it broke"
    )


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _md5(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
