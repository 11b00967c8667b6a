"""Writes the Python code of the contract: `python -m proto.generate [DIRECTORY]`."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).parent
SOURCES = (
    "pulang/exchange/v1/exchange.proto",
    "pulang/federation/v1/federation.proto",
    "pulang/audit/v1/audit.proto",
)


def generate(directory: Path) -> list[Path]:
    """Compile the contract into `directory`, laid out as in this package. Returns the files written."""
    flags = [f"--{kind}_out={directory}" for kind in ("python", "pyi", "grpc_python")]
    well_known = files("grpc_tools") / "_proto"
    failed = protoc.main(["protoc", f"--proto_path={PROTO_ROOT}", f"--proto_path={well_known}", *flags, *SOURCES])
    if failed:
        raise RuntimeError("protoc refused the contract; its complaint stands above")
    for source in SOURCES:
        # protoc imports from the root of the sources; here that root is itself the package `proto`.
        stub = directory / source.replace(".proto", "_pb2_grpc.py")
        text = stub.read_text(encoding="utf-8")
        stub.write_text(text.replace("from pulang.", "from proto.pulang."), encoding="utf-8")
    return sorted(directory / source.replace(".proto", end) for source in SOURCES for end in ENDINGS)


ENDINGS = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")

if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO_ROOT)
