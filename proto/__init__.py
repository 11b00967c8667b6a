"""The contract between provinces: Protocol Buffers sources and the code generated from them."""
