"""The Data tab in HTML: the imported sets, and all about one of them.

Pure functions from surveys to text.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path, PurePath

from jobs.views import JobView, Status
from medvae.data.survey import LABELS, MEAN, SAMPLES, UNSPLIT, Audit, Survey
from ui.history import RunHistory
from ui.pictures import figure_uri
from ui.places import Place
from ui.plots import Title, histogram
from ui.train_views import doing
from ui.views import badge, count, link, moment, notice, panel, tile, tiles

LABEL_WORDS = {"normal": "healthy", "sick": "sick"}
COLUMNS = ("Healthy", "Sick", "Patients", "Duplicates", "Unreadable")  # of the table of sets
SIZES_LISTED = 5


def set_name(survey: Survey) -> str:
    """What people call it: the phantoms, or the folder."""
    if survey.data["root"] is None:
        return f"{survey.data['phantoms']:,} phantoms"
    return PurePath(survey.root).name


def sets_table(surveys: Mapping[str, Survey], chosen: str) -> str:
    """All surveyed sets by their id, the newest first."""
    if not surveys:
        return notice(
            "No images yet",
            "Name a folder of chest X-rays at the left, or draw phantoms. Importing decodes each "
            "image once, counts what is there, and checks that no sick image can reach training.",
        )
    body = "".join(_set_row(name, survey, name == chosen) for name, survey in surveys.items())
    heads = "".join(f'<th class="number">{name}</th>' for name in COLUMNS)
    return (
        '<div class="panel scroll" tabindex="0" role="region" aria-label="Data sets">'
        '<table class="runs" id="sets-table"><thead><tr><th>Data set</th><th>Leak audit</th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def not_looked_through(roots: Sequence[Path]) -> str:
    """Folders that a training has read, but nobody has imported here."""
    if not roots:
        return ""
    named = ", ".join(f"<code>{escape(str(root))}</code>" for root in roots)
    return (
        f'<p class="meta">Read by a training, not looked through yet: {named}. '
        "Import the folder to see what is in it.</p>"
    )


def import_status(
    job: JobView | None, history: RunHistory, position: int | None, has_worker: bool
) -> str:
    """What the newest import is doing, or how it ended; empty when there never was one."""
    if job is None:
        return ""
    if job.status is Status.SUCCEEDED:
        place = Place("data", images=(job.result or {}).get("imported", ""))
        line, bars = f"Done. {link(place, 'See what is in it')}.", ""
    else:
        line, bars = doing(job, history, position, has_worker)
    return (
        f'<section class="panel run-status" data-status="{job.status.value}"><header>'
        f'<h2>{escape(job.name)}</h2>{badge(job)}</header><p class="line">{line}</p>{bars}'
        "</section>"
    )


def set_details(survey: Survey, folder: Path) -> str:
    """Everything about one set. `folder`: where its pictures lie."""
    drawn = survey.data["root"] is None
    origin = "Drawn by this program" if drawn else f"<code>{escape(survey.root)}</code>"
    head = (
        f'<header class="run-head"><h2>{escape(set_name(survey))}</h2><p class="meta">'
        f"{origin}, decoded at {survey.image_size} × "
        f"{survey.image_size}, looked through {moment(survey.made)}. To learn from it, "
        f"choose it as data set on the {link(Place('train'), 'Train tab')}.</p>"
        f"{_source(survey)}</header>"
    )
    if survey.outdated:
        head += notice("The folder has changed", "Images were read anew since; import it again.")
    sides = f'<div class="sides">{_counts(survey)}{_sizes(survey)}</div>'
    return (
        f'<div class="details">{head}{audit_panel(survey.audit, survey.seed)}{_tiles(survey)}'
        f"{sides}{_pictures(folder)}{_set_aside(survey)}</div>"
    )


def _source(survey: Survey) -> str:
    """Empty for a set that was imported before this was written down."""
    if not survey.layout:
        return ""
    return (
        f'<p class="meta" id="set-source">Layout: {escape(survey.layout)}. Source and licence: '
        f"{escape(survey.source)}. Fingerprint of all contents: "
        f"<code>{escape(survey.fingerprint[:16])}</code></p>"
    )


def audit_panel(audit: Audit, seed: int) -> str:
    """The leak audit as a plain statement, with how much was compared."""
    if not audit.passed:
        return panel(
            "Not fit to train on",
            f'<p role="alert">{escape(audit.statement)}</p><p class="meta">A training on this set '
            "stops at once with the same words. Mend the folder and import it again.</p>",
            "audit failed",
        )
    found = audit.evidence
    checks = (
        f"{count(found['healthy'], 'image')} to learn from or to validate on, "
        f"held against {count(found['forbidden'], 'sick or test image')}",
        "By label and by name: none is sick",
        "By content (SHA-256) and by patient: none in common",
        f"By look: {count(found['pairs_by_hash'], 'pair')} compared, mirrored ones too; "
        f"{found['pairs_by_detail']:,} were alike enough to compare their fine detail, and none "
        "is a copy",
    )
    listed = "".join(f"<li>{check}</li>" for check in checks)
    return panel(
        "No sick or test image can reach training",
        f'<ul>{listed}</ul><p class="meta">Split with seed {seed}: {escape(audit.statement)}. '
        "Every training checks its own split again.</p>",
        "audit",
    )


def _tiles(survey: Survey) -> str:
    boxed = (
        [tile("Images with boxes", f"{survey.boxed:,}", "Marked by the set's own table; they test "
              "where a finding is seen, and never teach")] if survey.boxed else []
    )  # fmt: skip
    return tiles(
        tile(
            "Healthy images",
            f"{survey.images('normal'):,}",
            "Different readable images, labelled healthy",
        ),
        tile("Sick images", f"{survey.images('sick'):,}", "They are only ever used for testing"),
        tile(
            "Patients",
            f"{survey.distinct_patients:,}",
            "Told apart by the file name up to its first number; "
            f"{survey.patients['both']:,} have images of both classes",
        ),
        tile(
            "Duplicates dropped",
            f"{survey.duplicates:,}",
            "Files with the same bytes as another one count once",
        ),
        tile("Unreadable files", f"{survey.unreadable:,}", "Left out; each with its reason below"),
        *boxed,
    )


def _set_row(name: str, survey: Survey, is_chosen: bool) -> str:
    place = Place("data", images=name)
    images = (survey.images(label) for label in LABELS)
    numbers = (*images, survey.distinct_patients, survey.duplicates, survey.unreadable)
    state = ("succeeded", "passed") if survey.audit.passed else ("failed", "failed")
    cells = "".join(
        f'<td class="number" data-label="{name}">{number:,}</td>'
        for name, number in zip(COLUMNS, numbers, strict=True)
    )
    return (
        f'<tr{" aria-selected=true" if is_chosen else ""} data-href="{escape(place.url)}">'
        f'<td class="lead">{link(place, set_name(survey))} '
        f"<small>{survey.image_size} px</small></td>"
        f'<td data-label="Leak audit"><span class="badge {state[0]}">{state[1]}</span></td>'
        f"{cells}</tr>"
    )


def _counts(survey: Survey) -> str:
    rows = "".join(
        f"<tr><th>{escape(part)}</th>"
        + "".join(f'<td class="number">{labels[label]:,}</td>' for label in LABELS)
        + "</tr>"
        for part, labels in sorted(survey.counts.items())
    )
    heads = "".join(f'<th class="number">{LABEL_WORDS[label]}</th>' for label in LABELS)
    patients = "".join(f'<td class="number">{survey.patients[label]:,}</td>' for label in LABELS)
    note = f"{UNSPLIT} by the folder" if UNSPLIT in survey.counts else "As the folder splits them"
    return panel(
        "Images by split and class",
        f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}"
        f"<tr><th>patients</th>{patients}</tr></tbody></table>"
        f'<p class="meta">{note[0].upper()}{note[1:]}; what a training makes of it is said above.'
        "</p>",
    )


def _sizes(survey: Survey) -> str:
    """How large the files are: a histogram of the longer side, and the commonest sizes."""
    if len(survey.sizes) == 1:
        [(only, _)] = survey.sizes.items()
        return panel("Image sizes", f"<p>All files: {escape(only)} pixels.</p>")
    known = {name: number for name, number in survey.sizes.items() if "×" in name}
    sides = {name: max(int(side) for side in name.split("×")) for name in known}
    values = [float(sides[name]) for name, number in known.items() for _ in range(number)]
    chart = histogram(Title("Image sizes", "longer side, pixels"), values, {})
    common = ", ".join(
        f"{name} ({number:,})" for name, number in list(survey.sizes.items())[:SIZES_LISTED]
    )
    more = len(survey.sizes) - SIZES_LISTED
    rest = f" and {count(more, 'other size')}" if more > 0 else ""
    return f'<div>{chart}<p class="meta">{escape(common)}{rest}</p></div>'


def _pictures(folder: Path) -> str:
    shown = []
    for label, word in LABEL_WORDS.items():
        mean = figure_uri(folder / MEAN.format(label=label))
        samples = figure_uri(folder / SAMPLES.format(label=label))
        if mean and samples:
            pair = (
                f'<div class="pair">{_figure(mean, f"mean of all {word} images")}'
                f"{_figure(samples, f'some {word} images, drawn at random')}</div>"
            )
            shown.append(panel(word.capitalize(), pair))
    return f'<div class="classes">{"".join(shown)}</div>'


def _figure(uri: str, words: str) -> str:
    return f'<figure><img src="{uri}" alt="{words}"><figcaption>{words}</figcaption></figure>'


def _set_aside(survey: Survey) -> str:
    unreadable = [f"{path}: {_reason(path, why)}" for path, why in survey.unreadable_files.items()]
    duplicates = [f"{dropped} is the same as {kept}" for dropped, kept in survey.duplicate_pairs]
    return _folded(count(survey.unreadable, "unreadable file"), unreadable, survey.unreadable) + (
        _folded(f"{count(survey.duplicates, 'duplicate')} dropped", duplicates, survey.duplicates)
    )


def _reason(path: str, why: str) -> str:
    return why.removeprefix(f"{path}: ")


def _folded(title: str, lines: Sequence[str], total: int) -> str:
    if not lines:
        return ""
    rest = f"<li>and {total - len(lines):,} more</li>" if total > len(lines) else ""
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (
        f'<details class="panel"><summary>{title}</summary>'
        f'<ul class="reasons" tabindex="0">{listed}{rest}</ul></details>'
    )
