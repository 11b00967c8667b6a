"""The laws of the house, as data: what each forbids, where it does not apply, and a snippet that breaks it.

Read from the syntax tree, imports for type checking included: a room that needs another's types depends on it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRODUCT = ("proto", "node", "matching", "benchmarks")


@dataclass(frozen=True)
class Law:
    """Names that may not be used, and the only places (path prefixes) where they may.

    scope: path prefixes the law speaks about. names: modules, functions or builtins, by their full dotted name;
    a name stands for everything inside it. breach: (path, code) that the law must catch.
    """

    text: str
    names: tuple[str, ...]
    breach: tuple[str, str]
    allowed: tuple[str, ...] = ()
    scope: tuple[str, ...] = PRODUCT


@dataclass(frozen=True)
class Breach:
    """One line that breaks a law."""

    path: str
    line: int
    name: str
    law: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name}: the law says: {self.law}"


CLOCKS = (
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "datetime.date.today",
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
)

LAWS = (
    Law(
        "grpc and protobuf only in node/rpc and in the contract",
        names=("grpc", "grpc_health", "grpc_tools", "google.protobuf", "google.rpc"),
        allowed=("node/rpc/", "proto/"),
        breach=("node/service.py", "def f():\n    from google.protobuf import timestamp_pb2\n"),
    ),
    Law(
        "the contract's messages only in node/rpc",
        names=("proto",),
        allowed=("node/rpc/", "proto/"),
        breach=("node/query.py", "import proto.pulang.exchange.v1.exchange_pb2 as pb\n"),
    ),
    Law(
        "SQL only in node/store, a registry that is a database included",
        names=("sqlalchemy", "alembic", "sqlite3", "psycopg"),
        allowed=("node/store/",),
        breach=("node/service.py", "from sqlalchemy import select\n"),
    ),
    Law(
        "X.509 only in node/pki",
        names=("cryptography.x509",),
        allowed=("node/pki/",),
        breach=("matching/keys.py", "from cryptography import x509\n"),
    ),
    Law(
        "cryptography only in node/pki, and in matching for the linkage keys and the index at rest",
        names=("cryptography",),
        allowed=("node/pki/", "matching/keys.py", "matching/at_rest.py"),
        breach=("node/rpc/server.py", "from cryptography.hazmat.primitives.hashes import SHA256\n"),
    ),
    Law(
        "printing and command line only in node/cli",
        names=("print", "input", "click", "rich", "sys.stdout", "argparse"),
        allowed=("node/cli/",),
        breach=("node/service.py", "def f(count: int) -> None:\n    print(count)\n"),
    ),
    Law(
        "exiting only in node/cli",
        names=("sys.exit", "os._exit", "exit", "quit", "SystemExit"),
        allowed=("node/cli/",),
        breach=("node/serve.py", "import sys as system\nsystem.exit(1)\n"),
    ),
    Law(
        "polars only where registries are read, and in benchmarks",
        names=("polars", "fastexcel", "pyarrow", "pandas"),
        allowed=("node/sources.py", "node/mapping.py", "benchmarks/"),
        breach=("matching/index.py", "import polars as pl\n"),
    ),
    Law(
        "metrics are counted in node/metrics.py, where somebody looks at every label",
        names=("prometheus_client",),
        allowed=("node/metrics.py",),
        breach=("node/service.py", "from prometheus_client import Counter\n"),
    ),
    Law(
        "the membership's metadata are judged by python-tuf, and only in node/pki",
        names=("tuf", "securesystemslib"),
        allowed=("node/pki/",),
        breach=("node/gossip.py", "from tuf.ngclient import Updater\n"),
    ),
    Law(
        "matching is pure: it knows no node, no network, no database, no log, no console, no environment",
        names=(
            "node",
            "benchmarks",
            "proto",
            "grpc",
            "socket",
            "ssl",
            "asyncio",
            "logging",
            "structlog",
            "sqlite3",
            "urllib",
            "http",
            "os.environ",
            "os.getenv",
            "subprocess",
            "click",
            "rich",
        ),
        scope=("matching",),
        breach=("matching/search.py", "from __future__ import annotations\nimport logging\n"),
    ),
    Law(
        "matching has no clock, no stopwatch either",
        names=("time", *CLOCKS),
        scope=("matching",),
        breach=("matching/index.py", "from time import perf_counter\n"),
    ),
    Law(
        "the clock comes in as `now`; only node/cli reads it",
        names=CLOCKS,
        allowed=("node/cli/",),
        scope=("node", "matching", "proto"),
        breach=("node/service.py", "import datetime as dt\n\nclock = dt.datetime.now\n"),
    ),
    Law(
        "the node knows no benchmarks, except in the command that runs them",
        names=("benchmarks",),
        allowed=("node/cli/",),
        scope=("node", "matching", "proto"),
        breach=("node/runtime.py", "from benchmarks import populations\n"),
    ),
    Law(
        "only the edge knows the command line: nothing outside node/cli imports it",
        names=("node.cli",),
        allowed=("node/cli/",),
        breach=("node/service.py", "from node.cli import render\n"),
    ),
    Law(
        "asking and answering know no gRPC and no SQL, not even through our own rooms' insides",
        names=("node.rpc", "node.store.tables", "node.store.engine", "node.store.schema"),
        scope=("node/service.py", "node/query.py", "node/policy.py", "node/messages.py"),
        breach=("node/query.py", "from node.rpc.client import Peers\n"),
    ),
    Law(
        "product code imports nothing of tests, and no test tool",
        names=("tests", "pytest", "hypothesis", "unittest"),
        breach=("benchmarks/speed.py", "from tests.stores import entry\n"),
    ),
    Law(
        "nothing is read back by a loader that may run code",
        names=("pickle", "marshal", "shelve", "eval", "exec", "yaml"),
        breach=("matching/index.py", "import pickle\n"),
    ),
)


def breaches(path: str, code: str) -> Iterator[Breach]:
    """Yield every breach in one file. path: relative to the repository, with forward slashes."""
    names = list(used_names(ast.parse(code, filename=path)))
    for law in LAWS:
        if not path.startswith(law.scope) or path.startswith(law.allowed or ("\0",)):
            continue
        for line, name in names:
            if any(name == forbidden or name.startswith(f"{forbidden}.") for forbidden in law.names):
                yield Breach(path, line, name, law.text)


def used_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, full dotted name) of every import and of every use of an imported or builtin name."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield node.lineno, alias.name
                    known[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            case ast.ImportFrom(module=str(module), level=0):
                for alias in node.names:
                    yield node.lineno, f"{module}.{alias.name}"
                    known[alias.asname or alias.name] = f"{module}.{alias.name}"
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            base, *rest = _dotted(node)
            if base in known:
                yield node.lineno, ".".join((known[base], *rest))
            elif base and base not in assigned and not rest:
                yield node.lineno, base  # a builtin, or an argument: the laws name builtins only


def _dotted(node: ast.expr) -> tuple[str, ...]:
    """Return the parts of a plain dotted name, ("",) for anything else."""
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=value, attr=attribute):
            front = _dotted(value)
            return (*front, attribute) if front != ("",) else ("",)
        case _:
            return ("",)


def python_files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (relative path, code) of every Python file of the product."""
    for package in PRODUCT:
        for file in sorted((root / package).rglob("*.py")):
            if "__pycache__" not in file.parts:
                yield file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")
