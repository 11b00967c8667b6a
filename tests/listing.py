"""An authority that also keeps the list of members, as one desk: the tests' short way to a Membership."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from node.epoch import read_epoch_secret
from node.files import read_file, write_atomic
from node.pki.authority import Authority
from node.pki.membership import SETTINGS, Epoch, EpochState, Member, Membership, canonical_json, epoch_check
from node.pki.stages import trusted

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, config=SETTINGS)
class _List:
    version: int = 0
    members: tuple[Member, ...] = ()
    epochs: tuple[Epoch, ...] = ()


_LIST = TypeAdapter(_List)


class ListedAuthority(Authority):
    """An authority's folder with the list of members beside its register. Nothing here is signed."""

    def members(self) -> tuple[Member, ...]:
        return self._read().members

    def admit(self, member: Member) -> None:
        """Add a member, or change its name and address."""
        others = [other for other in self.members() if other.code != member.code]
        members = tuple(sorted((*others, member), key=lambda each: each.code))
        self._write(replace(self._read(), members=members))

    def remove(self, province: str) -> None:
        members = tuple(other for other in self.members() if other.code != province)
        assert len(members) < len(self.members()), f"{province} is no member"
        self._write(replace(self._read(), members=members))

    def epochs(self) -> tuple[Epoch, ...]:
        secret = read_epoch_secret(self.epoch_secret(1))
        return self._read().epochs or (Epoch(1, epoch_check(secret, 1), EpochState.ACTIVE),)

    def set_epochs(self, change: Callable[[tuple[Epoch, ...]], tuple[Epoch, ...]]) -> None:
        self._write(replace(self._read(), epochs=change(self.epochs())))

    def publish(self, now: datetime, *, days: int = 30) -> Membership:
        """Return the list as it stands, as the next version."""
        listed = replace(self._read(), version=self._read().version + 1)
        self._write(listed)
        now = now.replace(microsecond=0)
        active = next(epoch for epoch in self.epochs() if epoch.state is EpochState.ACTIVE)
        return Membership(
            federation=self.federation,
            version=listed.version,
            issued_at=now,
            expires_at=now + timedelta(days=days),
            key_epoch=active.number,
            epoch_check=active.check,
            epochs=listed.epochs,
            members=tuple(replace(each, intermediates=self.intermediates(each.code, now)) for each in listed.members),
            roots=self.roots,
            revoked=self.register.revocations(),
        )

    def intermediates(self, province: str, now: datetime) -> tuple[str, ...]:
        """Return a province's intermediates that count at `now`, PEM, oldest first."""
        taken_back = {(revocation.issuer_key, revocation.serial) for revocation in self.register.revocations()}
        counting = {issuer.key for issuer in trusted(self.issuers)}
        return tuple(
            read_file(self.stored(issued), limit=1 << 16).decode("ascii")
            for issued in self.register.issued()
            if (issued.kind, issued.province) == ("intermediate", province)
            and issued.issuer_key in counting
            and (issued.issuer_key, issued.serial) not in taken_back
            and now < issued.not_after
            and self.stored(issued).exists()
        )

    @property
    def _path(self) -> Path:
        return self.folder / "members.json"

    def _read(self) -> _List:
        return _LIST.validate_json(self._path.read_bytes()) if self._path.exists() else _List()

    def _write(self, listed: _List) -> None:
        write_atomic(self._path, canonical_json(_LIST.dump_python(listed, mode="json")), replace=True)
