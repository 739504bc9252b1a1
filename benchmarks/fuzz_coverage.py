"""Our decode path under atheris: inputs are bred towards code that no input has reached yet.

    pip install atheris; python -m benchmarks.fuzz_coverage SECONDS [FOLDER]

Whatever is neither an image nor a `DataError` ends it, and the input is kept in the folder.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["medvae", "pydicom", "PIL"]):
    import medvae.data.dicom  # noqa: F401  else it is imported later, and not looked into
    from medvae.data.sandbox import see
    from medvae.errors import DataError
    from medvae.limits import Limits

LIMITS = Limits(file_mb=1, pixels=1_000_000)
OPTIONS = ("-max_len=40000", "-timeout=10", "-rss_limit_mb=2000", "-print_final_stats=1")


def look(data: bytes) -> None:
    try:
        see(data, "input", 32, 100, LIMITS)
    except DataError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("input: ")


def main() -> None:
    seconds, folder = sys.argv[1], Path(*sys.argv[2:3] or ["benchmarks/results/fuzz"])
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    from benchmarks.fuzz import seeds

    for name, data in seeds().items():
        (corpus / name).write_bytes(data)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", *OPTIONS, str(corpus)]
    atheris.Setup([sys.argv[0], *options], look)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
