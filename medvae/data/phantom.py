"""Draws chest radiographs from nothing, healthy or with a lesion whose exact pixels are known.

A projection model: the attenuation of tissue, bone and air along each ray is summed, then exposed
on a film curve, so that overlaps look right. Knows nothing of models, training or real images.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medvae.errors import DataError

LESIONS: tuple[str, ...] = ("consolidation", "nodule", "effusion", "pneumothorax")
VERSION = 1  # to be raised when the same seed draws another picture
SMALLEST_SIZE = 32  # pixels a side in which a chest can still be told

Field = NDArray[np.float32]  # (size, size): one value a pixel
Mask = NDArray[np.bool_]  # (size, size)
Point = tuple[float, float]

# Attenuation along the longest path through each part, where the trunk's soft tissue is 1.
LUNG_AIR = 0.83  # what a ray is spared by full lung
FREE_AIR = 0.16  # what it is spared beyond that where no lung tissue is left
NECK = 0.75
ARM = 0.55
TRACHEA = 0.28
STOMACH = 0.40
VESSEL = 0.16
RIB = 0.20
SPINE = 0.28
CLAVICLE = 0.19
SCAPULA = 0.05
HUMERUS = 0.30


@dataclass(frozen=True)
class Phantom:
    """One drawn radiograph.

    `image` is (size, size) uint8, air black and bone white. `mask` is (size, size) bool: the pixels
    of the lesion, all False when `lesion` is None.
    """

    image: NDArray[np.uint8]
    mask: Mask
    lesion: str | None


class _Patient:
    """One patient's measures, drawn at random in half-heights of the film.

    x grows to the image's right and y down from the midline at mid-chest; the patient's right
    lung is on the image's left.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        u = rng.uniform
        self.apex = u(-0.78, -0.64)  # y of the lung tops
        self.dome_right = u(0.29, 0.45)  # y of the diaphragm's top, lower in a deep breath
        self.dome_left = self.dome_right + u(0.02, 0.09)
        self.base = self.dome_right + u(0.20, 0.26)  # y of the costophrenic angles
        self.cage = u(0.68, 0.80)  # half-width inside the ribs
        self.cage_shape = u(2.6, 3.6)  # the higher, the squarer its shoulders
        self.trunk = self.cage + u(0.08, 0.22)  # half-width of the body below the armpits
        self.waist = self.cage + u(0.05, 0.20)
        self.shoulder = self.apex + u(-0.20, -0.06)  # y where the neck runs out into them
        self.elbow = u(1.15, 1.8)  # x: how far the arms are held from the body
        self.mediastinum = u(0.105, 0.145)  # half-width above the heart
        self.heart = self.cage * u(0.50, 0.66)  # how far it reaches to the image's right
        self.atrium = u(1.5, 2.0)  # and to its left, in half-widths of the mediastinum
        self.scoliosis = u(-0.02, 0.02)  # sideways bow of the spine
        self.vertebra = u(0.11, 0.13)  # height of one, with its disc
        self.rib_spacing = u(0.125, 0.15)
        self.rib_fall = u(0.28, 0.44)  # from the spine to the flank
        self.rib_half = u(0.024, 0.032)  # half of a rib's height
        self.clavicle_rise = u(-0.03, 0.10)  # from the sternum to the shoulder
        self.breast = max(0.0, u(-0.12, 0.14))  # attenuation
        self.stomach = (u(0.10, 0.20), u(0.05, 0.10))  # semi-axes of its gas bubble
        self.has_gas = rng.random() < 0.6


