"""Sweeps: what is tried, how it is ranked, and one family under one hand."""

from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.chaos import tiny_config
from jobs.service import JobService
from jobs.store import Store
from jobs.sweeps import Range, SweepPlan
from jobs.views import Status
from jobs.worker import Timing, Worker
from medvae.config import Config
from medvae.engine.events import Stop
from medvae.errors import ConfigError, JobError
from medvae.workspace import Workspace

BETAS = SweepPlan({"loss.beta": [0.5, 2.0]})


@pytest.fixture
def shared(database_url: str, workspace: Workspace):  # type: ignore[no-untyped-def]
    """The service on both kinds of job table."""
    queue = f"sqlite:///{workspace.state}/queue.db"
    with closing(JobService(workspace, database_url, queue)) as service:
        yield service


def runs_of(service: JobService, sweep: str) -> list[str]:
    return [job.id for job in service.jobs(parent=sweep)]


def end(store: Store, run: str, status: Status, **result: object) -> None:
    job = store.claim("w", 60, run)
    assert job is not None
    store.finish(run, job.attempt, status, result)
    store.families.settle(job.parent)


def test_a_grid_is_every_combination_and_a_random_search_repeats_by_its_seed() -> None:
    grid = SweepPlan.parse(["loss.beta=0.5,1", "model.width=8,16,32"])
    assert len(grid.changes()) == 6
    assert grid.changes()[0] == {"loss.beta": 0.5, "model.width": 8}
    space = ["training.learning_rate=1e-4..1e-2", "model.latent_size=8..64", "loss.beta=1,4"]
    plan = SweepPlan.parse(space, trials=20, seed=5)
    drawn = plan.changes()
    assert drawn == SweepPlan.from_payload(plan.payload()).changes()
    assert drawn != SweepPlan.parse(space, trials=20, seed=6).changes()
    assert len({str(change) for change in drawn}) == 20
    assert all(1e-4 <= change["training.learning_rate"] <= 1e-2 for change in drawn)
    assert all(isinstance(change["model.latent_size"], int) for change in drawn)
    assert len(SweepPlan.parse(["loss.beta=1,4"], trials=20).changes()) == 2


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (SweepPlan({}), "needs something to try"),
        (SweepPlan({"training.seed": [1, 2]}), "cannot try 'training.seed'"),
        (SweepPlan({"model.image_size": [32, 64]}), "cannot try 'model.image_size'"),
        (SweepPlan({"loss.beta": Range(1, 2)}), "needs a random search"),
        (SweepPlan({"loss.beta": Range(2, 1)}, 3), "0 < LOW < HIGH"),
        (SweepPlan({"loss.beta": list(range(999))}), "999 runs: expected 1 to 200"),
        (SweepPlan({"model.width": [1]}), "model.width"),
    ],
)
def test_a_sweep_that_cannot_be_compared_or_run_is_refused_whole(
    service: JobService, plan: SweepPlan, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        service.submit_sweep(Config(), plan)
    assert service.jobs() == []
    with pytest.raises(ConfigError, match="expected numbers"):
        SweepPlan.parse(["loss.beta=small,large"])


def test_a_sweep_follows_its_runs_and_nobody_claims_it(shared: JobService) -> None:
    sweep = shared.submit_sweep(Config(), BETAS)
    first, second = runs_of(shared, sweep)
    assert shared.job(sweep).status is Status.RUNNING
    assert shared.waiting() == 2
    end(shared._store, first, Status.FAILED)
    shared.recover()
    assert shared.job(sweep).status is Status.RUNNING
    end(shared._store, second, Status.SUCCEEDED)
    job = shared.job(sweep)
    assert (job.status, job.error) == (Status.SUCCEEDED, None)
    assert job.ended is not None
    shared.retry(first)
    assert shared.job(sweep).status is Status.RUNNING
    assert shared.job(sweep).ended is None
    assert shared._store.claim("w", 60) and not shared._store.claim("w", 60)


def test_a_sweep_runs_while_one_of_its_runs_does_also_a_copy_and_not_one_stopped_or_deleted(
    shared: JobService,
) -> None:
    sweep = shared.submit_sweep(Config(), BETAS)
    first, second = runs_of(shared, sweep)
    end(shared._store, first, Status.SUCCEEDED)
    shared.delete(second)
    assert shared.job(sweep).status is Status.SUCCEEDED
    copy = shared.clone(first)
    job = shared.job(sweep)
    assert (job.status, job.ended) == (Status.RUNNING, None)
    shared.stop(copy)
    assert shared.job(sweep).status is Status.SUCCEEDED
    shared.retry(copy)
    assert shared.job(sweep).status is Status.RUNNING
    shared.delete(copy)
    assert shared.job(sweep).status is Status.SUCCEEDED
    shared.delete(first)
    assert shared.job(sweep).status is Status.CANCELLED  # none of its runs is left


def test_a_sweep_whose_runs_all_failed_has_failed(shared: JobService) -> None:
    sweep = shared.submit_sweep(Config(), BETAS)
    for run in runs_of(shared, sweep):
        end(shared._store, run, Status.FAILED)
    job = shared.job(sweep)
    assert (job.status, job.error) == (
        Status.FAILED,
        "every run of the sweep failed; each says why",
    )


def test_cancel_resume_clone_and_delete_act_on_the_family(
    shared: JobService, workspace: Workspace
) -> None:
    sweep = shared.submit_sweep(Config(), BETAS, name="Betas")
    first, second = runs_of(shared, sweep)
    shared._store.claim("w", 60, first)
    assert shared.stop(sweep).status is Status.RUNNING
    assert shared.job(first).stop is Stop.CANCEL
    assert shared.job(second).status is Status.CANCELLED
    with pytest.raises(JobError, match=r"cannot delete .* it is running"):
        shared.delete(sweep)
    shared._store.finish(first, 1, Status.CANCELLED)
    shared.recover()
    assert shared.job(sweep).status is Status.CANCELLED
    with pytest.raises(JobError, match=r"cannot stop .* it is cancelled"):
        shared.stop(sweep)
    kept = workspace.run_folder(first) / "attempt-1" / "last.pth"
    kept.parent.mkdir(parents=True)
    kept.write_text("x")
    assert shared.resume(sweep).status is Status.RUNNING
    assert shared.waiting() == 2 and kept.exists()
    copy = shared.job(shared.clone(sweep))
    assert (copy.name, len(runs_of(shared, copy.id))) == ("Betas (copy)", 2)
    shared.stop(sweep)
    shared.delete(sweep)
    assert not workspace.run_folder(first).exists()
    assert {job.parent or job.id for job in shared.jobs()} == {copy.id}


def test_the_ranking_hears_healthy_validation_images_alone(shared: JobService) -> None:
    sweep = shared.submit_sweep(Config(), SweepPlan({"loss.beta": [0.5, 1.0, 2.0]}))
    by_beta = {trial.changes["loss.beta"]: trial.job.id for trial in shared.ranking(sweep)}
    flattering = {"score": "mse", "auroc": {"mse": {"value": 0.99, "low": 0.98, "high": 1.0}}}
    figures = {"best_validation_loss": 1.0, "best_validation_elbo": 90.0, "evaluation": flattering}
    end(shared._store, by_beta[0.5], Status.SUCCEEDED, **figures)
    end(shared._store, by_beta[2.0], Status.SUCCEEDED, best_validation_elbo=80.0)
    assert [trial.changes["loss.beta"] for trial in shared.ranking(sweep)] == [2.0, 0.5, 1.0]
    assert "80.00" in shared.ranking(sweep)[0].line()
    with pytest.raises(JobError, match="is no sweep"):
        shared.ranking(by_beta[2.0])


def test_a_real_sweep_trains_and_ranks_its_runs(workspace: Workspace, tmp_path: Path) -> None:
    with closing(JobService(workspace)) as service:
        config = tiny_config(0).override({"training.epochs": 2})
        sweep = service.submit_sweep(config, BETAS)
        worker = Worker(service._store, _open_queue(workspace), workspace, timing=Timing())
        for run in runs_of(service, sweep):
            worker.take(run)
        trials = service.ranking(sweep)
        assert service.job(sweep).status is Status.SUCCEEDED
        assert all(trial.elbo is not None for trial in trials)
        assert trials[0].elbo <= trials[1].elbo  # type: ignore[operator]


def _open_queue(workspace: Workspace):  # type: ignore[no-untyped-def]
    from jobs.queue import open_queue, queue_url

    return open_queue(queue_url(workspace))
