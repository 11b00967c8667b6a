"""Ends changes of a node's membership: `python -m tests.faults.tuf_killer FOLDER CHANGE kill|full`, one JSON line each.

Every change runs in a child of this process. Right before one of its operations on the disk (open for writing, mkdir,
fsync, rename, symlink, remove), python-tuf's own included, it is killed, or told once that the disk is full: at every
single one, until a child comes to its end. Then the same change runs undisturbed. The folder is put back before each.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.errors import NodeError, StoreError
from node.pki import changes
from node.pki.refresh import Mirror
from node.pki.repository import fingerprint_of, private_pem
from tests.tuf_world import HOUR, NOW, World, key, member, read, signer

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGES = {"os.mkdir", "os.rename", "os.symlink", "os.link", "os.remove", "os.rmdir", "os.truncate"}
DISTURBED = 3  # exit code of a child that raised StoreError, as it should
UNHARMED = 5  # of one that could do without the operation that failed


def arm(folder: Path, after: int, how: str) -> Callable[[], bool]:
    """Disturb this process at its operation number `after` (from 0) inside `folder`; return whether it came to that."""
    operations = 0
    real_fsync = os.fsync

    def operation() -> None:
        nonlocal operations
        operations += 1
        if operations != after + 1:
            return
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            if isinstance(path, str | os.PathLike) and str(path).startswith(str(folder)) and writes:
                operation()
        elif event in CHANGES and str(arguments[0]).startswith(str(folder)):
            operation()

    def fsync(descriptor: Any) -> None:
        operation()
        real_fsync(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
    return lambda: operations > after


def run(folder: Path, change: Callable[[], object], after: int | None, how: str) -> str:
    """Change in a child; return how it ended."""
    child = os.fork()
    if child == 0:
        fired = arm(folder, after, how) if after is not None else bool
        try:
            change()
        except StoreError:
            os._exit(DISTURBED)
        except BaseException as error:  # noqa: BLE001 - a child must never go on as its parent
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(4)
        os._exit(UNHARMED if fired() else 0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "killed"
    return {0: "done", DISTURBED: "refused", UNHARMED: "unharmed"}.get(os.WEXITSTATUS(status), "failed")


def state(mirror: Mirror) -> dict[str, Any]:
    """What a node would find in the folder now, verified by ngclient; None: nothing yet."""
    try:
        copy = mirror.load()
        copy.membership.check_validity(NOW)
    except NodeError as error:
        return {"members": None, "why": str(error)}
    return {
        "members": [each.code for each in copy.membership.members],
        "root": copy.versions["root"],
        "timestamp": copy.versions["timestamp"],
    }


def main() -> None:
    """Disturb at one operation after the other."""
    folder, name, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    (folder / "tmp").mkdir(parents=True)
    tempfile.tempdir = str(folder / "tmp")  # ngclient's writes are disturbed too
    home, world = folder / "home", World.found("33", "35")
    mirror = Mirror(home / "tuf")
    home.mkdir()

    def join() -> None:
        mirror.install(world.files, NOW, root_sha256=fingerprint_of(world.files["1.root.json"]))

    if name != "join":
        join()
        mirror.key.write_bytes(private_pem(key(world.holder)))
        mirror.key.chmod(0o600)
    if name in {"update", "rotate"}:
        world.change(lambda contents: changes.with_member(contents, member("36")))
    if name == "rotate":
        world.change(lambda contents: changes.with_signers(contents, [signer("33")], ["18"], 2), "31", "32", "33")
    verbs: dict[str, Callable[[], object]] = {
        "join": join,
        "update": lambda: mirror.take(read(world.files), NOW),
        "rotate": lambda: mirror.take(read(world.files), NOW),
        "resign": lambda: mirror.resign(NOW + 5 * HOUR),
    }
    change, saved = verbs[name], folder / "saved"
    shutil.copytree(home, saved)
    point, ended = 0, ""
    while ended != "done":
        shutil.rmtree(home)
        shutil.copytree(saved, home)
        ended = run(folder if how == "full" else home, change, point, how)  # a kill: where it could do harm
        found = state(mirror)
        again = run(folder, change, None, how)
        line = {"point": point, "ended": ended, "found": found, "again": again, "then": state(mirror)}
        line["copies"] = len(list((home / "tuf").glob("copy-*")))
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        point += 1


if __name__ == "__main__":
    main()
