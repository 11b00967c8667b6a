"""A real PostgreSQL server for the tests: a cluster of its own, on this machine's disk, with fsync on."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM_USER = "postgres"  # the server refuses to run as root


@dataclass(frozen=True)
class PostgresServer:
    """A running cluster, reached through a Unix socket in `folder`."""

    folder: Path
    programs: Path

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=on -c max_connections=50"
        self._run("pg_ctl", "start", "-w", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; `immediate` is a crash: nothing is flushed."""
        self._run("pg_ctl", "stop", "-w", "-D", f"{self.folder}/data", "-m", mode)

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        """Connect as the superuser, every statement a transaction of its own."""
        return psycopg.connect(host=str(self.folder), user=SYSTEM_USER, dbname="postgres", autocommit=True)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database; yields its URL and drops it afterwards, open connections or not."""
        name = f"t_{secrets.token_hex(6)}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        yield f"postgresql://{SYSTEM_USER}@/{name}?host={self.folder}"
        with self.admin() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*_as_server_user(), str(self.programs / program), *arguments],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test session's own; skips, saying why, where its programs are not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs (initdb, pg_ctl) are not installed")
    folder = Path(tempfile.mkdtemp(prefix="pulang-pg-", dir="/tmp"))  # short: a socket's path ends at 107 bytes
    if os.geteuid() == 0:
        user = pwd.getpwnam(SYSTEM_USER)
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = PostgresServer(folder, programs)
    try:
        server._run("initdb", "-D", f"{folder}/data", "-U", SYSTEM_USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    """Return the folder of the newest PostgreSQL server programs, None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    candidates = [*([Path(on_path)] if on_path else []), *found]
    return candidates[-1].parent if candidates else None


def _as_server_user() -> list[str]:
    return ["runuser", "-u", SYSTEM_USER, "--"] if os.geteuid() == 0 else []
