"""Pages as one self-contained HTML file, from the templates of this folder.

A page loads nothing: style, script, charts and pictures are inside, and its
Content-Security-Policy forbids the rest. Whatever is written into it is
escaped. It can be read without its script, which sorts, filters and copies.
"""

import base64
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import importlib.resources
import math
from typing import Any

import jinja2
from markupsafe import Markup

from modelgarden_opt.report import families

_TEMPLATES = 'templates'


@dataclasses.dataclass(frozen=True)
class Cell:
  """One cell of a table.

  Attributes:
    text: What it says; a `Markup` goes in as it is.
    value: What it is sorted by; None for its text.
    bar: Length of a bar after the text, in [0, 1]; None for none.
    style: Classes of the style sheet.
    href: Where it leads, empty for nowhere.
    title: What it says in full when it is pointed at.
  """
  text: str
  value: float | None = None
  bar: float | None = None
  style: str = ''
  href: str = ''
  title: str = ''

  @property
  def key(self) -> str:
    """Its value as the script of a page reads it."""
    if math.isinf(self.value):
      return 'Infinity' if self.value > 0 else '-Infinity'
    return f'{self.value:.6g}'


@dataclasses.dataclass(frozen=True)
class Column:
  """One column of a table.

  Attributes:
    title: Its heading.
    number: Whether it holds numbers, which stand to the right.
    help: What it means, in a sentence.
  """
  title: str
  number: bool = True
  help: str = ''


@dataclasses.dataclass(frozen=True)
class Row:
  """One row of a table.

  Attributes:
    cells: One cell a column; the first one is its heading.
    key: Value of its `data-key`, which other parts of the page refer to.
    family: Key of `families.FAMILIES`, empty for none.
    style: Classes of the style sheet.
  """
  cells: Sequence[Cell]
  key: str = ''
  family: str = ''
  style: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
  """A table that can be sorted.

  Attributes:
    caption: What it shows, for people who do not see the page.
    columns: Its columns.
    rows: Its rows.
    filtered: Whether rows can be chosen by name and technique.
    style: Classes of the style sheet.
  """
  caption: str
  columns: Sequence[Column]
  rows: Sequence[Row]
  filtered: bool = False
  style: str = ''

  @property
  def families(self) -> dict[str, families.Family]:
    """The techniques of its rows, in the order of the legend."""
    used = {row.family for row in self.rows}
    return {k: f for k, f in families.FAMILIES.items() if k in used}


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of a page.

  Attributes:
    id: Its anchor.
    title: Its heading.
    body: What it holds.
    note: How to read it.
  """
  id: str
  title: str
  body: Markup
  note: str = ''


def number(
    value: float | None, form: str = '{:,}', most: float | None = None,
    style: str = '',
) -> Cell:
  """Returns the cell of a number.

  Args:
    value: The number, None if it is not known.
    form: Its format.
    most: The number whose bar is full; None for no bar.
    style: Classes of the style sheet.
  """
  if value is None:
    return Cell('–', float('-inf'), style='none')
  bar = min(1.0, max(0.0, value / most)) if most else None
  return Cell(form.format(value), float(value), bar, style)


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
      loader=jinja2.PackageLoader(__package__, _TEMPLATES),
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)
  environment.globals['FAMILIES'] = families.FAMILIES
  return environment


def render(template: str, **values: Any) -> Markup:
  """Returns a template of this folder with values, which are escaped."""
  return Markup(_environment().get_template(f'{template}.html').render(values))


def table(shown: Table) -> Markup:
  """Returns a table."""
  return render('table', table=shown)


def folded(
    blocks: Sequence[tuple[str, str, str, bool, Markup]], most: int = 6
) -> Markup:
  """Returns blocks that can be unfolded.

  Args:
    blocks: Anchor or '', title, facts after it, whether it is unfolded, and
      body.
    most: Of more blocks, those that are not unfolded share a block.
  """
  blocks = sorted(blocks, key=lambda b: not b[3])
  return render('folded', blocks=blocks, most=most, rest='the other variants')


def _asset(name: str) -> str:
  return importlib.resources.files(__package__).joinpath(
      _TEMPLATES, name).read_text('utf-8')


def page(
    title: str, sections: Sequence[Section], lead: Markup | None = None,
    facts: Mapping[str, str] | None = None,
) -> str:
  """Returns a whole page.

  Args:
    title: Its heading.
    sections: Its parts; with more than two, links to them stand on top.
    lead: What comes before them, if anything.
    facts: Small print under the heading, by what it is.
  """
  script = _asset('script.js')
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  return str(render(
      'page', title=title, sections=sections, lead=lead or Markup(),
      facts=facts or {}, style=Markup(_asset('style.css')),
      script=Markup(script), digest=digest))
