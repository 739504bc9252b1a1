"""The same pixels as without it; a crash, a loop or a flood is one line and a new worker."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import seeds
from medvae.data import sandbox
from medvae.data.sandbox import Sandbox, see
from medvae.data.transform import read_model_input
from medvae.errors import ImageError
from medvae.limits import Limits
from tests.data.dicoms import dicom
from tests.data.drawn import chest, encoded

SCAN = encoded(chest(1), "PNG")


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    made = Sandbox(Limits(decode_seconds=2.0), workers=1)
    yield made
    made.close()


def serving(program: str, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox in which decoding is replaced by what the program does."""
    monkeypatch.setattr(
        sandbox,
        "_PROGRAM",
        "import medvae.data.sandbox as s, os, time\n"
        f"def bad(*args):\n    {program}\n"
        "s.see = bad\ns.serve()",
    )
    return Sandbox(Limits(decode_seconds=1.0, decode_memory_mb=600), workers=1)


@pytest.mark.parametrize(
    "data",
    [SCAN, encoded(chest(1, size=512), "JPEG"), encoded(chest(1).astype(np.uint16) * 257, "TIFF"),
     dicom(chest(1).astype(np.uint16) * 16)],
    ids=["png", "jpeg", "deep tiff", "dicom"],
)  # fmt: skip
def test_pixels_are_those_of_training_and_the_gray_values_those_of_the_file(
    box: Sandbox, data: bytes
) -> None:
    inside, outside = box.see(data, "scan", 32, 100), see(data, "scan", 32, 100)
    assert np.array_equal(inside.pixels, read_model_input(data, "scan", 32))
    assert np.array_equal(inside.gray, outside.gray)
    assert inside.gray.dtype == outside.gray.dtype
    assert inside.facts == outside.facts


def test_a_refusal_is_the_same_line_and_keeps_the_worker(box: Sandbox) -> None:
    box.see(SCAN, "scan.png", 32, 100)
    for data in (b"hello", SCAN[:100], encoded(np.full((64, 64), 7, np.uint8), "PNG")):
        with pytest.raises(ImageError) as outside:
            see(data, "scan.png", 32, 100)
        with pytest.raises(ImageError) as inside:
            box.see(data, "scan.png", 32, 100)
        assert str(inside.value) == str(outside.value)
    began = time.monotonic()
    box.see(SCAN, "scan.png", 32, 100)
    assert time.monotonic() - began < 0.5  # no new process


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("os.abort()", "its decoder crashed"),
        ("os._exit(0)", "its decoder crashed"),
        ("time.sleep(60)", "took longer than 1 s to decode (limit decode_seconds)"),
        ("while True: pass", "took longer than 1 s"),
        ("bytearray(2**30)", "too much memory to decode (limit decode_memory_mb: 600)"),
        ("open('FOLDER/written', 'w')", "its decoder crashed"),
        ("open('/etc/hostname')", "its decoder crashed"),
        ("__import__('socket').socket()", "its decoder crashed"),
        ("raise s.ImageError('scan.png: one\\nand\\ttwo')", "scan.png: one and two"),
        ("os.write(3, b'\\0\\0\\1\\0{'); time.sleep(60)", "took longer than 1 s"),
        ("return s.Seen(s.np.zeros((9, 9), 'u1'), s.np.zeros((4, 4), 'u1'), {})", "crashed"),
        ("return s.Seen(s.np.zeros((32, 32), 'u1'), s.np.zeros((4, 4)), {})", "crashed"),
    ],
)
def test_whatever_a_decoder_does_is_one_line(
    program: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    box = serving(program.replace("FOLDER", str(tmp_path)), monkeypatch)
    try:
        with pytest.raises(ImageError) as caught:
            box.see(SCAN, "scan.png", 32, 100)
        assert str(caught.value).startswith("scan.png: ")
        assert reason in str(caught.value)
    finally:
        box.close()


def test_what_may_be_opened_is_what_all_formats_need(box: Sandbox) -> None:
    for name, data in seeds().items():
        assert box.see(data, name, 32, 100).gray.size > 0


def test_wider_limits_of_the_workspace_hold_inside(home: Path) -> None:
    (home / "limits.yaml").write_text("pixels: 50000000\n")
    large = encoded(np.tile(chest(1), (101, 101)), "JPEG")  # 41.8 megapixels
    box = Sandbox(workers=1)
    assert box.see(large, "scan.jpg", 32, 100).pixels.shape == (32, 32)
    box.close()


def test_after_a_crash_the_next_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    box = serving("os.abort()", monkeypatch)
    box.warm_up()
    monkeypatch.undo()  # whoever takes the place of the one that crashes is a good one
    with pytest.raises(ImageError):
        box.see(SCAN, "scan.png", 32, 100)
    assert box.see(SCAN, "scan.png", 32, 100).gray.shape == (64, 64)
    box.close()


def test_a_worker_that_was_killed_while_it_waited_is_replaced() -> None:
    box = Sandbox(workers=1)
    box.see(SCAN, "scan.png", 32, 100)
    with box._worker() as worker:
        worker._process.kill()
        worker._process.wait()
    assert box.see(SCAN, "scan.png", 32, 100).gray.shape == (64, 64)
    box.close()


def test_several_threads_share_the_pool(box: Sandbox) -> None:
    shapes: list[tuple[int, ...]] = []

    def look(size: int) -> None:
        shapes.append(box.see(SCAN, "scan.png", size, 100).pixels.shape)

    threads = [threading.Thread(target=look, args=(size,)) for size in (32, 64) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(shapes) == [(32, 32)] * 4 + [(64, 64)] * 4


def test_workers_know_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDVAE_AUTH", "ann:secret")
    program = "raise s.ImageError(str(dict(os.environ)))"
    box = serving(program, monkeypatch)
    with pytest.raises(ImageError) as caught:
        box.see(SCAN, "scan.png", 32, 100)
    assert "PATH" in str(caught.value)
    assert "secret" not in str(caught.value)
    box.close()
