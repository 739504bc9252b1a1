"""Real databases and real worker processes for the tests of jobs/."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from jobs.service import JobService
from jobs.store import Store
from jobs.views import Status
from medvae.workspace import PROJECT, Workspace

PATIENCE = 60.0  # seconds, far longer than anything takes; a busy machine starts a worker slowly
FAST = ("--lease=1", "--heartbeat=0.1", "--housekeeping=0.2", "--lost_nudge=0.5", "--grace=5")

NUDGED_ONLY = ("--housekeeping=600", "--lost_nudge=600")  # for a worker that looks at nothing else

SpawnWorker = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MEDVAE_HOME", str(tmp_path))
    monkeypatch.delenv("MEDVAE_DATABASE_URL", raising=False)
    monkeypatch.delenv("MEDVAE_QUEUE_URL", raising=False)
    return Workspace(tmp_path)


class PostgresServer:
    """A server of its own in a folder of its own, reached through a socket there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._schemas = 0
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
        self._run("initdb", "--auth=trust", "--username=medvae", "--no-sync", f"-D{folder}/data")
        self.start()

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        log = f"-l{self.folder}/log"
        self._run("pg_ctl", "start", "-w", f"-D{self.folder}/data", log, "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-mimmediate", f"-D{self.folder}/data")

    def new_database(self) -> str:
        """The URL of an empty schema, which to its users is a database of their own."""
        self._schemas += 1
        url = f"postgresql://medvae@/postgres?host={self.folder}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA test{self._schemas}")
        return f"{url}&options=-csearch_path%3Dtest{self._schemas}"

    def _run(self, program: str, *arguments: str) -> None:
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, find_postgres(program), *arguments]
        with (self.folder / "output").open("w+") as output:  # a pipe would wait for the server too
            done = subprocess.run(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            output.seek(0)
            assert done.returncode == 0, f"{command}: {output.read()}"


def find_postgres(program: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    found = shutil.which(program) or (str(versions[-1]) if versions else None)
    if found is None:
        pytest.fail(f"these tests need PostgreSQL's {program}: install the package `postgresql`")
    return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="medvae-pg-"))  # tmp_path is closed to other users
    server = PostgresServer(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class RedisServer:
    """A server of its own on a free port of this machine, keeping nothing on disk."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("these tests need redis-server: install the package `redis-server`")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [program, f"--port {self.port}", "--bind 127.0.0.1", "--save", ""]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        with closing(redis.Redis(port=self.port)) as client:
            wait_for(lambda: _answers(client))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def redis_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """Carries the nudges of this test."""
    server = RedisServer()
    monkeypatch.setenv("MEDVAE_QUEUE_URL", server.url)
    monkeypatch.setenv("MEDVAE_QUEUE_SECRET", "correct horse battery staple")
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{workspace.state / 'jobs.db'}"
    url: str = request.getfixturevalue("postgres").new_database()
    return url


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with closing(Store(database_url)) as store:
        yield store


@pytest.fixture
def service(workspace: Workspace) -> Iterator[JobService]:
    with closing(JobService(workspace)) as service:
        yield service


@pytest.fixture
def spawn_worker(workspace: Workspace) -> Iterator[SpawnWorker]:
    """Starts `python -m jobs.worker` with the fake runners and short periods."""
    processes: list[subprocess.Popen[bytes]] = []

    def spawn(*options: str) -> "subprocess.Popen[bytes]":
        runners = "--runners=tests.jobs.fake_runners:RUNNERS"
        command = [sys.executable, "-m", "jobs.worker", runners, *FAST, *options]
        processes.append(subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE))
        return processes[-1]

    yield spawn
    for process in processes:
        process.kill()
        process.communicate()


class Work:
    """Submits step jobs and reads the diary that the workers keep."""

    def __init__(self, service: JobService, diary: Path) -> None:
        self.service, self.path = service, diary

    def submit(self, steps: int = 5, kind: str = "step") -> str:
        payload = {"steps": steps, "diary": str(self.path)}
        return self.service.submit(None, kind, payload=payload)

    def diary(self) -> list[list[str]]:
        """Lines of [job, attempt, pid, word, steps]."""
        return [line.split() for line in self.path.read_text().splitlines()] if self.begun else []

    @property
    def begun(self) -> bool:
        return self.path.exists()

    def words(self, job_id: str) -> list[str]:
        return [line[3] for line in self.diary() if line[0] == job_id]

    def status(self, job_id: str) -> Status:
        return self.service.job(job_id).status

    def has(self, job_id: str, status: Status) -> bool:
        return self.status(job_id) is status


@pytest.fixture
def work(service: JobService, tmp_path: Path) -> Work:
    return Work(service, tmp_path / "diary")


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for yet does not count."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return state != "" and "Z" not in state


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
