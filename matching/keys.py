"""Epoch secret -> one key per field and purpose. Nothing else derives keys; node/pki makes a public check value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from struct import unpack
from typing import TYPE_CHECKING, Final

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from matching.errors import SchemaError
from matching.schema import FieldKind, LinkageSchema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from matching.texts import Texts

SECRET_BYTES: Final = 32
MIN_DISTINCT_BYTES: Final = 16  # 32 random bytes hold fewer than this many distinct values once in 10^13

# What a field's values are turned into; every purpose has a key of its own, so that no token of one kind can be
# taken for a token of another.
PURPOSES: Final[dict[FieldKind, tuple[str, ...]]] = {
    FieldKind.NAME: ("spelling", "sound", "near", "call", "block"),
    FieldKind.PLACE: ("spelling", "sound", "regency", "province"),
    FieldKind.DATE: ("year", "month", "day"),
    FieldKind.CODE: ("sex", "title", "exact"),
}


def load_secret(text: str) -> bytes:
    """Read an epoch secret, 64 hexadecimal digits. Raises SchemaError on a weak or malformed one, never showing it."""
    try:
        secret = bytes.fromhex(text.strip())
    except ValueError:
        raise SchemaError("the epoch secret is not hexadecimal") from None
    if len(secret) != SECRET_BYTES:
        raise SchemaError(f"the epoch secret must be {SECRET_BYTES} bytes, not {len(secret)}")
    if len(set(secret)) < MIN_DISTINCT_BYTES:
        raise SchemaError("the epoch secret is not random: too few distinct bytes")
    return secret


@dataclass(frozen=True, slots=True)
class FieldKeys:
    """The keys of one schema in one epoch: (field, purpose) -> 32 bytes.

    check: 16 bytes of hexadecimal that tell two secrets apart and say nothing usable about either.
    """

    schema: LinkageSchema
    epoch: int
    check: str
    by_purpose: Mapping[tuple[str, str], bytes] = field(repr=False)

    @classmethod
    def derive(cls, secret: bytes, schema: LinkageSchema, epoch: int) -> FieldKeys:
        """Derive every key of `schema` from the epoch's secret.

        HKDF-SHA256 (RFC 5869), no salt, info = "pulang/keys/1" | fingerprint | epoch as 4 bytes little-endian |
        field | 0 | purpose. Raises SchemaError on a weak secret or an epoch outside 1..2^32-1.
        """
        load_secret(secret.hex())
        if not 1 <= epoch < 1 << 32:
            raise SchemaError("the key epoch must be 1 or more")
        keys: dict[tuple[str, str], bytes] = {}
        for spec in schema.fields:
            for purpose in PURPOSES[spec.kind]:
                info = b"".join(
                    (
                        b"pulang/keys/1",
                        schema.fingerprint,
                        epoch.to_bytes(4, "little"),
                        spec.name.encode("ascii"),
                        b"\0",
                        purpose.encode("ascii"),
                    )
                )
                keys[spec.name, purpose] = HKDF(SHA256(), 32, None, info).derive(secret)
        check = HKDF(SHA256(), 16, None, b"pulang/keys/1/check" + epoch.to_bytes(4, "little")).derive(secret)
        return cls(schema, epoch, check.hex(), keys)

    @property
    def identity(self) -> tuple[bytes, int]:
        """(schema fingerprint, epoch): what two sides must share before anything is compared."""
        return self.schema.fingerprint, self.epoch

    def token(self, field_name: str, purpose: str, value: str) -> int:
        """Return the keyed 64-bit token of a value, never 0 (0 stands for "not known").

        Keyed BLAKE2b (RFC 7693), 8 bytes, little-endian.
        """
        digest = hashlib.blake2b(value.encode(), digest_size=8, key=self.by_purpose[field_name, purpose]).digest()
        return int.from_bytes(digest, "little") or 1

    def positions(self, field_name: str, purpose: str, value: str, count: int, bits: int) -> tuple[int, ...]:
        """Return `count` bit positions below `bits` for a value; they may coincide.

        Keyed BLAKE2b, 4 x count bytes, each 4 bytes little-endian modulo `bits` (at most 16 positions).
        """
        digest = hashlib.blake2b(
            value.encode(), digest_size=4 * count, key=self.by_purpose[field_name, purpose]
        ).digest()
        return tuple([number % bits for number in unpack(f"<{count}I", digest)])

    def tokens(self, field_name: str, purpose: str, values: Texts) -> NDArray[np.uint64]:
        """Return `token` of many values."""
        found = self.digests(field_name, purpose, values, 8)[:, 0]
        return np.maximum(found, np.uint64(1))

    def digests(
        self, field_name: str, purpose: str, values: Texts, digest_bytes: int, prefix: bytes = b""
    ) -> NDArray[np.uint64]:
        """Return keyed BLAKE2b of many values, each after `prefix` (a byte or none): (n, words), words little-endian.

        Bytes of the last word beyond the digest are of no meaning.
        """
        from matching.import_kernels import HASH_BLOCK, begin_digests, digests  # noqa: PLC0415 - only an import needs them

        key = self.by_purpose[field_name, purpose]
        out = np.zeros((len(values), -(-digest_bytes // 8)), dtype=np.uint64)
        if not len(values):
            return out
        begun = np.zeros(8, dtype=np.uint64)
        begin_digests(np.frombuffer(key, dtype=np.uint8), digest_bytes, begun)
        lengths = np.diff(values.ends) + len(prefix)
        fits = (lengths > 0) & (lengths <= HASH_BLOCK)
        digests(begun, prefix[0] if prefix else 0, values.data, values.ends, out)
        for i in np.flatnonzero(~fits).tolist():
            whole = hashlib.blake2b(prefix + values.at(i), digest_size=digest_bytes, key=key).digest()
            out[i] = np.frombuffer(whole.ljust(8 * out.shape[1], b"\0"), dtype="<u8")
        return out
