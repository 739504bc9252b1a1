"""The bounds of what enters: read from one file, all documented with their defaults."""

import re
from pathlib import Path

import pytest

from medvae.errors import ConfigError, ImageError
from medvae.limits import Limits
from medvae.workspace import PROJECT


def test_without_a_file_the_defaults_hold() -> None:
    assert Limits.current() == Limits()


def test_a_file_changes_what_it_names(home: Path) -> None:
    (home / "limits.yaml").write_text("pixels: 20000\n")
    assert Limits.current() == Limits(pixels=20_000)
    with pytest.raises(ImageError, match=r"at most 20,000 in all \(limit pixels\)"):
        Limits.current().check_size(200, 200)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pixel: 3\n", "pixel: Extra inputs"),
        ("pixels: 3\nfile_mb: lots\n", "pixels: .*; file_mb: |file_mb: .*; pixels: "),
        ("- 1\n", "top level"),
        ("{", "not readable YAML"),
        ("pixels: 2024-99-99", r"not readable YAML \(month must be in 1\.\.12\)"),
    ],
)
def test_a_bad_file_is_one_line_with_all_its_faults(home: Path, text: str, said: str) -> None:
    (home / "limits.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        Limits.current()
    assert "limits.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_security_document_lists_every_limit_with_its_default() -> None:
    text = (PROJECT / "docs/security.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,.]+) \|", text, re.MULTILINE))
    defaults = {name: float(value) for name, value in Limits().model_dump().items()}
    assert {name: float(value.replace(",", "")) for name, value in rows.items()} == defaults
