"""The federation port: the only place that imports gRPC and protobuf."""

from __future__ import annotations

import os

# TLS 1.3 only. gRPC has no setting for it and reads this list, which governs TLS 1.2 and below, when it is first
# imported; the one suite left needs a pre-shared key, which gRPC never has, so no older handshake can succeed.
# Assigned, not defaulted: an inherited, looser list must not win. The server checks the version on every call too.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-AES128-CBC-SHA"
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else every refused handshake writes a line past our own log
