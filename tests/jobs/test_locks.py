"""One page a folder and one worker a device, between real processes."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.launcher import COMMAND, worker_commands
from jobs.locks import Lock, Taken, lock_device, lock_page
from medvae.errors import JobError
from medvae.workspace import PROJECT, Workspace
from tests.jobs.conftest import FAST, SpawnWorker, wait_for

WORKER = [sys.executable, "-m", "jobs.worker", "--runners=tests.jobs.fake_runners:RUNNERS", *FAST]


def test_a_lock_has_one_holder_and_ends_with_its_process(workspace: Workspace) -> None:
    script = (
        "import sys, time; from jobs.locks import Lock; from medvae.workspace import Workspace;"
        "lock = Lock(Workspace.current(), 'door', 'me'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(Taken) as taken:
            Lock(workspace, "door")
        assert taken.value.holder == "me"
        holder.kill()
    Lock(workspace, "door").release()


def test_a_child_that_outlives_the_holder_does_not_keep_the_lock(workspace: Workspace) -> None:
    lock = Lock(workspace, "door")
    with subprocess.Popen(["sleep", "60"]) as child:
        lock.release()
        Lock(workspace, "door").release()
        child.kill()


def test_the_second_in_line_is_told_who_was_first(workspace: Workspace) -> None:
    page, device = lock_page(workspace), lock_device(workspace, "cuda:0")
    with pytest.raises(JobError, match="it is just starting"):
        lock_page(workspace)
    page.describe("http://127.0.0.1:7860/")
    with pytest.raises(JobError, match=r"already open for .*: it is at http://127.0.0.1:7860/"):
        lock_page(workspace)
    with pytest.raises(JobError, match=rf"cuda:0 already has a worker \(process {os.getpid()}\)"):
        lock_device(workspace, "cuda:0")
    lock_device(workspace, "cuda:1").release()
    page.release(), device.release()


def test_a_second_worker_on_a_device_is_refused_until_the_first_has_died(
    workspace: Workspace, spawn_worker: SpawnWorker
) -> None:
    first = spawn_worker("--device=cuda:0")
    lock = workspace.state / f"worker-cuda-0@{socket.gethostname()}.lock"
    wait_for(lambda: lock.exists() and lock.read_text() == f"process {first.pid}")
    second = subprocess.run([*WORKER, "--device=cuda:0"], cwd=PROJECT, capture_output=True)
    assert second.returncode == 2
    assert b"device cuda:0 already has a worker" in second.stderr
    first.send_signal(signal.SIGKILL)
    first.wait()
    third = spawn_worker("--device=cuda:0")
    wait_for(lambda: lock.read_text() == f"process {third.pid}")


def test_a_list_of_devices_gets_a_worker_for_each() -> None:
    assert worker_commands(None) == [list(COMMAND)]
    assert worker_commands("none") == []
    assert [command[-1] for command in worker_commands("cuda:0, cuda:1")] == ["cuda:0", "cuda:1"]
    for faulty in ("cuda:0,cuda:0", "cuda:0,", ""):
        with pytest.raises(JobError, match="list of different devices"):
            worker_commands(faulty)


@contextmanager
def page(home: Path, port: int, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "main.py", f"--port={port}", "--no-demo", *options]
    environment = {**os.environ, "MEDVAE_HOME": str(home)}
    with subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_second_page_on_a_folder_names_the_first_and_ends(workspace: Workspace) -> None:
    first, second = free_port(), free_port()
    with page(workspace.home, first, "--device=none") as process:
        assert process.stdout is not None
        assert f":{first}/" in process.stdout.readline()
        command = [sys.executable, "main.py", f"--port={second}"]
        refused = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: a page is already open for")
        assert f"http://127.0.0.1:{first}/" in refused.stderr and refused.stderr.count("\n") == 1
