"""gRPC and protobuf: the only package that touches the wire."""
