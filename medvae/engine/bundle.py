"""A run as one ZIP to hand on, and a stranger's ZIP as a run.

A bundle lists each of its files with size and SHA-256. Of a bundle that comes in, only the model
and the pictures are taken over, checked, and written anew: the model is read as plain tensors and
values, so no code that it may carry is run, and whatever can be said of it (figures, card,
settings) is made from it again. Knows nothing of the job table.
"""

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from medvae import __version__
from medvae.atomic import replacing
from medvae.config import Config
from medvae.data.headers import BoundedZip
from medvae.device import choose_compute
from medvae.engine import checkpoint
from medvae.engine.attempts import MODEL
from medvae.engine.detector import AnomalyDetector
from medvae.engine.evaluation import Evaluation
from medvae.engine.events import EpochEnded
from medvae.engine.model_card import NAME as CARD
from medvae.engine.model_card import model_card, write_card
from medvae.errors import BundleError, CheckpointError, ConfigError, DataError, ImageError
from medvae.limits import MB, Limits

FORMAT, VERSION = "med-anomaly-vae bundle", 1
MANIFEST, SETTINGS, EVALUATION = "bundle.json", "config.yaml", "evaluation.json"
PICTURES = ("report_card.png", "roc.png", "scores.png")
KNOWN = (MODEL, MANIFEST, SETTINGS, EVALUATION, CARD, *PICTURES)
MOST_FILES = 100  # that are listed at all before any name is looked at
LARGEST_OTHER = 32 * MB  # bytes of a file other than the model
CHUNK = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """What was found in a bundle and held every check."""

    run: str  # its name where it was made
    config: Config
    content: dict[str, Any]  # of the checkpoint
    evaluation: Evaluation | None
    history: list[EpochEnded]
    pictures: dict[str, bytes]


def export_run(folder: Path, out: Path) -> Path:
    """Write the finished run in `folder` as a bundle; returns where. Raises `CheckpointError`.

    The model lists the file names and hashes of its images, and the report card shows five of
    the test images: a bundle may go where these may go.
    """
    content = checkpoint.load(folder / MODEL, "model")
    texts = {
        SETTINGS: yaml.safe_dump(content["config"], sort_keys=False),
        EVALUATION: json.dumps(content["metrics"], indent=2),
        CARD: card_of(folder),
    }
    files = {name: text.encode() for name, text in texts.items()}
    files |= {n: (folder / n).read_bytes() for n in PICTURES if (folder / n).is_file()}
    listed = {name: _entry(io.BytesIO(data)) for name, data in files.items()}
    with (folder / MODEL).open("rb") as model:
        listed[MODEL] = _entry(model)
    head = {"format": FORMAT, "version": VERSION, "program": __version__, "run": content["run"]}
    try:
        with replacing(out) as partial, zipfile.ZipFile(partial, "w") as archive:
            archive.writestr(MANIFEST, json.dumps({**head, "files": listed}, indent=1))
            archive.write(folder / MODEL, MODEL)
            for name, data in files.items():
                archive.writestr(name, data)
    except OSError as error:
        raise BundleError(f"{out}: not written ({error.strerror or error})") from None
    return out


def open_bundle(archive: Path) -> Bundle:
    """Read a bundle and check all of it. Raises `BundleError` in one line; runs nothing of it."""
    try:
        with BoundedZip(archive, MOST_FILES, Limits.current().checkpoint_mb * MB) as opened:
            return _read(opened, archive)
    except DataError as error:
        raise BundleError(str(error)) from None
    except FileNotFoundError:
        raise BundleError(f"{archive.name}: no such file; expected a bundle (ZIP)") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError):
        raise BundleError(
            f"{archive.name}: not a ZIP that can be read; expected a bundle that `export` wrote"
        ) from None


def install(bundle: Bundle, run: str, folder: Path) -> Path:
    """Write a checked bundle as the run named `run`, the model last; returns the model's path."""
    content = {**bundle.content, "run": run}
    for name, data in bundle.pictures.items():
        with replacing(folder / name) as partial:
            partial.write_bytes(data)
    with replacing(folder / EVALUATION) as partial:
        partial.write_text(json.dumps(content["metrics"], indent=2), encoding="utf-8")
    write_card(folder / CARD, content)
    checkpoint.save(folder / MODEL, "model", content)
    return folder / MODEL


