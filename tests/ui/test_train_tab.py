"""The handlers of the Train tab as plain functions on a real job table."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from jobs.sweeps import SweepPlan
from jobs.views import Status
from medvae.config import Config
from medvae.engine.events import Preparing, SamplesDrawn, Stop
from medvae.errors import ConfigError, DataError
from medvae.workspace import Workspace
from tests.data.drawn import chest, write
from tests.ui.conftest import STARTED, Puppet, epoch
from ui.app import build_context
from ui.config_form import form_fields, values_of
from ui.context import Context
from ui.data_tab import import_folder
from ui.detect_tab import queue_scoring
from ui.train_form import (
    OTHER,
    PHANTOMS,
    TRIED,
    TRY,
    apply_preset,
    data_choices,
    foresee,
    fresh_data,
    queue_sweep,
    queue_training,
    settings_of_run,
)
from ui.train_tab import LOOKED_THROUGH, follow_run, stop_run
from ui.train_views import FILM_FRAMES, film


def form(**changes: Any) -> dict[str, Any]:
    fields = form_fields()
    return {f.key: v for f, v in zip(fields, values_of(Config()), strict=True)} | changes


def test_a_good_form_is_queued(context: Context) -> None:
    faults, run, *_ = queue_training(context, PHANTOMS, "", **form(training__epochs=3))
    assert faults == ""
    job = context.service.job(run)
    assert job.config == Config().override({"training.epochs": 3}).model_dump()


def test_a_bad_form_is_not_queued_and_says_all_that_is_wrong(context: Context) -> None:
    faults, run, *marks = queue_training(
        context, OTHER, "/no/such/folder", **form(training__epochs=-1, model__latent_size=0)
    )
    assert run == gr.skip()
    assert faults.count("<li>") == 3
    wrong = [mark["info"] for mark in marks if mark["elem_classes"] == ["faulty"]]
    assert len(wrong) == 3
    assert all(words.startswith("Here: ") for words in wrong)
    assert "/no/such/folder: no such folder" in faults
    assert context.service.jobs() == []


@pytest.mark.parametrize("path", ["~nobodyhere/x", "/" + "a" * 300, "/a\0b"])
def test_a_path_that_cannot_be_is_one_clear_line_wherever_it_is_typed(
    context: Context, path: str
) -> None:
    faults, *_ = queue_training(context, OTHER, path, **form())
    assert faults.count("<li>") == 1
    assert "cannot be looked for (" in faults
    assert foresee(context, OTHER, path, **form()) == ""
    for queue in (
        lambda: import_folder(context, path, "NORMAL", "PNEUMONIA"),
        lambda: queue_scoring(context, path, ""),
        lambda: queue_scoring(context, "/", path),
    ):
        with pytest.raises(gr.Error, match="cannot be looked for"):
            queue()
    with pytest.raises((ConfigError, DataError)):
        context.service.submit(Config().override({"data.root": path}))  # by a program
    context.service._store.add("train", config={"data": {"root": path}})  # of an older version
    assert fresh_data(context).value == PHANTOMS


def test_a_corrected_form_loses_its_marks(context: Context) -> None:
    _, _, *marks = queue_training(context, PHANTOMS, "", **form())
    assert len(marks) == 1 + len(form_fields())
    assert all(mark["elem_classes"] == [] and mark["info"] for mark in marks)


def test_the_time_is_estimated_from_the_last_run_like_it(context: Context, puppet: Puppet) -> None:
    assert "No estimate" in foresee(context, PHANTOMS, "", **form())
    job = context.service.submit(Config(), name="<i>first</i>")
    puppet.begin(job, [STARTED, epoch(1), epoch(2)])
    puppet.end(job, Status.SUCCEEDED)
    assert "&lt;i&gt;first&lt;/i&gt; took" in foresee(context, PHANTOMS, "", **form())
    assert "4.0 s an epoch" in foresee(context, PHANTOMS, "", **form())
    assert "About 6 min 40 s" in foresee(context, PHANTOMS, "", **form(training__epochs=100))
    assert "No estimate" in foresee(context, PHANTOMS, "", **form(model__width=16))
    assert foresee(context, PHANTOMS, "", **form(training__epochs=0)) == ""


def test_the_curves_can_be_smoothed_and_logarithmic(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    puppet.begin(job, [STARTED, epoch(1, 4.0), epoch(2, 2.0), epoch(3, 3.0)])
    drawn = {
        choice: follow_run(context, job, *choice, "")[3]
        for choice in [(False, False), (True, False), (False, True)]
    }
    assert all(curves.count("<svg") == 3 for curves in drawn.values())
    assert len(set(drawn.values())) == 3


def test_a_sweep_is_queued_from_the_same_form(context: Context, puppet: Puppet) -> None:
    tried = {f"{TRY}{key}": "" for key in TRIED} | {f"{TRY}loss.beta": "0.5, 2"}
    faults, sweep, *_ = queue_sweep(
        context, PHANTOMS, "", tries=0, **form(training__epochs=3), **tried
    )
    assert faults == ""
    runs = context.service.jobs(parent=sweep)
    assert {run.config["loss"]["beta"] for run in runs if run.config} == {0.5, 2}
    assert all(run.config["training"]["epochs"] == 3 for run in runs if run.config)
    puppet.begin(runs[0].id, [STARTED])
    assert (
        runs[0].name in follow_run(context, sweep, False, False, "")[0]
    )  # what there is most to see of
    assert runs[0].name in follow_run(context, "", False, False, "")[0]


def test_a_sweep_of_nothing_is_refused(context: Context) -> None:
    tried = {f"{TRY}{key}": "" for key in TRIED}
    with pytest.raises(gr.Error, match="needs something to try"):
        queue_sweep(context, PHANTOMS, "", tries=0, **form(), **tried)
    faults, *_ = queue_sweep(context, PHANTOMS, "", tries=0, **form(loss__beta=-1), **tried)
    assert faults.count("<li>") == 1


def test_a_named_folder_is_offered_the_next_time(context: Context, chest_folder: Path) -> None:
    queue_training(context, OTHER, str(chest_folder), **form())
    assert str(chest_folder) in [value for _, value in data_choices(context)]
    assert fresh_data(context).value == str(chest_folder)


def test_a_folder_is_queued_by_its_absolute_path(
    context: Context, chest_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(chest_folder.parent)
    _, run, *_ = queue_training(context, OTHER, chest_folder.name, **form())
    assert (context.service.job(run).config or {})["data"]["root"] == str(chest_folder)


def test_the_folder_named_at_the_start_is_chosen(
    workspace: Workspace, context: Context, chest_folder: Path
) -> None:
    started = build_context(workspace, context.service, data=str(chest_folder))
    assert fresh_data(started).value == str(chest_folder)
    assert fresh_data(context).value == PHANTOMS


def test_a_preset_fills_in_every_setting() -> None:
    description, *values = apply_preset("quick")
    assert "demonstration" in description.info
    assert values == values_of(Config.load("quick"))


def test_an_empty_page_says_what_to_do(context: Context) -> None:
    status, *_, token = follow_run(context, "", False, False, "")
    assert "Nothing has been trained yet" in status
    assert follow_run(context, "", False, False, token) == gr.skip()


def test_an_unknown_run_is_said_to_be_unknown(context: Context) -> None:
    status, *_ = follow_run(context, "<i>nobody</i>", False, False, "")
    assert "&lt;i&gt;nobody&lt;/i&gt;" in status


def test_a_run_is_followed_from_the_line_to_its_end(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    status, keep, cancel, *_, shown, token = follow_run(context, "", False, False, "")
    assert "no worker is there yet" in status
    assert (keep.visible, cancel.visible, shown) == (False, True, job)

    puppet.begin(job, [Preparing("Drawing <phantoms>", 120, 600)])
    status, *_, token = follow_run(context, "", False, False, token)
    assert "Drawing &lt;phantoms&gt;: 120 of 600" in status

    puppet.tell(job, STARTED, epoch(1))
    status, keep, _, curves, *_, token = follow_run(context, "", False, False, token)
    assert "Epoch 2 of 3" in status
    assert keep.visible
    assert curves.count("<svg") == 3
    assert follow_run(context, "", False, False, token) == gr.skip()

    puppet.end(job, Status.FAILED, error="out of <memory>")
    status, keep, cancel, curves, *_ = follow_run(context, job, False, False, token)
    assert "out of &lt;memory&gt;" in status
    assert not (keep.visible or cancel.visible)
    assert curves == gr.skip()  # it is there already


def test_what_an_imported_run_says_of_itself_is_only_text(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    puppet.begin(job)
    result = {"best_validation_loss": 2.0, "best_epoch": "<i>3</i>"}
    puppet.end(job, Status.SUCCEEDED, result=result)
    assert "in epoch &lt;i&gt;3" in follow_run(context, job, False, False, "")[0]


def test_the_page_follows_what_runs_before_what_waits_and_what_ended(
    context: Context, puppet: Puppet
) -> None:
    first, second, _third = (context.service.submit(Config()) for _ in range(3))
    puppet.begin(first)
    assert follow_run(context, "", False, False, "")[-2] == first
    puppet.end(first, Status.SUCCEEDED)
    assert follow_run(context, "", False, False, "")[-2] == second


def test_what_runs_and_who_is_next_are_found_however_many_wait(
    context: Context, puppet: Puppet
) -> None:
    first, second = (context.service.submit(Config()) for _ in range(2))
    for _ in range(LOOKED_THROUGH):
        context.service.submit(Config())
    sweep = context.service.submit_sweep(Config(), SweepPlan.parse(["loss.beta=0.5,1"]))
    assert follow_run(context, "", False, False, "")[-2] == first
    puppet.begin(first)
    assert follow_run(context, "", False, False, "")[-2] == first
    puppet.end(first, Status.SUCCEEDED)
    assert follow_run(context, "", False, False, "")[-2] == second
    run = context.service.jobs(1, parent=sweep)[0].id
    puppet.begin(run)
    assert follow_run(context, "", False, False, "")[-2] == run


def test_stopping_asks_the_run(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    puppet.begin(job)
    stop_run(context, Stop.KEEP, "")  # asked, and answered with no
    assert context.service.job(job).stop is None
    stop_run(context, Stop.KEEP, job)
    assert context.service.job(job).stop is Stop.KEEP
    puppet.end(job, Status.SUCCEEDED)
    with pytest.raises(gr.Error, match="cannot stop"):
        stop_run(context, Stop.CANCEL, job)


def test_the_film_shows_a_few_epochs_with_first_and_last(
    context: Context, puppet: Puppet, tmp_path: Path
) -> None:
    strip = write(tmp_path / "strip.png", chest(1))
    job = context.service.submit(Config())
    puppet.begin(job, [STARTED, *(SamplesDrawn(n, str(strip)) for n in range(1, 41))])
    drawn = film(context.histories.of(context.service.job(job)))
    assert drawn.count("<figure") == 1 + FILM_FRAMES
    assert "epoch 1<" in drawn
    assert "epoch 40<" in drawn


def test_the_form_is_filled_with_the_settings_of_a_run(
    context: Context, chest_folder: Path
) -> None:
    config = Config().override({"loss.beta": 3.0, "data.root": str(chest_folder)})
    run = context.service.submit(config)
    data, path, *values = settings_of_run(context, run)
    assert data.value == str(chest_folder)
    assert path.visible is False
    assert values == values_of(config)
    folder = context.workspace.home / "gone"
    folder.mkdir()
    gone = context.service.submit(config.override({"data.root": str(folder)}))
    folder.rmdir()
    data, path, *_ = settings_of_run(context, gone)
    assert (data.value, path.value, path.visible) == (OTHER, str(folder), True)
    assert settings_of_run(context, "") == gr.skip()
    assert fresh_data(context, run) == gr.skip()
    with pytest.raises(gr.Error, match="no job"):
        settings_of_run(context, "nobody")
