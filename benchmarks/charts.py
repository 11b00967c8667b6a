"""Draws charts as SVG text: nothing to install, nothing to load, readable without colour."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH: Final = 640
LEFT, RIGHT, TOP, BOTTOM = 62, 26, 14, 50  # what the axes of a plot leave free
LETTER: Final = 7.2  # how wide a letter of 13 pixels is on average, generously
MARKS: Final = ("circle", "square")  # by series: told apart in grey, too


def percent(value: float, digits: int = 1) -> str:
    """Write a share as people read it."""
    return f"{100 * value:.{digits}f} %"


@dataclass(frozen=True)
class Axis:
    """One axis: values from `low` to `high` stand between two ends of the picture, ticks say which."""

    low: float
    high: float
    ticks: Sequence[float]
    label: str
    digits: int = 0

    def part(self, value: float) -> float:
        """Return where a value stands, 0 at the low end and 1 at the high one, never outside."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


@dataclass
class Plot:
    """A picture with two axes, in percent; add to it, then take its `svg`."""

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    height: int = 380
    _body: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a point in the picture."""
        return (
            LEFT + self.x.part(x) * (WIDTH - LEFT - RIGHT),
            self.height - BOTTOM - self.y.part(y) * (self.height - TOP - BOTTOM),
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], kind: str, *, name: str = "") -> None:
        """Draw a line through points."""
        identity = f' id="{name}"' if name else ""
        self._body.append(f'<path{identity} class="line {kind}" d="{self.path(xs, ys)}"/>')

    def path(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """Return the path through points; those too close to be told apart are left out."""
        steps: list[str] = []
        last: tuple[float, float] | None = None
        points = [self.at(x, y) for x, y in zip(xs, ys, strict=True)]
        for i, (x, y) in enumerate(points):
            if last is not None and i < len(points) - 1 and abs(x - last[0]) + abs(y - last[1]) < 0.5:
                continue
            steps.append(f"{'L' if steps else 'M'}{x:.1f} {y:.1f}")
            last = (x, y)
        return "".join(steps)

    def mark(self, x: float, y: float, series: int, label: str = "", *, name: str = "") -> None:
        """Draw a mark, with words beside it."""
        px, py = self.at(x, y)
        identity = f' id="{name}"' if name else ""
        if MARKS[series] == "circle":
            self._body.append(f'<circle{identity} class="mark s{series}" cx="{px:.1f}" cy="{py:.1f}" r="4.5"/>')
        else:
            self._body.append(
                f'<rect{identity} class="mark s{series}" x="{px - 4:.1f}" y="{py - 4:.1f}" width="8" height="8"/>'
            )
        if label:
            # Words go where there is room.
            anchor, dx = ("end", -8) if px > WIDTH * 0.6 else ("start", 8)
            self._body.append(text(px + dx, py + (18 if py < TOP + 20 else -8), label, f"note {anchor}"))

    def whisker(self, x: float, low: float, high: float, series: int) -> None:
        """Draw an interval upright."""
        (px, bottom), (_, top) = self.at(x, low), self.at(x, high)
        self._body.append(f'<path class="whisker s{series}" d="M{px:.1f} {bottom:.1f}V{top:.1f}"/>')

    def guide(self, *, x: float | None = None, y: float | None = None, label: str = "", name: str = "") -> None:
        """Draw a dashed line across the picture at one value."""
        identity = f' id="{name}"' if name else ""
        if x is not None:
            px, _ = self.at(x, self.y.low)
            self._body.append(f'<path{identity} class="guide" d="M{px:.1f} {TOP}V{self.height - BOTTOM}"/>')
            if label:
                self._body.append(text(px - 6, TOP + 10, label, "note end"))
        if y is not None:
            _, py = self.at(self.x.low, y)
            self._body.append(f'<path class="guide" d="M{LEFT} {py:.1f}H{WIDTH - RIGHT}"/>')
            if label:
                self._body.append(text(LEFT + 6, py - 5, label, "note start"))

    def legend(self, labels: Sequence[str], *, x: float = 0.03, y: float = 0.97) -> None:
        """Name the series, from a corner of the picture (shares of its width and height) downward."""
        left = LEFT + x * (WIDTH - LEFT - RIGHT)
        top = TOP + (1 - y) * (self.height - TOP - BOTTOM) + 10
        for i, label in enumerate(labels):
            py = top + 20 * i
            self._body.append(f'<path class="line s{i}" d="M{left:.1f} {py:.1f}h22"/>')
            if MARKS[i] == "circle":
                self._body.append(f'<circle class="mark s{i}" cx="{left + 11:.1f}" cy="{py:.1f}" r="4"/>')
            else:
                self._body.append(f'<rect class="mark s{i}" x="{left + 7:.1f}" y="{py - 4:.1f}" width="8" height="8"/>')
            self._body.append(text(left + 30, py + 4, label, "start"))

    @property
    def svg(self) -> str:
        """The picture."""
        bottom = self.height - BOTTOM
        parts = []
        for tick in self.x.ticks:
            px, _ = self.at(tick, self.y.low)
            parts.append(f'<path class="grid" d="M{px:.1f} {TOP}V{bottom}"/>')
            parts.append(text(px, bottom + 17, percent(tick, self.x.digits), "tick middle"))
        for tick in self.y.ticks:
            _, py = self.at(self.x.low, tick)
            parts.append(f'<path class="grid" d="M{LEFT} {py:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(text(LEFT - 7, py + 4, percent(tick, self.y.digits), "tick end"))
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>')
        middle = (TOP + bottom) / 2
        parts.append(text((LEFT + WIDTH - RIGHT) / 2, self.height - 12, self.x.label, "middle"))
        parts.append(
            f'<text class="middle" transform="translate(14 {middle:.1f}) rotate(-90)">{escape(self.y.label)}</text>'
        )
        return picture(self.name, self.title, self.description, self.height, [*parts, *self._body])


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: a share with its interval, and a second share as a thin line."""

    label: str
    count: str
    value: float
    low: float
    high: float
    second: float