def card_of(folder: Path) -> str:
    """The model card of a finished run; written beside the model where there is none yet.

    Raises `CheckpointError`.
    """
    file = folder / CARD
    if file.is_file() and file.stat().st_mtime_ns >= (folder / MODEL).stat().st_mtime_ns:
        return file.read_text(encoding="utf-8")
    content = checkpoint.load(folder / MODEL, "model")
    try:
        return write_card(file, content)
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder / MODEL}: too old for a model card ({error})") from None


def _read(opened: zipfile.ZipFile, archive: Path) -> Bundle:
    names = [member.filename for member in opened.infolist()]
    if any(member.compress_type != zipfile.ZIP_STORED for member in opened.infolist()):
        raise BundleError(f"{archive.name}: packed; expected a bundle that an export wrote")
    strange = [name for name in names if name not in KNOWN]
    if strange or len(set(names)) != len(names) or not {MANIFEST, MODEL} <= set(names):
        found = strange[0] if strange else ", ".join(names) or "nothing"
        raise BundleError(
            f"{archive.name}: not a bundle (found {PurePosixPath(found).name[:80]!r}); expected "
            f"{MANIFEST}, {MODEL} and no foreign files"
        )
    listed = _manifest(_bytes(opened, MANIFEST, LARGEST_OTHER), archive)
    if set(listed) != set(names) - {MANIFEST}:
        raise BundleError(f"{archive.name}: its list of files is not what it holds")
    largest = Limits.current().checkpoint_mb * MB
    sizes = {name: largest if name == MODEL else LARGEST_OTHER for name in listed}
    files = {name: _bytes(opened, name, size) for name, size in sizes.items()}
    for name, data in files.items():
        if _entry(io.BytesIO(data)) != listed[name]:
            raise BundleError(f"{archive.name}: {name} was changed after the export; get it anew")
    pictures = {name: data for name, data in files.items() if name in PICTURES}
    for name, data in pictures.items():
        _check_picture(data, f"{archive.name}: {name}")
    return _checked_model(files[MODEL], pictures, archive)


def _manifest(data: bytes, archive: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
        kind, version, listed = manifest["format"], manifest["version"], dict(manifest["files"])
    except (ValueError, TypeError, KeyError):
        raise BundleError(f"{archive.name}: {MANIFEST} cannot be read; export it again") from None
    if kind != FORMAT or version != VERSION:
        raise BundleError(
            f"{archive.name}: bundle version {str(version)[:20]}; this program reads {VERSION}"
        )
    return listed


def _bytes(opened: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """A member's bytes, never more than `largest`, whatever the ZIP says of itself."""
    with opened.open(name) as member:
        data = member.read(largest + 1)
    if len(data) > largest:
        raise BundleError(f"{name}: larger than {largest // MB} MB; no bundle holds such a file")
    return data


def _check_picture(data: bytes, name: str) -> None:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            Limits.current().check_size(*picture.size)
            picture.load()
    except ImageError as error:
        raise BundleError(f"{name}: {error}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise BundleError(f"{name}: not a PNG that can be read") from None


def _checked_model(model: bytes, pictures: dict[str, bytes], archive: Path) -> Bundle:
    """The model read as tensors and plain values, built once, and its figures' types checked."""
    name = f"{archive.name}: {MODEL}"
    try:
        content = checkpoint.read(io.BytesIO(model), "model", name)
        config = checkpoint.config_of(content, Path(name))
        AnomalyDetector(content, config, Path(name), choose_compute("cpu", "fp32"))
        metrics = content["metrics"]
        evaluation = TypeAdapter(Evaluation).validate_python(metrics) if metrics else None
        history = TypeAdapter(list[EpochEnded]).validate_python(content["history"])
        model_card(content)
        return Bundle(str(content["run"]), config, content, evaluation, history, pictures)
    except (KeyError, TypeError, AttributeError, ValueError, ValidationError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BundleError(f"{name}: not a model of this program ({reason})") from None
    except (CheckpointError, ConfigError) as error:
        raise BundleError(str(error)) from None


def _entry(file: Any) -> dict[str, Any]:
    """Size and SHA-256 of an open file."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}
