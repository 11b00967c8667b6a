"""Small made-up registries as files, the way offices send them; and a node's folder to import them into."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from matching.index import EncodedIndex
from matching.schema import PERSON_SCHEMA
from node.config import load_config
from node.epoch import import_keys
from node.generation import index_key
from node.home import NodeHome
from node.importer import import_registry
from node.mapping import ColumnMap, guess_mapping
from node.sources import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from matching.keys import FieldKeys
    from node.importer import ImportReport

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
HEADER = ("ID_DTKS", "NIK", "NAMA_LGKP", "JENIS_KLMIN", "TMPT_LHR", "TGL_LHR", "NAMA_LGKP_IBU")
PEOPLE = (
    ("0001", "3305011708450001", "DJOKO SOESILO", "L", "KEBUMEN", "17-08-1945", "SITI AMINAH"),
    ("0002", "3305014103580002", "SITI RAHAYU", "P", "KAB. KEBUMEN", "01-03-1958", "PONIYEM"),
    ("0003", "3305011207600003", "SLAMET", "L", "CILACAP", "12-07-1960", ""),
    ("0004", "3305015505700004", "ENDANG LESTARI", "P", "PURWOREJO", "15-05-1970", "SUMINAH"),
)


@dataclass(frozen=True)
class Desk:
    """A node's folder, and the province's admin in front of it."""

    home: NodeHome

    @property
    def keys(self) -> FieldKeys:
        return import_keys(self.home, load_config(self.home))

    def load(
        self,
        source: Path | str,
        mapping: ColumnMap | None = None,
        *,
        table: str | None = None,
        query: str | None = None,
        sheet: str | None = None,
        max_rejects: float = 1.0,
        batch_rows: int = 50_000,
    ) -> ImportReport:
        header_row = mapping.header_row if mapping else None
        with open_source(str(source), table=table, query=query, sheet=sheet, header_row=header_row) as opened:
            used = mapping or guess_mapping(opened.columns)
            return import_registry(
                self.home, self.keys, opened, used, NOW, max_rejects=max_rejects, batch_rows=batch_rows
            )

    def index(self) -> EncodedIndex:
        return EncodedIndex.open(self.home.current, PERSON_SCHEMA.fingerprint, 1, at_rest=index_key(self.home))

    def answering(self) -> tuple[str, list[str]]:
        """The generation that answers and the record ids in it; every byte of it is checked."""
        with self.index() as index:
            index.verify(self.home.current)
            return self.home.current.readlink().name, [index.record_id(row) for row in range(index.size)]


def make_desk(root: Path) -> Desk:
    (root / "secrets").mkdir(parents=True)
    (root / "node.toml").write_text('federation = "fkd-mpu"\nprovince = "33"\n')
    secret = root / "secrets" / "epoch-1.key"
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32))
    return Desk(NodeHome(root))


def csv_text(people: object = PEOPLE, *, header: object = HEADER, separator: str = ",") -> str:
    return "".join(separator.join(row) + "\n" for row in (header, *people))  # type: ignore[misc]
