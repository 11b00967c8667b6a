"""Many short texts in one run of bytes, as compiled loops take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Self, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIRST_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Texts(Sequence[str]):
    """Texts in UTF-8, one after the other.

    data: (n,) uint8, of all texts; ends: (texts + 1,) int64, where each begins and the last one ends.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, values: Sequence[str]) -> Self:
        """Pack ASCII texts."""
        ends = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, values), dtype=np.int64, count=len(values)), out=ends[1:])
        return cls(np.frombuffer("".join(values).encode("ascii"), dtype=np.uint8), ends)

    @classmethod
    def encoded(cls, values: Sequence[str]) -> Self:
        """Pack texts in UTF-8. Raises UnicodeEncodeError."""
        text = "".join(values)
        if text.isascii():
            return cls.of(values)
        encoded = [value.encode() for value in values]
        ends = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(values)), out=ends[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    @classmethod
    def of_values(cls, values: Sequence[str | None]) -> Self:
        """Pack values, a missing one as an empty text, and "?" for what UTF-8 has no bytes for."""
        known = [value or "" for value in values]
        try:
            return cls.encoded(known)
        except UnicodeEncodeError:
            return cls.encoded([value.encode("utf-8", "replace").decode() for value in known])

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return one text, or a list of some."""
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        at = range(len(self))[place]
        return self.at(at).decode()

    def at(self, place: int) -> bytes:
        """Return one text's bytes."""
        return self.data[self.ends[place] : self.ends[place + 1]].tobytes()

    def strings(self) -> list[str]:
        """Return them all; ASCII."""
        text = self.data[self.ends[0] : self.ends[-1]].tobytes().decode("ascii")
        places = (self.ends - self.ends[0]).tolist()
        return [text[start:end] for start, end in pairwise(places)]

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Self:
        """Join texts, part after part."""
        lengths = [np.diff(part.ends) for part in parts]
        ends = np.zeros(sum(map(len, lengths)) + 1, dtype=np.int64)
        np.cumsum(np.concatenate(lengths), out=ends[1:])
        return cls(np.concatenate([part.data[part.ends[0] : part.ends[-1]] for part in parts]), ends)

    def part(self, start: int, stop: int) -> Texts:
        """Return the texts from `start` to before `stop`."""
        return Texts(self.data, self.ends[start : stop + 1])

    def take(self, places: NDArray[np.int64]) -> Texts:
        """Return some of the texts, in the order of `places`."""
        from matching.import_kernels import gather_texts  # noqa: PLC0415 - only an import needs it

        ends = np.zeros(len(places) + 1, dtype=np.int64)
        np.cumsum(np.diff(self.ends)[places], out=ends[1:])
        data = np.empty(int(ends[-1]), dtype=np.uint8)
        gather_texts(self.data, self.ends, np.ascontiguousarray(places), data)
        return Texts(data, ends)


class GrowingTexts:
    """Texts to which more are added at the end."""

    def __init__(self) -> None:
        self._bytes = np.zeros(_FIRST_BYTES, dtype=np.uint8)
        self._ends = np.zeros(_FIRST_BYTES // 8, dtype=np.int64)
        self._count = 0

    def add(self, new: Texts) -> None:
        """Add texts, the first of which begins at 0."""
        start = int(self._ends[self._count])
        stop = start + int(new.ends[-1])
        self._bytes = with_room(self._bytes, stop)
        self._bytes[start:stop] = new.data[: new.ends[-1]]
        self._ends = with_room(self._ends, self._count + len(new) + 1)
        self._ends[self._count : self._count + len(new) + 1] = new.ends + start
        self._count += len(new)

    def __len__(self) -> int:
        return self._count

    def view(self) -> Texts:
        """Return all of them as they are now."""
        return Texts(self._bytes, self._ends[: self._count + 1])


def with_room(array: NDArray[Any], size: int, fill: int = 0) -> NDArray[Any]:
    """Return an array of at least `size`, beginning as `array` does: the same one if it is large enough."""
    if size <= len(array):
        return array
    grown = np.full((max(size, 2 * len(array)), *array.shape[1:]), fill, dtype=array.dtype)
    grown[: len(array)] = array
    return grown
