"""The handlers of the Runs tab as plain functions on a real job table, with a real finished run."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import gradio as gr
import pytest

from jobs.sweeps import SweepPlan
from jobs.views import Status
from medvae.config import Config
from medvae.engine.score_request import ScoreRequest
from tests.conftest import TrainedRun
from tests.ui.conftest import STARTED, Puppet, epoch
from ui.context import Context
from ui.models import ActiveModel, ModelView
from ui.run_actions import (
    copy_run,
    delete_run,
    export_bundle,
    hand_out,
    import_bundle,
    move_first,
    possible_actions,
    rename_run,
    retry_run,
    use_model,
)
from ui.run_list import Wanted
from ui.run_list import list_rows as rows_of
from ui.runs_tab import show_name, show_runs
from ui.waiting_line import move_in_line, refresh_line


@pytest.fixture
def finished(context: Context, puppet: Puppet, trained: TrainedRun) -> str:
    """A run with all its files, as the worker leaves it."""
    job = context.service.submit(trained.config, name="<i>mine</i>")
    puppet.begin(job, [STARTED, epoch(1), epoch(2)])
    shutil.copytree(trained.folder, context.workspace.run_folder(job))
    puppet.end(job, Status.SUCCEEDED, result=trained.outcome.summary())
    return job


def test_an_empty_table_says_what_to_do(context: Context) -> None:
    table, *about = show_runs(context, "", "")[:5]
    assert "No runs yet" in table
    assert about == ["", "", "", ""]


def test_the_table_and_the_chosen_run_show_their_figures(context: Context, finished: str) -> None:
    table, head, figures, curves, records, *rest, token = show_runs(context, finished, "")
    assert not any(isinstance(each, gr.Textbox) for each in rest)  # nor what is being typed
    assert "&lt;i&gt;mine&lt;/i&gt;" in table
    assert "<i>mine" not in table + head
    assert f"run={finished}" in table
    assert "2 of 2" in table
    for said in ("Baseline: mean brightness", "Sensitivity", "Test images at the threshold"):
        assert said in figures
    assert curves.count("<svg") == 3
    for said in ("data:image/jpeg", "latent size"):
        assert said in records
    assert show_runs(context, finished, token) == gr.skip()


def test_an_unknown_run_is_said_to_be_unknown(context: Context) -> None:
    _, head, *_ = show_runs(context, "nobody", "")
    assert "There is no run named" in head


def test_a_model_is_put_to_use(context: Context, finished: str) -> None:
    assert offered(context) == ["use", "copy", "delete", "export"]
    use_model(context, finished)
    assert context.model.look().status == "ready"
    assert context.workspace.promoted.exists()


def test_only_what_is_possible_is_offered(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    assert offered(context) == ["first", "cancel", "delete"]
    puppet.begin(job, [STARTED])
    assert offered(context) == ["cancel"]
    puppet.tell(job, epoch(1))
    assert offered(context) == ["keep", "cancel"]
    puppet.end(job, Status.FAILED, error="x")
    assert offered(context) == ["retry", "copy", "delete"]
    folder = context.workspace.run_folder(job)
    folder.mkdir(parents=True)
    (folder / "last.pth").touch()
    assert offered(context) == ["resume", "retry", "copy", "delete"]
    retry_run(context, job)
    assert context.service.job(job).status is Status.QUEUED
    with pytest.raises(gr.Error, match="cannot retry"):
        retry_run(context, job)


def test_deleting_is_asked_for_first(context: Context, finished: str) -> None:
    assert delete_run(context, "") == gr.skip()  # the question was answered with no
    assert delete_run(context, finished) == ""
    assert context.service.jobs() == []
    assert not context.workspace.run_folder(finished).exists()


def test_an_evaluation_is_listed_with_its_figures(
    context: Context, finished: str, puppet: Puppet, trained: TrainedRun
) -> None:
    job = context.service.submit_evaluation(finished)
    puppet.begin(job)
    puppet.end(
        job, Status.SUCCEEDED, result={"evaluation": trained.outcome.summary()["evaluation"]}
    )
    table, head, figures, *_ = show_runs(context, job, "")
    assert "Evaluation of" in table
    assert head.startswith("<header")
    assert "Sensitivity" in figures


def test_the_waiting_line_is_shown_and_changed_one_place_at_a_time(context: Context) -> None:
    assert refresh_line(context, "")[0] == ""
    first = context.service.submit(Config(), name="<i>first")
    second = context.service.submit(Config(), name="second")
    drawn, token = refresh_line(context, "")
    assert drawn.index("&lt;i&gt;first") < drawn.index("second")
    assert drawn.count("aria-disabled") == 2  # up for the first, down for the last
    assert refresh_line(context, token) == gr.skip()
    for job, to, order in (
        (second, "up", [second, first]),
        (second, "up", [second, first]),
        (second, "down", [first, second]),
    ):
        move_in_line(context, json.dumps({"job": job, "to": to}))
        assert [waiting.id for waiting in context.service.line()] == order
    with pytest.raises(gr.Error, match="there is no job"):
        move_in_line(context, '{"job": "nobody", "to": "up"}')


def test_a_run_is_moved_to_the_front_and_run_again_as_a_copy(context: Context) -> None:
    _, last = context.service.submit(Config()), context.service.submit(Config(), name="mine")
    assert context.service.queue_position(last) == 2
    move_first(context, last)
    assert context.service.queue_position(last) == 1
    copy = copy_run(context, last)
    assert copy != last
    assert context.service.job(copy).name == "mine (copy)"


def test_the_log_is_shown_and_every_file_handed_out(
    context: Context, finished: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    offered_file = gr.DownloadButton(render=False)
    log = context.service.log_file(finished)
    log.write_text("".join(f"line {n} <b>\n" for n in range(300)), encoding="utf-8")
    shown = show_runs(context, finished, "")
    assert "line 299 &lt;b&gt;" in shown[5]
    assert "line 99 " not in shown[5]
    names = [name for name, _ in shown[6].choices]
    assert {"best.pth", "evaluation.json", "log.txt"} <= set(names)
    for name in ("best.pth", log.name):
        copy = Path(hand_out(context, offered_file, finished, name))
        assert copy.read_bytes() == (log.parent / name).read_bytes()
        assert copy.is_relative_to(tmp_path / "served")
    for name in ("../../secret", None):
        with pytest.raises(gr.Error, match="has no file"):
            hand_out(context, offered_file, finished, name)


def test_a_sweep_is_one_row_that_opens_and_ranks_its_runs(context: Context, puppet: Puppet) -> None:
    plan = SweepPlan.parse(["loss.beta=0.5,2"])
    sweep = context.service.submit_sweep(Config(), plan)
    runs = {job.name: job.id for job in context.service.jobs(parent=sweep)}
    best, other = runs["Sweep of beta: beta=2"], runs["Sweep of beta: beta=0.5"]
    for run, elbo in ((best, 10.0), (other, 11.0)):
        puppet.begin(run, [STARTED, epoch(1)])
        puppet.end(run, Status.SUCCEEDED, result={"best_validation_elbo": elbo})
    context.service.recover()
    assert [row.job.id for row in rows_of(context)] == [sweep]
    table, head, ranking, *_ = show_runs(context, "", "")
    assert "2 of 2 runs" in table
    assert best not in table
    table, head, ranking, *_ = show_runs(context, sweep, "")
    assert best in table
    assert "Sweep" in head
    assert ranking.index("beta=2") < ranking.index("beta=0.5")
    assert ranking.count("<svg") == 1
    assert best in show_runs(context, other, "")[0]  # its family stays open


def test_a_scoring_shows_its_parts_and_then_what_it_counted(
    context: Context, puppet: Puppet, tmp_path: Path
) -> None:
    model = tmp_path / "model.pth"
    model.touch()
    request = ScoreRequest(tmp_path, tmp_path / "out.parquet", model)
    job = context.service.submit_score(request)
    puppet.begin(job)
    parts = puppet.store.split(job, 1, {"shards/0": {"shard": 0}, "shards/1": {"shard": 1}})
    puppet.begin(parts[0])
    puppet.end(parts[0], Status.SUCCEEDED)
    table, head, figures, *_ = show_runs(context, job, "")
    assert "1 of 2 parts" in table
    assert "Scoring of an archive" in head
    assert 'aria-valuenow="1"' in figures
    puppet.begin(parts[1])
    puppet.end(parts[1], Status.SUCCEEDED)
    puppet.begin(job)
    counted = {"images": 1234, "unusual": 56, "unreadable": 7, "model": "m@1", "files": []}
    puppet.end(job, Status.SUCCEEDED, result=counted)
    figures = show_runs(context, job, "")[2]
    for said in ("1,234", "56", "m@1"):
        assert said in figures


def ended(context: Context, puppet: Puppet, name: str, loss: float, **changes: object) -> str:
    """A finished training whose validation loss ended where it is told to."""
    config = Config().override({key.replace("__", "."): value for key, value in changes.items()})
    job = context.service.submit(config, name=name)
    puppet.begin(job, [STARTED, epoch(1, loss + 1), epoch(2, loss)])
    puppet.end(job, Status.SUCCEEDED, result={"best_validation_loss": loss, "best_epoch": 2})
    return job


def test_runs_are_laid_over_each_other_and_what_differs_is_marked(
    context: Context, puppet: Puppet
) -> None:
    first = ended(context, puppet, "wide", 2.0, loss__beta=2.0)
    second = ended(context, puppet, "<b>narrow", 1.0, model__width=16)
    third = ended(context, puppet, "plain", 3.0)
    table, _, compared, curves, records, *_ = show_runs(
        context, first, "", f"{second},{third},nobody,{first}"
    )
    assert curves == records == ""
    assert compared.count("<svg") == 3
    assert compared.count('class="run3"') >= 3  # a line in each chart
    differing, same = compared.split("settings that are the same")
    assert differing.count("<mark>") == 3  # beta twice, width once
    assert "<mark>16</mark>" in differing
    assert "<mark>" not in same
    assert "&lt;b&gt;narrow" in compared
    assert "<b>narrow" not in compared + table
    assert f"run={first}&amp;with={third}" in compared  # takes the second one away
    assert table.count(">remove</a>") == 2
    assert "settings that are the same" not in "".join(show_runs(context, first, "")[:5])


def test_the_table_offers_to_compare_trainings_with_the_chosen_one(
    context: Context, puppet: Puppet, finished: str
) -> None:
    other = ended(context, puppet, "other", 1.0)
    evaluation = context.service.submit_evaluation(finished)
    assert f"run={finished}&amp;with={other}" in show_runs(context, finished, "")[0]
    assert f"with={evaluation}" not in show_runs(context, finished, "")[0]
    assert "with=" not in show_runs(context, evaluation, "")[0]


def test_the_table_is_searched_and_ordered(context: Context, puppet: Puppet) -> None:
    best = ended(context, puppet, "beta two", 1.0)
    worst = ended(context, puppet, "Alpha", 3.0)
    waiting = context.service.submit(Config(), name="gamma two")

    def listed(**wanted: str) -> list[str]:
        return [row.job.id for row in rows_of(context, wanted=Wanted(**wanted))]

    assert listed() == [waiting, worst, best]
    assert listed(words="TWO") == [waiting, best]
    assert listed(words="two beta") == [best]
    assert listed(words=worst) == [worst]
    assert listed(status="succeeded") == [worst, best]
    assert listed(order="name") == [worst, best, waiting]
    assert listed(order="loss") == [best, worst, waiting]
    assert "No such runs" in show_runs(context, "", "", "", "nowhere")[0]
    chosen = show_runs(context, best, "", "", "alpha")
    assert "beta two" in chosen[1]  # what the URL names is shown, listed or not


def test_the_model_in_use_is_asked_for_once_for_all_rows(
    context: Context, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.service.submit_sweep(Config(), SweepPlan.parse(["loss.beta=0.5,1"]))
    asked: list[ActiveModel] = []

    def look(model: ActiveModel) -> ModelView:
        asked.append(model)
        return ModelView("ready", run=finished)

    monkeypatch.setattr(ActiveModel, "look", look)
    sweep, mine = rows_of(context)
    assert [row.in_use for row in (sweep, *sweep.runs, mine)] == [False, False, False, True]
    assert len(asked) == 1


def test_a_run_gets_another_name(context: Context, finished: str) -> None:
    rename_run(context, finished, "  baseline,   seed 1 ")
    assert context.service.job(finished).name == "baseline, seed 1"
    field, filled = show_name(context, finished)
    assert field.value == filled == "baseline, seed 1"
    assert not show_name(context, "nobody")[0].visible
    with pytest.raises(gr.Error, match="needs a name"):
        rename_run(context, finished, " ")


def test_the_model_card_is_shown_and_a_bundle_goes_out_and_in(
    context: Context, finished: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    shown = show_runs(context, finished, "")
    assert "### Intended use" in shown[8]
    out = Path(export_bundle(context, gr.DownloadButton(render=False), finished))
    assert out.name == f"{finished}.zip"
    upload = shutil.copy(out, tmp_path / "x.zip")
    imported = import_bundle(context, str(upload))
    job = context.service.job(imported)
    assert job.status is Status.SUCCEEDED
    assert job.payload == {"imported": "x.zip"}
    table, _, figures, curves, *_ = show_runs(context, imported, "")
    assert table.count("2 of 2 epochs") == 2
    assert "Sensitivity" in figures
    assert curves.count("<svg") == 3
    use_model(context, imported)
    assert context.model.look().run == imported


def test_a_bad_bundle_is_refused_and_leaves_nothing(context: Context, upload: Path) -> None:
    bad = upload / "x.zip"
    bad.write_text("no ZIP")
    with pytest.raises(gr.Error, match="not a ZIP"):
        import_bundle(context, str(bad))
    assert context.service.jobs() == []


def offered(context: Context) -> list[str]:
    possible = possible_actions(context, rows_of(context)[0])
    return [name for name, is_possible in asdict(possible).items() if is_possible]
