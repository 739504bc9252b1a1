"""Who may import whom. Reads the sources, so that an arrow drawn backwards fails at once."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from medvae.workspace import PROJECT

# A room is the longest of these names that a module begins with. `medvae` itself holds what every
# other room may use: configuration, errors, workspace, device, atomic files.
BASE = "medvae"
SCIENCE = {BASE, "medvae.data", "medvae.model", "medvae.engine"}
MAY_IMPORT = {
    BASE: {BASE},
    "medvae.data": {BASE, "medvae.data"},
    "medvae.model": {BASE, "medvae.model"},
    "medvae.engine": SCIENCE,
    "jobs": {"jobs", *SCIENCE},
    "ui": {"ui", "jobs", *SCIENCE},
    "main": {"main", "ui", "jobs", *SCIENCE},
}
STAY_OUT = {
    BASE: {"huey", "peewee", "playhouse", "psycopg", "gradio", "fastapi", "starlette", "uvicorn"},
    "jobs": {"gradio", "fastapi", "starlette", "uvicorn"},
    "ui": {"huey", "peewee", "playhouse", "psycopg"},
    "main": {"huey", "peewee", "playhouse", "psycopg", "torch"},
}
ROOTS = {room.partition(".")[0] for room in MAY_IMPORT} | {"benchmarks", "tests"}


def sources(root: Path) -> list[Path]:
    folders = [
        folder for name in ("medvae", "jobs", "ui") for folder in (root / name).rglob("*.py")
    ]
    return sorted([*folders, *root.glob("main.py")])


def module_of(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path, root: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function, as an absolute name."""
    package = module_of(file, root).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            # `from medvae import data` imports a room, `from medvae.config import Config` does not
            yield from (f"{origin}.{name.name}" for name in node.names)


def room_of(module: str) -> str:
    fitting = [room for room in MAY_IMPORT if f"{module}.".startswith(f"{room}.")]
    return max(fitting, key=len, default="")


def violations(root: Path) -> set[str]:
    found = set()
    for file in sources(root):
        module = module_of(file, root)
        room = room_of(module)
        for imported in imports_of(file, root):
            top = imported.partition(".")[0]
            forbidden = STAY_OUT.get(room, STAY_OUT[room.partition(".")[0]])
            allowed = (
                room_of(imported) in MAY_IMPORT[room] if top in ROOTS else top not in forbidden
            )
            if not allowed:
                found.add(f"{module} imports {imported}")
    return found


def test_no_module_imports_against_the_arrows() -> None:
    assert len(sources(PROJECT)) > 30
    assert violations(PROJECT) == set()


def in_order(root: Path) -> list[str]:
    """Modules, each after all that it imports. Raises `CycleError` where they go in circles."""
    files = {module_of(file, root): file for file in sources(root)}
    needs = {module: files.keys() & set(imports_of(file, root)) for module, file in files.items()}
    return list(TopologicalSorter(needs).static_order())


def test_no_modules_import_each_other() -> None:
    assert len(in_order(PROJECT)) == len(sources(PROJECT))


def test_a_circle_of_modules_is_found(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "one.py").write_text("from jobs.two import two")
    (tmp_path / "jobs" / "two.py").write_text("def two():\n    from jobs import one")
    with pytest.raises(CycleError):
        in_order(tmp_path)


@pytest.mark.parametrize(
    ("file", "line", "wrong"),
    [
        ("medvae/data/x.py", "from medvae.model.vae import VAE", "medvae.model.vae"),
        ("medvae/data/x.py", "from ..engine import trainer", "medvae.engine"),
        ("medvae/data/x.py", "from medvae import engine", "medvae.engine"),
        ("medvae/model/x.py", "import medvae.data.loader", "medvae.data.loader"),
        ("medvae/config.py", "def f():\n    from medvae.data import catalog", "medvae.data"),
        ("medvae/engine/x.py", "import jobs.store", "jobs.store"),
        ("medvae/engine/x.py", "import gradio as gr", "gradio"),
        ("medvae/__init__.py", "from .engine import trainer", "medvae.engine"),
        ("medvae/data/x.py", "from huey import crontab", "huey"),
        ("jobs/x.py", "from ui.app import build_app", "ui.app"),
        ("jobs/x.py", "import gradio", "gradio"),
        ("ui/x.py", "import main", "main"),
        ("ui/x.py", "from peewee import Model", "peewee"),
        ("main.py", "import torch", "torch"),
        ("main.py", "from tests.data.drawn import chest", "tests.data.drawn"),
    ],
)
def test_an_arrow_drawn_backwards_is_found(
    tmp_path: Path, file: str, line: str, wrong: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(line)
    assert any(found.endswith(f" imports {wrong}") for found in violations(tmp_path))


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("main.py", "from ui.app import serve\nfrom jobs.service import JobService"),
        ("ui/x.py", "from jobs.service import JobService\nfrom medvae.engine import detector"),
        ("jobs/x.py", "from medvae.engine.events import Stop\nimport huey"),
        ("medvae/engine/x.py", "from medvae.data import loader\nfrom ..model.vae import VAE"),
        ("medvae/data/x.py", "from medvae import errors\nimport torch"),
    ],
)
def test_an_arrow_of_the_design_is_let_through(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(line)
    assert violations(tmp_path) == set()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("medvae.config", "torch"),
        ("medvae.engine.events", "torch"),
        ("jobs.service", "torch"),
        ("jobs.service", "gradio"),
        ("ui.app", "torch"),
        ("main", "torch"),
        ("main", "gradio"),
    ],
)
def test_importing_what_must_start_fast_does_not_import_what_is_heavy(
    module: str, heavy: str
) -> None:
    program = f"import sys, {module}; sys.exit({heavy!r} in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr or f"{module} imports {heavy}"
