"""Charts as inline SVG: text that a page carries, without a library.

Colours come from classes of the page's style sheet, so that they follow light
and dark. Everything that is written into a chart is escaped.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import math

from markupsafe import Markup
from markupsafe import escape

# Height of a line of text, and width of a letter, in units of the chart.
_LINE, _LETTER = 13, 6.2
_POINT = 5.0


@dataclasses.dataclass(frozen=True)
class Point:
  """One marker.

  Attributes:
    x: Value on the horizontal axis.
    y: Value on the vertical axis.
    text: What is shown when it is pointed at; lines end with a newline.
    label: Written beside it if there is room; empty for none.
    style: Classes of the style sheet.
    marker: `circle`, `square`, `triangle`, `diamond`, `cross` or `hexagon`.
    low: Lower end of the interval of y, or None.
    high: Upper end of it, or None.
    href: Where a click leads, empty for nowhere.
    key: Value of its `data-key`, by which a page finds it.
  """
  x: float
  y: float
  text: str
  label: str = ''
  style: str = ''
  marker: str = 'circle'
  low: float | None = None
  high: float | None = None
  href: str = ''
  key: str = ''


@dataclasses.dataclass(frozen=True)
class Line:
  """One series of a line chart.

  Attributes:
    points: (x, y), in the order of x.
    text: What it is.
    style: Classes of the style sheet.
  """
  points: Sequence[tuple[float, float]]
  text: str
  style: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
  """One axis.

  Attributes:
    title: What it shows, with its unit.
    form: Format of its numbers.
    zero: Whether it begins at zero.
  """
  title: str
  form: str = '{:g}'
  zero: bool = False


def ticks(low: float, high: float, number: int = 5) -> list[float]:
  """Returns round numbers in [low, high], about as many as asked for."""
  if not high > low:
    return [low]
  raw = (high - low) / number
  size = 10.0**math.floor(math.log10(raw))
  step = next(size * f for f in (1, 2, 2.5, 5, 10) if size * f >= raw * 0.999)
  first = math.ceil(low / step - 1e-9)
  return [round(i * step, 12) for i in range(
      first, math.floor(high / step + 1e-9) + 1)]


class _Frame:
  """Scales, axes and grid of a chart of a given size."""

  def __init__(
      self, size: tuple[int, int], x: Axis, y: Axis,
      x_range: tuple[float, float], y_range: tuple[float, float],
  ):
    self.width, self.height = size
    self._x, self._y = x, y
    self.x_low, self.x_high = _widened(*x_range, x.zero)
    self.y_low, self.y_high = _widened(*y_range, y.zero)
    self.y_ticks = ticks(self.y_low, self.y_high, 4)
    shown = [self._y.form.format(t) for t in self.y_ticks]
    self.left = 14 + _LETTER * max(map(len, shown))
    self.right, self.top, self.bottom = self.width - 12, 26, self.height - 36

  def px(self, x: float) -> float:
    """Returns the horizontal position of a value."""
    share = (x - self.x_low) / (self.x_high - self.x_low)
    return round(self.left + share * (self.right - self.left), 1)

  def py(self, y: float) -> float:
    """Returns the vertical position of a value."""
    share = (y - self.y_low) / (self.y_high - self.y_low)
    return round(self.bottom - share * (self.bottom - self.top), 1)

  def axes(self) -> Iterable[str]:
    """Yields grid, numbers and titles."""
    for value in self.y_ticks:
      y = self.py(value)
      yield f'<path class="grid" d="M{self.left:g} {y}H{self.right:g}"/>'
      yield _text(self.left - 6, y + 4, self._y.form.format(value), 'end')
    for value in ticks(self.x_low, self.x_high):
      yield _text(self.px(value), self.bottom + 16,
                  self._x.form.format(value), 'middle')
    yield (f'<path class="axis" d="M{self.left:g} {self.bottom:g}'
           f'H{self.right:g}"/>')
    yield _text(2, 13, self._y.title, 'start', 'title')
    yield _text(self.right, self.height - 4, self._x.title, 'end', 'title')


def _widened(low: float, high: float, zero: bool) -> tuple[float, float]:
  """Returns a range with a margin, so that nothing lies on its edge."""
  span = high - low or abs(high) or 1.0
  return (0.0 if zero else low - 0.08 * span), high + 0.08 * span


def _text(
    x: float, y: float, text: str, anchor: str, style: str = '') -> str:
  named = f' class="{style}"' if style else ''
  return (f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{named}>'
          f'{escape(text)}</text>')


def _chart(frame: _Frame, label: str, parts: Iterable[str]) -> Markup:
  return Markup(
      f'<svg class="chart" viewBox="0 0 {frame.width} {frame.height}" '
      f'role="img" aria-label="{escape(label)}">'
      f'{"".join((*frame.axes(), *parts))}</svg>')


def scatter(
    points: Sequence[Point], x: Axis, y: Axis,
    front: Sequence[tuple[float, float]] = (),
    reference: float | None = None,
    size: tuple[int, int] = (460, 320),
) -> Markup:
  """Returns markers with intervals, and the front that they leave open.

  A few points far below the others would press those together: they are drawn
  at the lower edge, with an arrow and their value.

  Args:
    points: The markers, the most important one last.
    x: Horizontal axis.
    y: Vertical axis.
    front: (x, y) of the points that no other one beats, in the order of x.
    reference: Value of y that is marked by a line across.
    size: Width and height.
  """
  floor = _floor([p.y for p in points])
  inside = [p for p in points if p.y >= floor]
  lows = [p.low if p.low is not None else p.y for p in inside]
  highs = [p.high if p.high is not None else p.y for p in inside]
  frame = _Frame(size, x, y, (min(p.x for p in points),
                              max(p.x for p in points)),
                 (min(lows), max(highs)))
  parts = []
  if reference is not None:
    parts.append(f'<path class="reference" d="M{frame.left:g} '
                 f'{frame.py(reference)}H{frame.right:g}"/>')
  kept = [(a, b) for a, b in front if b >= floor]
  if len(kept) > 1:
    parts.append(f'<path class="front" d="{_stairs(frame, kept)}"/>')
  parts += [_marker(frame, p, floor) for p in points]
  parts += _labels(frame, points, floor)
  return _chart(frame, f'{y.title} against {x.title}', parts)


def _floor(values: Sequence[float]) -> float:
  """Returns the value under which points are far from the better half."""
  ordered = sorted(values)
  best, middle = ordered[-1], ordered[len(ordered) // 2]
  return best - max(8.0 * (best - middle), 0.05 * abs(best))


def _stairs(frame: _Frame, front: Sequence[tuple[float, float]]) -> str:
  """Returns the path of a front: as good as the best one that costs less."""
  x, y = front[0]
  path = [f'M{frame.px(x)} {frame.py(y)}']
  for x, y in front[1:]:
    path.append(f'H{frame.px(x)}V{frame.py(y)}')
  return ''.join(path)


def _marker(frame: _Frame, point: Point, floor: float) -> str:
  x, y = frame.px(point.x), frame.py(max(point.y, frame.y_low))
  parts = []
  below = point.y < floor
  if point.low is not None and not below:
    parts.append(f'<path class="whisker" d="M{x} {frame.py(point.low)}'
                 f'V{frame.py(point.high)}"/>')
  if below:
    y -= 12
    parts.append(f'<path class="whisker" d="M{x} {y:g}v12m-3 -4l3 4l3 -4"/>')
  parts.append(_shape(point.marker, x, y))
  # A wide invisible circle: fingers and pointers need not aim.
  parts.append(f'<circle class="hit" cx="{x}" cy="{y:g}" r="11"/>')
  body = (f'<title>{escape(point.text)}</title>' + ''.join(parts))
  named = f'class="point {point.style}" data-key="{escape(point.key)}"'
  if point.href:
    return f'<a href="{escape(point.href)}" {named}>{body}</a>'
  return f'<g {named}>{body}</g>'


def _shape(marker: str, x: float, y: float) -> str:
  r = _POINT
  paths = {
      'square': f'M{x - r:g} {y - r:g}h{2 * r:g}v{2 * r:g}h{-2 * r:g}z',
      'triangle': f'M{x:g} {y - r - 1:g}l{r + 1:g} {2 * r:g}h{-2 * r - 2:g}z',
      'diamond': f'M{x:g} {y - r - 2:g}l{r + 2:g} {r + 2:g}l{-r - 2:g} '
                 f'{r + 2:g}l{-r - 2:g} {-r - 2:g}z',
      'cross': f'M{x - 2:g} {y - r:g}h4v3h3v4h-3v3h-4v-3h-3v-4h3z',
      'hexagon': f'M{x - r:g} {y - 3:g}l{r:g} -3l{r:g} 3v6l{-r:g} 3l{-r:g} -3z',
  }
  if marker in paths:
    return f'<path class="mark" d="{paths[marker]}"/>'
  return f'<circle class="mark" cx="{x:g}" cy="{y:g}" r="{r:g}"/>'


def marker(name: str) -> Markup:
  """Returns one marker by itself, for a legend or a table."""
  return Markup(f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">'
                f'{_shape(name, 8, 8)}</svg>')


def interval(value: float, low: float, high: float, most: float) -> Markup:
  """Returns an interval around zero, small enough for a cell of a table.

  Args:
    value: What was measured.
    low: Lower end of its interval.
    high: Upper end of it.
    most: The value at the right edge, minus that at the left; ends beyond are
      cut.
  """
  a, b, c = (44 + 42 * min(1.0, max(-1.0, v / most))
             for v in (low, value, high))
  return Markup(
      '<svg class="glyph" viewBox="0 0 88 14" width="88" height="14" '
      'aria-hidden="true"><path class="axis" d="M44 0v14"/>'
      f'<path class="whisker" d="M{a:.1f} 7H{c:.1f}"/>'
      f'<circle class="mark" cx="{b:.1f}" cy="7" r="3"/></svg>')


def _labels(
    frame: _Frame, points: Sequence[Point], floor: float) -> Iterable[str]:
  """Yields the labels that find room, the most important point's first."""
  taken = [(frame.px(p.x) - _POINT, frame.py(max(p.y, frame.y_low)) - _POINT,
            2 * _POINT, 2 * _POINT) for p in points]
  for point in reversed(points):
    if not point.label:
      continue
    x, y = frame.px(point.x), frame.py(max(point.y, frame.y_low))
    y -= 12 if point.y < floor else 0
    text = point.label
    if point.y < floor:
      text += ' ' + frame._y.form.format(point.y)
    width = _LETTER * len(text)
    for dx, dy, anchor in ((9, 4, 'start'), (-9, 4, 'end'), (9, -7, 'start'),
                           (9, 15, 'start'), (-9, -7, 'end'), (-9, 15, 'end')):
      left = x + dx - (width if anchor == 'end' else 0)
      box = (left, y + dy - _LINE + 3, width, _LINE)
      if left < frame.left or left + width > frame.width:
        continue
      if not any(_overlap(box, other) for other in taken):
        taken.append(box)
        yield _text(x + dx, y + dy, text, anchor, 'label')
        break


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
  return (a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and
          a[1] < b[1] + b[3] and b[1] < a[1] + a[3])


