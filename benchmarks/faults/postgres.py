"""A PostgreSQL server of the campaign's own: a cluster on this machine's disk, behind a Unix socket, with fsync on."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import Self

SYSTEM_USER: Final = "postgres"  # the server refuses to run as root


class Postgres:
    """A running server. Use as a context."""

    def __enter__(self) -> Self:
        programs = _programs()
        assert programs is not None
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="pulang-pg-"))  # short: a socket's path ends at 107 bytes
        if os.geteuid() == 0:
            user = pwd.getpwnam(SYSTEM_USER)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", f"{self._folder}/data", "-U", SYSTEM_USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    @staticmethod
    def missing() -> str | None:
        """Return why there can be no server here, None when there can."""
        return None if _programs() else "PostgreSQL's server programs (initdb, pg_ctl) are not installed"

    def create(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self._run("createdb", "-h", str(self._folder), "-U", SYSTEM_USER, name)
        return f"postgresql://{SYSTEM_USER}@/{name}?host={self._folder}"

    def empty(self, url: str) -> None:
        """Make one of its databases empty again."""
        name = url.removeprefix(f"postgresql://{SYSTEM_USER}@/").partition("?")[0]
        self._run("dropdb", "-h", str(self._folder), "-U", SYSTEM_USER, "--force", name)
        self.create(name)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' -c fsync=on"
        self._run("pg_ctl", "start", "-w", "-D", f"{self._folder}/data", "-l", f"{self._folder}/log", "-o", options)

    def stop(self) -> None:
        """Stop it as a crash would: nothing is flushed."""
        self._run("pg_ctl", "stop", "-w", "-D", f"{self._folder}/data", "-m", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        as_user = ["runuser", "-u", SYSTEM_USER, "--"] if os.geteuid() == 0 else []
        subprocess.run(  # noqa: S603 - our own words
            [*as_user, str(self._programs / program), *arguments],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )


def _programs() -> Path | None:
    """Return the folder of the newest server programs, None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    candidates = [*([Path(on_path)] if on_path else []), *found]
    return candidates[-1].parent if candidates else None
