"""How fast and in how much memory images come in.

    python -m benchmarks.intake [FOLDER]

Full-size files of a folder, decoding in the sandbox, and 100,000 small files of one TAR. Import is
held against Pillow's plain decode of the same files on one core; turns alternate.
"""

import argparse
import io
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from medvae.data.phantom import draw_phantom
from medvae.workspace import PROJECT

TURNS = 5
SIZE = 128
SMALL_SIDE, SMALL = 64, 100_000
SCANS = Path(PROJECT.parent / "shared/data/chest_xray_fullsize")


def pillow(files: Sequence[Path]) -> None:
    """The plain way: decode whole, to gray, resize."""
    for file in files:
        with Image.open(file) as image:
            image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def ours(files: Sequence[Path]) -> None:
    """What an import does with each file, on one core."""
    import hashlib

    from medvae.data.transform import read_model_input
    from medvae.limits import Limits

    limits = Limits.current()
    for file in files:
        data = file.read_bytes()
        hashlib.sha256(data).hexdigest()
        read_model_input(data, file.name, SIZE, limits)


def ours_on_all_cores(files: Sequence[Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda file: ours([file]), files))


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def speed(folder: Path) -> dict[str, float]:
    """Files per second of each way, and how many times as fast as Pillow."""
    files = sorted(file for file in folder.rglob("*.jp*g"))
    ways: dict[str, Callable[[Sequence[Path]], None]] = {
        "Pillow, 1 core": pillow,
        "import, 1 core": ours,
        f"import, {os.cpu_count()} cores": ours_on_all_cores,
    }
    for way in ways.values():
        way(files[:2])  # what is imported with the first file is not the others' time
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            rates[name].append(len(files) / seconds(partial(way, files)))
    base = rates.pop("Pillow, 1 core")
    figures = {"Pillow, 1 core, images/s": statistics.median(base)}
    for name, values in rates.items():
        figures[f"{name}, images/s"] = statistics.median(values)
        figures[f"{name} / Pillow"] = statistics.median(
            mine / other for mine, other in zip(values, base, strict=True)
        )
    return figures


def measure(folder: Path | None) -> dict[str, float]:
    return speed(folder) if folder else {}


def sandboxed(folder: Path) -> None:
    from medvae.data.sandbox import Sandbox, see

    data = [file.read_bytes() for file in sorted(folder.rglob("*.jp*g"))]
    box = Sandbox()
    for content in data[:4]:
        box.see(content, "warm", SIZE, 384)
    extra = []
    for content in data:
        inside = seconds(lambda c=content: box.see(c, "scan", SIZE, 384))  # type: ignore[misc]
        outside = seconds(lambda c=content: see(c, "scan", SIZE, 384))  # type: ignore[misc]
        extra.append(1000 * (inside - outside))
    box.close()
    ordered = sorted(extra)
    print(
        f"the sandbox costs {statistics.median(extra):.1f} ms an image "
        f"(p95 {ordered[int(0.95 * len(ordered))]:.1f})"
    )


def many(count: int, folder: Path) -> None:
    """Imported by a process of its own, whose peak memory is then known."""
    archive = folder / "many.tar"
    write_many(archive, count)
    home = {**os.environ, "MEDVAE_HOME": str(folder / "home")}
    program = (
        "from pathlib import Path; import sys\n"
        "from medvae.config import DataConfig; from medvae.data.cache import import_images\n"
        "from medvae.workspace import Workspace\n"
        "images = import_images(DataConfig(), Path(sys.argv[1]), 64, Workspace.current(), "
        "lambda done, total: None)\n"
        "print(len(images.catalog.records))"
    )
    began = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", program, str(archive)],
        env=home, cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    taken = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak_mb = peak / (1024 if sys.platform != "darwin" else 2**20)
    print(
        f"{int(ran.stdout):,} small images of one TAR: {taken:.0f} s, "
        f"{count / taken:.0f} images/s, peak memory {peak_mb:.0f} MB"
    )


def write_many(archive: Path, count: int) -> None:
    """Distinct small files, drawn once and told apart by a few pixels."""
    drawn = draw_phantom(1, None, SMALL_SIDE).image.copy()
    with tarfile.open(archive, "w") as opened:
        for number in range(count):
            drawn[0, :3] = number & 255, number >> 8 & 255, number >> 16
            buffer = io.BytesIO()
            Image.fromarray(drawn).save(buffer, "PNG", compress_level=1)
            label = "NORMAL" if number % 2 else "PNEUMONIA"
            member = tarfile.TarInfo(f"{label}/{label[0]}{number}.png")
            member.size = buffer.tell()
            buffer.seek(0)
            opened.addfile(member, buffer)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=SCANS)
    parser.add_argument("--small", type=int, default=SMALL)
    options = parser.parse_args()
    if options.folder.is_dir():
        for name, value in speed(options.folder).items():
            print(f"{name}: {value:.2f}")
        sandboxed(options.folder)
    with tempfile.TemporaryDirectory() as folder:
        many(options.small, Path(folder))


if __name__ == "__main__":
    main()