class _View:
    """One patient before the film: where each pixel lies in the patient.

    film = matrix @ patient + shift, where the film reaches from -1 to 1 both ways.
    """

    def __init__(self, patient: _Patient, size: int, rng: np.random.Generator) -> None:
        turn, scale, aspect = rng.normal(0, 0.025), rng.uniform(0.94, 1.1), rng.uniform(0.95, 1.06)
        cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
        self.matrix = np.array([[cos * aspect, -sin], [sin * aspect, cos]])
        self.shift = rng.uniform((-0.05, -0.03), (0.05, 0.08))
        self.patient, self.size = patient, size
        self.pixel = 2 / size / scale  # its width in the patient's units
        axis = (np.arange(size) + 0.5) * (2 / size) - 1
        across, down = axis[None, :] - self.shift[0], axis[:, None] - self.shift[1]
        rows = np.linalg.inv(self.matrix)
        self.x, self.y = ((row[0] * across + row[1] * down).astype(np.float32) for row in rows)
        self.side = np.abs(self.x)  # for what both halves of the body have alike

    def to_pixels(self, points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Patient points (..., 2) as pixel coordinates (..., 2) on a film of that size."""
        return np.asarray((points @ self.matrix.T + self.shift + 1) * (size / 2))

    @cached_property
    def height(self) -> Field:
        """0 at the costophrenic angles and below, 1 at the lung tops and above."""
        base, apex = self.patient.base, self.patient.apex
        return np.asarray(np.clip((base - self.y) / (base - apex), 0, 1))

    @cached_property
    def cage(self) -> Field:
        """Half-width inside the ribs: a beehive, closing at the apex."""
        closing: Field = np.sqrt(1 - 0.97 * self.height**self.patient.cage_shape)
        return self.patient.cage * closing * (1 - 0.05 * (1 - self.height) ** 2)

    @cached_property
    def diaphragm(self) -> Field:
        """y of the dome: higher on the image's left, falling steeply to the flank."""
        p, away = self.patient, self.side - 0.5 * self.patient.cage
        dome = np.where(self.x < 0, p.dome_right, p.dome_left)
        return np.asarray(dome + np.where(away > 0, 1.7, 0.6) * away * away, np.float32)


# --- Shapes ---------------------------------------------------------------------------------


def _step(value: Field, width: float) -> Field:
    """0 below -width, 1 above width, smooth between."""
    t: Field = np.clip(value * (0.5 / width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _chord(ratio: Field) -> Field:
    """Path of a ray through a round body: 1 at its axis (ratio 0), 0 from its edge (ratio 1) on."""
    path = 1 - ratio * ratio
    np.maximum(path, 0, out=path)
    np.sqrt(path, out=path)
    return path


def _shell(ratio: Field) -> Field:
    """Path through a hollow round bone, whose bright edges are its cortex."""
    return _chord(ratio) - 0.55 * _chord(ratio / 0.72)


def _ellipse(x: Field, y: Field, centre: Point, axes: Point, tilt: float = 0.0) -> Field:
    """Distance from the centre as a share of the ellipse's radius there: 1 on its edge."""
    dx, dy = x - centre[0], y - centre[1]
    cos, sin = math.cos(tilt), math.sin(tilt)
    along, across = (cos * dx + sin * dy) / axes[0], (cos * dy - sin * dx) / axes[1]
    return np.asarray(np.sqrt(along * along + across * across))


def _to_segment(x: Field, y: Field, start: Point, end: Point) -> Field:
    """Distance to the straight line between two points."""
    run, drop = end[0] - start[0], end[1] - start[1]
    dx, dy = x - start[0], y - start[1]
    along = np.clip((dx * run + dy * drop) / (run * run + drop * drop), 0, 1)
    dx -= along * run
    dy -= along * drop
    return np.asarray(np.sqrt(dx * dx + dy * dy))


def _slope(field: Field, pixel: float) -> Field:
    """Change of the field per unit of length: value / slope is the distance to its zero line."""
    dy, dx = np.gradient(field)
    return np.asarray(np.sqrt(dx * dx + dy * dy) / pixel + 1e-6)


def _curve(at: Sequence[float], values: Sequence[float], where: Field) -> Field:
    """A smooth curve through (nearly) the given values, read off at each pixel."""
    knots = np.linspace(at[0], at[-1], 128)
    kernel = np.hanning(17) / np.hanning(17).sum()
    table = np.convolve(np.pad(np.interp(knots, at, values), 8, mode="edge"), kernel, "valid")
    return np.interp(where, knots, table).astype(np.float32)


def _smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Field:
    """Noise of about unit spread whose grains are size / cells pixels wide."""
    grid = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


# --- Anatomy: the path of each ray through one part, 0 to about 1 ------------------------------
# Bare numbers are places, lengths and softness of edges in half-heights of the film, or shares of a
# part's thickness, all set by eye beside real radiographs.


def _body(v: _View) -> Field:
    """Soft tissue of neck, shoulders, chest, belly and arms."""
    p, top = v.patient, v.patient.shoulder
    at = (top - 0.4, top - 0.08, top, top + 0.07, top + 0.14, top + 0.26, p.apex + 0.6, 0.9, 1.3)
    half_width = (0.21, 0.24, 0.36, 0.62, 0.9, 1.05, p.trunk, p.waist, p.waist)
    depth = NECK + (1 - NECK) * _step(v.y - p.apex, 0.2)
    trunk = depth * _chord(v.side / _curve(at, half_width, v.y)) ** 0.8
    arm = _to_segment(v.side, v.y, (p.trunk + 0.14, top + 0.36), (p.elbow, 0.9))
    return np.asarray(np.maximum(trunk, ARM * _chord(arm / 0.16)))


def _mediastinum(v: _View) -> Field:
    """The shadow of heart and great vessels, where they push lung aside."""
    p, m, bulge = v.patient, v.patient.mediastinum, v.patient.heart - v.patient.mediastinum
    at = (0.0, 0.12, 0.22, 0.32, 0.42, 0.50, 0.58, 0.68, 0.78, 1.0)  # from the base to the apex
    # Right atrium and superior vena cava; left ventricle, pulmonary trunk and aortic knob.
    widths = (1.2, 1.6, p.atrium, p.atrium, 1.5, 1.1, 1, 1, 1, 1)
    right = _curve(at, [m * width for width in widths], v.height)
    bulges = (0.60, 0.88, 1.0, 0.92, 0.66, 0.38, 0.16, 0.26, 0.06, 0.1)
    left = _curve(at, [m + bulge * share for share in bulges], v.height)
    inside = np.where(v.x < 0, right, left) - v.side
    # Some lung lies before and behind the heart near its border.
    return _step(inside, 0.022) * (0.75 + 0.25 * _step(inside - 0.1, 0.1))


def _lungs(v: _View) -> Field:
    """Air in both lungs, the heart not yet taken off."""
    top = v.patient.apex + 2.2 * (v.side - 0.4 * v.patient.cage) ** 2
    inside = _step(v.diaphragm - v.y, 0.012) * _step(v.y - top, 0.03)
    return inside * _chord(v.side / v.cage) ** 0.8


def _ribs(v: _View, wobble: Field) -> Field:
    """Every rib is a tilted hoop seen from the front: its back half, then its fainter front."""
    p, y = v.patient, v.y + wobble
    ratio = v.side / (v.cage + 0.015)
    chord: Field = np.sqrt(np.maximum(1.03 - ratio * ratio, 0))  # 1 would end in a kink
    # Where a rib turns forward at the flank it runs along the ray, and looks brighter.
    back: Field = np.minimum(1 / (chord + 0.3), 2.2) * _step(1.01 - ratio, 0.02)
    front = 0.6 * back * _step(ratio - 0.5, 0.2) * _step(p.base + 0.1 - y, 0.2)
    ribs: Field = np.zeros_like(y)
    for turn, weight in ((-chord, back), (chord, front)):
        fall = p.rib_fall * (1 + turn) * (0.6 + 0.4 * (y - p.apex))  # steeper in lower ribs
        number = (y - p.apex - 0.02 - fall) / p.rib_spacing
        # First-order distance overshoots at the flank, where the hoops turn sharply.
        slope = np.minimum(_slope(number, v.pixel), 1.6 / p.rib_spacing)
        nearest = np.clip(np.rint(number), 0, 11)  # of twelve pairs
        ribs += weight * _shell((number - nearest) / slope / p.rib_half)
    return ribs


def _spine(v: _View) -> Field:
    """Vertebral bodies parted by discs, with pedicles and spinous processes."""
    off = v.x - v.patient.scoliosis * np.cos(2.2 * v.y)
    part = v.y / v.patient.vertebra
    part -= np.rint(part)  # 0 in the middle of a body, ±0.5 in a disc
    away = np.abs(part)
    disc = _step(away - 0.42, 0.06)
    endplate = _step(away - 0.32, 0.05) * (1 - disc)
    body = _chord(off / (0.078 + 0.012 * endplate)) * (0.75 - 0.3 * disc + 0.25 * endplate)
    pedicle = _chord(_ellipse(np.abs(off), part, (0.052, -0.1), (0.02, 0.2)))
    spinous = _chord(_ellipse(off, part, (0.0, 0.25), (0.016, 0.3)))
    return np.asarray(body + 0.3 * pedicle + 0.3 * spinous)


def _airway(v: _View) -> Field:
    """Trachea and the two main bronchi."""
    carina = (0.0, v.patient.apex + 0.50)
    trachea = _chord(_to_segment(v.x, v.y, (0.0, -2.0), carina) / 0.05)
    bronchi = _chord(_to_segment(v.side, v.y, carina, (0.2, carina[1] + 0.16)) / 0.032)
    return np.asarray(np.maximum(trachea, 0.35 * bronchi))


def _clavicles(v: _View) -> Field:
    p = v.patient
    along = (v.side - 0.06) / (p.trunk * 1.02)  # 0 at the sternum, 1 at the shoulder
    sway = 0.028 * np.sin(2 * math.pi * along)
    off = v.y - (p.apex + 0.17 - p.clavicle_rise * along + sway)
    ends = _step(along - 0.02, 0.02) * _step(0.98 - along, 0.03)
    return ends * _shell(off / _slope(off, v.pixel) / 0.027)


def _scapulae(v: _View) -> Field:
    """A triangle: the least distance to its three borders is positive inside it."""
    out, down = v.side - v.patient.cage + 0.06, v.y - v.patient.apex
    borders = (out + 0.25 * (0.3 - down), 0.52 - 0.5 * down - 0.9 * out, down - 0.12 - 0.2 * out)
    inside: Field = np.minimum.reduce(borders)
    rim: Field = np.exp(-((inside / 0.014) ** 2))
    return _step(inside, 0.015) + 1.2 * rim


def _humeri(v: _View) -> Field:
    p = v.patient
    head, elbow = (p.trunk * 1.12, p.shoulder + 0.31), (p.elbow * 1.03, 0.75)
    shaft = _shell(_to_segment(v.side, v.y, head, elbow) / 0.05)
    ball = _chord(_ellipse(v.side, v.y, head, (0.1, 0.1)))
    return np.asarray(np.maximum(shaft, 0.6 * ball))


def _breasts(v: _View) -> Field:
    centre = (0.58 * v.patient.cage, v.patient.dome_right - 0.12)
    return _chord(_ellipse(v.side, v.y, centre, (0.45 * v.patient.cage, 0.30)))


def _stomach_gas(v: _View) -> Field:
    """Gas under the left dome, ending below at the flat level of the stomach's fluid."""
    axes = v.patient.stomach
    centre = (0.36, v.patient.dome_left + 0.05 + axes[1])
    level = centre[1] + 0.6 * axes[1]
    return _chord(_ellipse(v.x, v.y, centre, axes)) * _step(level - v.y, 0.015)


def _branches(rng: np.random.Generator, hilum: Point, side: int) -> Iterator[NDArray[np.float64]]:
    """Generations of one lung's vessels: (n, 5) rows of x0, y0, x1, y1, width."""
    trunks = 11
    start = np.array(hilum) + rng.normal(0, (0.015, 0.05), (trunks, 2))
    angle = np.linspace(-1.5, 1.6, trunks) + rng.normal(0, 0.15, trunks)  # upwards to downwards
    width = rng.uniform(0.014, 0.028, trunks)
    for _ in range(7):
        length = rng.uniform(0.05, 0.105, (len(angle), 1))
        end = start + length * np.stack([side * np.cos(angle), np.sin(angle)], axis=1)
        yield np.column_stack([start, end, width])
        # Each one runs on, slightly bent and thinner; about half also send out a side branch.
        forks = rng.random(len(angle)) < 0.5
        turn = rng.choice((-1, 1), len(angle)) * rng.uniform(0.4, 0.9, len(angle))
        start = np.concatenate([end, end[forks]])
        angle = np.concatenate([angle + rng.normal(0, 0.25, len(angle)), (angle + turn)[forks]])
        width = np.concatenate([width * 0.84, width[forks] * 0.6])


def _vessels(v: _View, rng: np.random.Generator) -> Field:
    """Pulmonary vessels, branching from the hila and thinning outwards."""
    fine = 2 * v.size  # lines have whole widths and hard edges, so they are drawn larger
    canvas = Image.new("L", (fine, fine))
    draw = ImageDraw.Draw(canvas)
    hila = ((-1, v.patient.apex + 0.68), (1, v.patient.apex + 0.63))
    trees = [_branches(rng, (side * 0.17, y), side) for side, y in hila]
    rows = np.concatenate([generation for tree in trees for generation in tree])
    rows = rows[np.argsort(rows[:, 4])]  # thick ones last, over the thin ones
    lines = v.to_pixels(rows[:, :4].reshape(-1, 2, 2), fine).reshape(-1, 4)
    for line, width in zip(lines.tolist(), (rows[:, 4] * fine / 2).tolist(), strict=True):
        draw.line(line, fill=min(255, int(50 + 40 * width)), width=max(1, round(width)))
    shadow = canvas.resize((v.size, v.size), Image.Resampling.BICUBIC)
    return np.asarray(np.asarray(shadow, np.float32) / 255, np.float32)


@dataclass(frozen=True)
class _Chest:
    """One patient on the film, before anything is wrong with it."""

    view: _View
    air: Field  # lung along the ray, 0 to 1
    vessels: Field  # attenuation by the lungs' vessels
    attenuation: Field  # of everything together


def _draw_chest(rng: np.random.Generator, size: int) -> _Chest:
    patient = _Patient(rng)
    v = _View(patient, size, rng)
    body, mediastinum = _body(v), _mediastinum(v)
    air = _lungs(v) * (1 - mediastinum)
    vessels = VESSEL * _vessels(v, rng) * np.sqrt(air)
    # Scattered rays wash out the ribs before and behind dense tissue.
    clear = 1 - 0.55 * np.maximum(mediastinum, _step(v.y - v.diaphragm, 0.05))
    attenuation = body * (1 + 0.03 * _smooth_noise(rng, 12, size))
    attenuation -= LUNG_AIR * air * (1 + 0.03 * _smooth_noise(rng, 50, size))
    attenuation -= TRACHEA * _airway(v)
    attenuation += RIB * _ribs(v, 0.01 * _smooth_noise(rng, 7, size)) * clear + vessels
    attenuation += SPINE * _spine(v) + patient.breast * _breasts(v)
    if patient.has_gas:
        attenuation -= STOMACH * _stomach_gas(v)
    girdle = CLAVICLE * _clavicles(v) + SCAPULA * _scapulae(v) + HUMERUS * _humeri(v)
    attenuation += girdle * _step(body - 0.2, 0.15)  # no bone sticks out of the flesh
    return _Chest(v, air, vessels, np.maximum(attenuation, 0))


# --- Lesions: the change of attenuation, and its pixels ----------------------------------------


def _draw_side(rng: np.random.Generator) -> int:
    """-1 for the lung on the image's left, 1 for the other."""
    return -1 if rng.random() < 0.5 else 1


def _draw_site(chest: _Chest, side: int, rng: np.random.Generator) -> Point:
    """A point well inside one lung."""
    v = chest.view
    rows, columns = np.nonzero((chest.air > 0.55) & (v.x * side > 0))
    pick = int(rng.random() * len(rows))
    return float(v.x[rows[pick], columns[pick]]), float(v.y[rows[pick], columns[pick]])


def _consolidation(chest: _Chest, rng: np.random.Generator) -> tuple[Field, Mask]:
    """Alveoli filled in part of a lobe; in one patient of four, in both lungs."""
    v, first = chest.view, _draw_side(rng)
    filled = np.zeros_like(v.x)
    for side in (first, -first) if rng.random() < 0.25 else (first,):
        x, y = _draw_site(chest, side, rng)
        axes = (rng.uniform(0.16, 0.30), rng.uniform(0.16, 0.32))
        edge = 1 - _ellipse(v.x, v.y, (x, y), axes, rng.uniform(-0.8, 0.8))
        patch = _step(edge + 0.22 * _smooth_noise(rng, 14, v.size), 0.35) * (v.x * side > 0)
        if rng.random() < 0.4:  # a fissure stops it
            patch = patch * _step(v.y - y + 0.05, 0.03)
        filled = np.maximum(filled, patch)
    lost_air = chest.air * filled
    grain = np.clip(1 + 0.14 * _smooth_noise(rng, 40, v.size), 0.5, 1.3)
    change = rng.uniform(0.45, 0.85) * LUNG_AIR * lost_air * grain
    return change, lost_air > 0.3 * lost_air.max()


def _nodule(chest: _Chest, rng: np.random.Generator) -> tuple[Field, Mask]:
    """One to three round opacities, 6 to 16 pixels wide on a film of 256."""
    v = chest.view
    change = np.zeros_like(v.x)
    for _ in range(int(rng.integers(1, 4))):
        centre = _draw_site(chest, _draw_side(rng), rng)
        radius = max(rng.uniform(3, 8) / 128, v.pixel)
        axes = (radius * rng.uniform(0.88, 1.0), radius)
        ratio = _ellipse(v.x, v.y, centre, axes, rng.uniform(0, math.pi))
        change = np.maximum(change, rng.uniform(0.20, 0.36) * _chord(ratio))
    return change, change > 0


def _effusion(chest: _Chest, rng: np.random.Generator) -> tuple[Field, Mask]:
    """Fluid that sinks to the base and climbs the flank in a meniscus."""
    v, side = chest.view, _draw_side(rng)
    level = v.patient.base - rng.uniform(0.17, 0.72)
    meniscus = level - rng.uniform(0.08, 0.22) * np.minimum(v.side / v.cage, 1) ** 5
    fluid = _step(v.y - meniscus, 0.035) * (v.x * side > 0)
    change = (LUNG_AIR * rng.uniform(0.75, 1.0) * chest.air - chest.vessels) * fluid
    return change, (fluid > 0.5) & (chest.air > 0.25)


def _pneumothorax(chest: _Chest, rng: np.random.Generator) -> tuple[Field, Mask]:
    """Free air between the chest wall and the fine line of the lung's own lining."""
    v, side = chest.view, _draw_side(rng)
    wall = 1 - v.side / v.cage
    depth = wall / _slope(wall, v.pixel)
    gap = rng.uniform(0.10, 0.26) * (0.3 + 0.7 * _step(v.height - 0.5, 0.5))  # widest on top
    lung = (chest.air > 0.25) & (v.x * side > 0)
    mask = lung & (depth < gap)
    lining = 0.10 * np.exp(-(((depth - gap) / v.pixel - 0.8) ** 2)) * lung
    return lining - mask * (FREE_AIR * np.sqrt(chest.air) + chest.vessels), mask


_DRAW: dict[str, Callable[[_Chest, np.random.Generator], tuple[Field, Mask]]] = {
    "consolidation": _consolidation,
    "nodule": _nodule,
    "effusion": _effusion,
    "pneumothorax": _pneumothorax,
}


# --- Film -----------------------------------------------------------------------------------


def _expose(attenuation: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Grey levels: quantum noise, then a saturating curve of random speed and contrast."""
    photons, speed, gamma = rng.uniform(1500, 6000), rng.uniform(1.05, 1.6), rng.uniform(0.9, 1.2)
    black, white = rng.uniform(0.0, 0.04), rng.uniform(0.97, 1.14)
    grain = rng.standard_normal(attenuation.shape, dtype=np.float32)
    grain = 0.5 * grain + 0.25 * (np.roll(grain, 1, 0) + np.roll(grain, 1, 1))
    # Counting fewer photons behind dense tissue makes log-exposure noisier there.
    noise = grain * np.exp(0.5 * attenuation) / math.sqrt(photons)
    grey = (1 - np.exp(-speed * np.maximum(attenuation + noise, 0))) ** gamma
    return np.asarray(np.clip(255 * (black + (white - black) * grey), 0, 255), np.uint8)


def _burn_marker(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A side marker beside the shoulder, on two films of five."""
    if rng.random() > 0.4:
        return image
    film, size = Image.fromarray(image), len(image)
    letter, x = ("R", 0.05) if rng.random() < 0.6 else ("L", 0.95)
    place = (x * size, rng.uniform(0.06, 0.35) * size)
    font = ImageFont.load_default(rng.uniform(0.05, 0.08) * size)
    grey = int(rng.integers(190, 256))
    ImageDraw.Draw(film).text(place, letter, fill=grey, font=font, anchor="mm")
    return np.array(film)


def draw_phantom(seed: int, lesion: str | None = None, size: int = 256) -> Phantom:
    """One chest radiograph of (size, size) pixels, the same for the same arguments.

    One seed is one patient and one film, whatever the lesion and the size: `draw_phantom(seed)` is
    what a sick image would be, were it healthy. Raises DataError for a lesion that is not in
    `LESIONS`, or a size below 32.
    """
    if lesion is not None and lesion not in LESIONS:
        raise DataError(f"Unknown lesion {lesion!r}: choose one of {', '.join(LESIONS)}, or None.")
    if size < SMALLEST_SIZE:
        raise DataError(f"{size} pixels show no chest: ask for {SMALLEST_SIZE} or more a side.")
    entropy = seed % 2**128  # generators take no negative seed
    # One stream each, so that neither the lesion nor the size changes what the others draw.
    patient, disease, film, marker = (np.random.default_rng([entropy, n]) for n in range(4))
    chest = _draw_chest(patient, size)
    attenuation, mask = chest.attenuation, np.zeros((size, size), dtype=np.bool_)
    if lesion is not None:
        change, mask = _DRAW[lesion](chest, disease)
        attenuation = np.maximum(attenuation + change, 0)
    return Phantom(_burn_marker(_expose(attenuation, film), marker), mask, lesion)
