"""The last recorded ratios, and what moved since. Ratios travel between days; seconds do not."""

import json
from pathlib import Path

RECORD = Path(__file__).parent / "recorded.json"
MOVED = 0.10  # share of a ratio
Figures = dict[str, dict[str, float]]  # section → name → value; a ratio's name holds " / "


def ratios_of(figures: Figures) -> dict[str, float]:
    return {
        f"{section}: {name}": round(value, 4)
        for section, values in figures.items()
        for name, value in values.items()
        if " / " in name
    }


def read(file: Path = RECORD) -> dict[str, dict[str, float]]:
    """Machine → its ratios when they were last recorded."""
    recorded: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))
    return recorded


def moved(machine: str, figures: Figures, file: Path = RECORD) -> list[str]:
    """A line for each ratio that is not what was recorded on a machine of this name."""
    before = read(file).get(machine)
    if before is None:
        return [f"nothing recorded for {machine}: python -m benchmarks --record"]
    lines = []
    for name, value in ratios_of(figures).items():
        if name not in before:
            lines.append(f"new: {name} {value:.2f}")
        elif abs(value / before[name] - 1) > MOVED:
            way = "rose" if value > before[name] else "FELL"
            lines.append(f"{way}: {name} from {before[name]:.2f} to {value:.2f}")
    return lines


def record(machine: str, figures: Figures, file: Path = RECORD) -> None:
    """Replace what is known of this machine; sections that were not run keep their ratios."""
    recorded = read(file)
    recorded[machine] = {**recorded.get(machine, {}), **ratios_of(figures)}
    file.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", encoding="utf-8")
