"""Where the last imported registry came from, so that it can be opened again: to re-encode it, or to look one up."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from node.config import complaints
from node.errors import ConfigError
from node.files import PRIVATE, read_private, write_atomic
from node.importer import MAX_REJECTS
from node.mapping import ColumnMap  # noqa: TC001 - pydantic reads the annotation at run time
from node.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.home import NodeHome
    from node.sources import Source

MAX_FILE_BYTES: Final = 256 * 1024
_AGAIN: Final = "import the registry again: `pulang registry import`"


class RegistrySource(BaseModel):
    """How to open a registry again, and how its file looked when it was imported."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    format: Literal["pulang-registry-1"] = "pulang-registry-1"
    generation: str
    """The generation it became."""
    source: Annotated[str, Field(pattern=r"^[^\x00]+$")] = Field(repr=False)  # no file system can look for a NUL
    """Absolute path of a file, or a database URL (which may hold a password)."""
    mapping: ColumnMap
    sheet: str | None = None
    table: str | None = None
    query: str | None = Field(default=None, repr=False)
    header_row: int | None = None
    max_rejects: Annotated[float, Field(ge=0, le=1)] = MAX_REJECTS
    """Share of rows that the import was allowed to reject."""
    file_bytes: Annotated[int, Field(ge=0)] | None = None
    """Size of the file, none for a database."""
    file_changed_ns: int | None = None
    """When the file was last changed, in nanoseconds since 1970."""

    @property
    def is_database(self) -> bool:
        """Whether the source is a database."""
        return "://" in self.source

    @property
    def file_differs(self) -> bool:
        """Whether the file was changed, replaced or removed since the import; never of a database: it cannot tell."""
        return not self.is_database and _facts(self.source) != (self.file_bytes, self.file_changed_ns)

    @contextmanager
    def open(self) -> Iterator[Source]:
        """Open it as the import did. Raises ConfigError or ImportRejectedError, as `open_source` does."""
        with open_source(
            self.source, sheet=self.sheet, table=self.table, query=self.query, header_row=self.header_row
        ) as opened:
            yield opened


def remember(
    home: NodeHome,
    source: str,
    mapping: ColumnMap,
    *,
    generation: str,
    sheet: str | None = None,
    table: str | None = None,
    query: str | None = None,
    header_row: int | None = None,
    max_rejects: float = MAX_REJECTS,
) -> None:
    """Write down what `generation` was imported from (0600). Raises StoreError."""
    place = source if "://" in source else str(Path(source).absolute())
    size, changed = _facts(place)
    found = RegistrySource(
        generation=generation,
        source=place,
        mapping=mapping,
        sheet=sheet,
        table=table,
        query=query,
        header_row=header_row,
        max_rejects=max_rejects,
        file_bytes=size,
        file_changed_ns=changed,
    )
    write_atomic(home.registry_source, found.model_dump_json().encode(), mode=PRIVATE, replace=True)


def recall(home: NodeHome) -> RegistrySource:
    """Return what the last import read. Raises ConfigError when nothing was imported yet, or the note is not ours."""
    if not home.registry_source.exists():
        raise ConfigError(
            "this node does not know where its registry came from: it was imported by an older version, or not yet",
            hint=_AGAIN,
        )
    text = read_private(home.registry_source, limit=MAX_FILE_BYTES, hint=_AGAIN)
    try:
        return RegistrySource.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{home.registry_source}: {complaints(error)}", hint=_AGAIN) from None


def _facts(source: str) -> tuple[int | None, int | None]:
    """Return size and time of change of a file; nothing of a database or of a file that is not there."""
    try:
        found = Path(source).stat() if "://" not in source else None
    except OSError:
        found = None
    return (found.st_size, found.st_mtime_ns) if found else (None, None)