def lines(
    series: Sequence[Line], x: Axis, y: Axis,
    size: tuple[int, int] = (320, 190), most: int = 160,
) -> Markup:
  """Returns a line chart.

  Args:
    series: The lines, the most important one last.
    x: Horizontal axis.
    y: Vertical axis.
    size: Width and height.
    most: Points of a line that are drawn; of more, evenly spaced ones.
  """
  xs = [a for s in series for a, _ in s.points]
  ys = [b for s in series for _, b in s.points]
  frame = _Frame(size, x, y, (min(xs), max(xs)), (min(ys), max(ys)))
  parts = []
  for s in series:
    path = ''.join(
        f'{"L" if i else "M"}{frame.px(a)} {frame.py(b)}'
        for i, (a, b) in enumerate(_thinned(s.points, most)))
    last = s.points[-1]
    parts.append(
        f'<g class="line {s.style}"><title>{escape(s.text)}</title>'
        f'<path d="{path}"/><circle cx="{frame.px(last[0])}" '
        f'cy="{frame.py(last[1])}" r="2.5"/></g>')
  return _chart(frame, y.title, parts)


def _thinned(
    points: Sequence[tuple[float, float]], most: int
) -> list[tuple[float, float]]:
  """Returns evenly spaced points, the first and the last one with them."""
  if len(points) <= most:
    return list(points)
  return [points[round(i * (len(points) - 1) / (most - 1))]
          for i in range(most)]
