"""A worker whose connection to PostgreSQL breaks off for longer than its lease, then comes back."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobs.schema import EventRow
from jobs.service import JobService
from jobs.views import Status
from medvae.engine.events import Stop
from medvae.workspace import Workspace
from tests.jobs.conftest import PostgresServer, SpawnWorker, Work, wait_for

SOCKET = ".s.PGSQL.5432"


class Link:
    """Between clients and a server: passes everything on, until it is cut; then keeps it.

    What was sent meanwhile arrives when the link is mended.
    """

    def __init__(self, server: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="medvae-link-"))
        self._server = server
        self._whole = threading.Event()
        self._whole.set()
        self._fatal = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / SOCKET))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def is_cut(self) -> bool:
        return not self._whole.is_set()

    def cut_inside_a_transaction(self) -> None:
        """Break off before the next COMMIT on a connection that writes events."""
        self._fatal = True

    def mend(self) -> None:
        self._fatal = False
        self._whole.set()

    def close(self) -> None:
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server / SOCKET))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=[source, target], daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        writes_events = False
        try:
            while data := source.recv(65536):
                writes_events |= b'INSERT INTO "event"' in data  # later on only by a number
                if self._fatal and writes_events and b"COMMIT" in data:
                    self._whole.clear()
                self._whole.wait()
                target.sendall(data)
        except OSError:
            pass  # the other side has closed
        finally:
            source.close()
            target.close()


@pytest.fixture
def link(postgres: PostgresServer) -> Iterator[Link]:
    made = Link(postgres.folder)
    yield made
    made.mend()
    made.close()


def test_a_worker_that_was_cut_off_writes_nothing_when_it_comes_back(
    postgres: PostgresServer,
    link: Link,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spawn_worker: SpawnWorker,
) -> None:
    """Cut at the worst moment: inside the transaction that stores events, its row locked."""
    direct = postgres.new_database()
    monkeypatch.setenv("MEDVAE_QUEUE_SECRET", "correct horse battery staple")
    monkeypatch.setenv("MEDVAE_DATABASE_URL", direct)
    with closing(JobService(workspace)) as service:
        work = Work(service, tmp_path / "diary")
        job_id = work.submit(steps=100_000)
        monkeypatch.setenv(
            "MEDVAE_DATABASE_URL", direct.replace(str(postgres.folder), str(link.folder))
        )
        zombie = spawn_worker()
        wait_for(lambda: work.begun)
        monkeypatch.setenv("MEDVAE_DATABASE_URL", direct)
        successor = spawn_worker()
        wait_for(lambda: len(service.workers()) == 2)
        link.cut_inside_a_transaction()
        wait_for(lambda: link.is_cut)
        wait_for(lambda: work.words(job_id).count("begin") == 2)
        assert work.words(job_id) == ["begin", "begin"]  # the first goes on, unheard
        link.mend()
        wait_for(lambda: "cancel" in work.words(job_id))
        service.stop(job_id, Stop.KEEP)
        wait_for(lambda: work.has(job_id, Status.SUCCEEDED))
        ends = {line[3]: (line[1], line[2]) for line in work.diary()[2:]}
        assert ends == {"cancel": ("1", str(zombie.pid)), "keep": ("2", str(successor.pid))}
        job = service.job(job_id)
        assert (job.attempt, job.result) == (2, {"steps": int(work.diary()[-1][4])})
        query = EventRow.select(EventRow.attempt).order_by(EventRow.seq).tuples()
        attempts = [attempt for (attempt,) in service._store._database.rows(query)]
        assert attempts == sorted(attempts)  # none of the first after one of the second
        assert set(attempts) == {1, 2}