def bars(name: str, title: str, description: str, rows: Sequence[Bar]) -> str:
    """Draw shares as horizontal bars from 0 to 100 %, intervals as whiskers, second shares as upright strokes."""
    left = max(150, round(LETTER * max(len(row.label) for row in rows)) + 10)
    right, step, top = 96, 26, 8
    room = WIDTH - left - right
    height = top + step * len(rows) + 26
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        px = left + tick * room
        parts.append(f'<path class="grid" d="M{px:.1f} {top}V{height - 24}"/>')
        parts.append(text(px, height - 8, percent(tick, 0), "tick middle"))
    for i, row in enumerate(rows):
        y = top + step * i + step / 2
        parts.append(text(left - 8, y + 4, row.label, "end"))
        parts.append(f'<rect class="bar s0" x="{left}" y="{y - 7:.1f}" width="{row.value * room:.1f}" height="14"/>')
        low, high = left + row.low * room, left + row.high * room
        parts.append(f'<path class="interval" d="M{low:.1f} {y:.1f}H{high:.1f}"/>')
        px = left + row.second * room
        parts.append(f'<path class="second" d="M{px:.1f} {y - 10:.1f}v20"/>')
        parts.append(text(WIDTH - right + 10, y + 4, row.count, "tick start"))
    return picture(name, title, description, height, parts)


@dataclass(frozen=True)
class Step:
    """One row of a waterfall: what it is, what it says, and how many bits it adds."""

    label: str
    note: str
    bits: float


def waterfall(name: str, title: str, description: str, steps: Sequence[Step], total: str) -> str:
    """Draw how weights add up: every row begins where the one before it ended."""
    left, right, step, top = 150, 170, 26, 8
    ends = [0.0]
    for each in steps:
        ends.append(ends[-1] + each.bits)
    low, high = min(ends) - 1, max(*ends, 0.0) + 1
    room = WIDTH - left - right
    height = top + step * (len(steps) + 1) + 8

    def at(bits: float) -> float:
        return left + (bits - low) / (high - low) * room

    parts = [f'<path class="axis" d="M{at(0):.1f} {top}V{height - 6}"/>']
    for i, each in enumerate(steps):
        y = top + step * i + step / 2
        start, stop = sorted((at(ends[i]), at(ends[i + 1])))
        kind = "up" if each.bits >= 0 else "down"
        parts.append(text(left - 8, y + 4, each.label, "end"))
        parts.append(
            f'<rect class="{kind}" x="{start:.1f}" y="{y - 8:.1f}" width="{max(stop - start, 1):.1f}" height="16"/>'
        )
        parts.append(f'<path class="guide" d="M{at(ends[i + 1]):.1f} {y - 8:.1f}v{step + 8}"/>')
        parts.append(text(WIDTH - right + 12, y + 4, f"{each.bits:+.1f}", "bits start"))
        parts.append(text(WIDTH - right + 62, y + 4, each.note, "tick start"))
    y = top + step * len(steps) + step / 2
    start, stop = sorted((at(0), at(ends[-1])))
    parts.append(text(left - 8, y + 4, "together", "end strong"))
    parts.append(
        f'<rect class="total" x="{start:.1f}" y="{y - 8:.1f}" width="{max(stop - start, 1):.1f}" height="16"/>'
    )
    parts.append(text(WIDTH - right + 12, y + 4, f"{ends[-1]:+.1f}", "bits start strong"))
    parts.append(text(WIDTH - right + 62, y + 4, total, "tick start"))
    return picture(name, title, description, height, parts)


@dataclass(frozen=True)
class Slice:
    """One part of a whole: kind is good, open or bad."""

    label: str
    count: int
    kind: str


def stacked(name: str, title: str, description: str, slices: Sequence[Slice]) -> str:
    """Draw a whole as one bar of parts."""
    total = max(1, sum(each.count for each in slices))
    x, parts = 0.0, []
    for each in slices:
        width = WIDTH * each.count / total
        parts.append(f'<rect class="slice {each.kind}" x="{x:.1f}" y="2" width="{width:.1f}" height="38"/>')
        if width > 44:
            parts.append(text(x + width / 2, 26, f"{each.count:,}", f"middle on-{each.kind}"))
        x += width
    return picture(name, title, description, 44, parts)


def text(x: float, y: float, words: str, kind: str) -> str:
    """Place words; kind: CSS classes, of which start, middle and end say on which side of x they stand."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def picture(name: str, title: str, description: str, height: float, parts: Sequence[str]) -> str:
    """Wrap a picture with the words a screen reader says for it."""
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {height:g}" aria-labelledby="{name}-title {name}-words">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-words">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )
