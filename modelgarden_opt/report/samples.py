"""Pictures with what the first file and the chosen one see in them."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from modelgarden_opt.report import html

# What a picture of a page may be.
_PICTURE = 'data:image/png;base64,'


def panel(
    found: Mapping[str, Any], shown: Mapping[str, str],
    path_of: Callable[[str], str], class_names: Sequence[str],
) -> Markup:
  """Returns the samples of a `samples.json`; empty if it has none to show.

  Those that files see differently come first.

  Args:
    found: Its content, see `evaluation/samples.py`.
    shown: Names of the variants to show by path of the file.
    path_of: Returns the path of the file that a record calls by a name.
    class_names: Names of the classes, empty if they are not known.
  """
  cards = []
  for sample in found['samples']:
    seen = [(shown[path_of(p['model'])], p) for p in sample['predictions']
            if path_of(p['model']) in shown]
    if not seen or not sample['picture'].startswith(_PICTURE):
      continue
    overlays = [(name, p['overlay']) for name, p in seen
                if str(p.get('overlay', '')).startswith(_PICTURE)]
    cards.append({
        'picture': sample['picture'],
        'overlays': overlays,
        'title': f'image {sample["index"]}',
        'label': _name(sample.get('label'), class_names),
        'seen': [
            (name, _name(p['class'], class_names), p.get('probability'),
             p['class'] == sample.get('label'))
            for name, p in seen if 'class' in p]})
  if not cards:
    return Markup()
  cards.sort(key=lambda card: len({seen[1] for seen in card['seen']}) < 2)
  return html.render('samples', cards=cards,
                     wide=any(card['overlays'] for card in cards))


def _name(label: int | None, class_names: Sequence[str]) -> str:
  if label is None:
    return ''
  return class_names[label] if 0 <= label < len(class_names) else str(label)
