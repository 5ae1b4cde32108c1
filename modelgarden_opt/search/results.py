"""What a search found: JSON, a page, and the pipeline of the winner."""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import shlex
from typing import Any

from markupsafe import Markup
import yaml

from modelgarden_opt.benchmark import latency
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.report import choosing
from modelgarden_opt.report import html
from modelgarden_opt.report import overview
from modelgarden_opt.search import limits as limits_lib
from modelgarden_opt.search import trials as trials_lib

JSON, PAGE, WINNER = 'search.json', 'search.html', 'winner.yaml'
SPLIT = 'test'
_PREDICTIONS = 'test_predictions.npz'
# Fields of the results of `evaluate` and `benchmark` that are kept.
_SCORED = ('num_examples', 'data', 'data_role', 'difference')
TIMED = ('median_ms', 'ratio', 'ratio_low', 'ratio_high', 'ratio_rounds')

Record = dict[str, Any]


def front(records: Sequence[Mapping[str, Any]], minimize: str) -> list[str]:
  """Returns the names of trials that no other one beats, cheapest first.

  Args:
    records: Trials that were judged.
    minimize: Key of `choosing.COSTS`.
  """
  score = choosing.score_of(records)
  known = [r for r in records if choosing.cost(r, minimize) is not None]
  names, best = [], -1.0
  for r in sorted(known, key=lambda r: (
      choosing.cost(r, minimize), -r[score])):
    if r[score] > best:
      best = r[score]
      names.append(r['name'])
  return names


def judge(
    trials: trials_lib.Trials,
    model_dir: str,
    output_dir: str,
    names: Sequence[str],
) -> dict[str, Record]:
  """Scores files of trials on images that the search never saw, and times them.

  Args:
    trials: The trials.
    model_dir: The float run, which names the data.
    output_dir: Where predictions are kept, if there are any.
    names: Names of the trials beside the float file.

  Returns:
    By name: `metrics`, `num_examples`, `data`, `data_role`, and of classifiers
    the `difference` from the float file with its 95 % confidence interval;
    `median_ms`, and its `ratio` to the float file's, all files interleaved.
  """
  by_name = {r['name']: r for r in trials.kept}
  wanted = [trials.reference['name'], *(
      name for name in names if name != trials.reference['name'])]
  paths = {trials.file_of(by_name[name]): name for name in wanted}
  predictions = os.path.join(output_dir, _PREDICTIONS) if (
      'top_1_accuracy' in trials.reference) else ''
  found = evaluate.evaluate(
      model_dir, list(paths), SPLIT, predictions=predictions)[1:]
  timed = {r['model']: r for r in latency.benchmark(list(paths))['results']}
  return {paths[r['model']]: {
      **r['metrics'], **{k: r[k] for k in _SCORED if k in r},
      **{k: timed[r['model']][k] for k in TIMED}} for r in found}


def verdict(
    winner: Mapping[str, Any], reference: Mapping[str, Any],
    tested: Mapping[str, Record], limits: choosing.Constraints,
) -> Record:
  """Returns whether the winner meets the constraints on unseen images.

  Args:
    winner: The trial that was chosen.
    reference: That of the float file.
    tested: What `judge` returned.
    limits: The constraints.

  Returns:
    `budget_met`; `margin`: `points` of accuracy that are left (negative where
    they are exceeded), with the interval `low` to `high` where it is known;
    `failures`, a line for every constraint that is not met; `beats_float`,
    whether what is minimized is less than that of the float file; and
    `sentence`.
  """
  first = {**reference, **tested[reference['name']]}
  last = {**winner, **tested[winner['name']]}
  lost = choosing.drop(last, first)
  failed = choosing.failures(last, first, limits)
  found = last.get('difference')
  margin = {'points': round(limits.max_drop - lost, 4), **({
      end: round(limits.max_drop + 100 * found[end], 4)
      for end in ('low', 'high')} if found else {})}
  begin = f'no trial meets the budget; nearest is {winner["name"]}'
  if not failed:
    begin = f'{winner["name"]} meets the budget'
  elif limits_lib.fits(winner, reference, limits):
    begin = (f'{winner["name"]} met the budget on the images of the search, '
             'and misses it on others')
  role = last.get('data_role')
  sentence = (
      f'{begin}: {choosing.compared(last, first)}, on the '
      f'{last["num_examples"]:,} images of {last["data"]}'
      f'{"" if role == "unseen" else f" ({role})"}; {limits.max_drop:g} points '
      f'are allowed, {margin["points"]:+.2f} are left')
  if found:
    sentence += (
        f' (95 % interval {margin["low"]:+.2f} to {margin["high"]:+.2f})')
  if failed:
    missed = '; '.join(failed)
    sentence += f'. {missed[0].upper()}{missed[1:]}'
  least, cost = (choosing.cost(r, limits.minimize) for r in (first, last))
  beats = least is None or cost is not None and cost < least
  if not beats:
    sentence += (f'. The {first["name"]} file has the least {limits.minimize}: '
                 'nothing that fits beats it')
  return {'budget_met': not failed, 'margin': margin, 'failures': failed,
          'beats_float': beats, 'sentence': sentence}


def page(
    records: Sequence[Mapping[str, Any]], limits: choosing.Constraints,
    sentence: str, command: str,
) -> str:
  """Returns the trials as one HTML page: front, plots, table.

  Args:
    records: The trials that were judged, that of the float file first.
    limits: The constraints.
    sentence: What the search came to.
    command: The command that searched.
  """
  minimize = limits.minimize
  names = front(records, minimize)
  variants = [{**r, 'family': _family(r),
               'dominated_by': None if r['name'] in names else 'the front'}
              for r in records]
  sections = [
      html.Section('front', 'Accuracy against cost',
                   overview.charts(variants, limits), _FRONT),
      html.Section('trials', 'Trials', html.table(_table(variants, minimize)),
                   'On validation images; the winner is judged on others.')]
  return html.page(
      'Search', sections, Markup('<p>{}</p>').format(sentence),
      {'made by': command})


_FRONT = ('Vertical lines are 95 % confidence intervals of the difference from '
          'float on the same images; hollow markers are beaten. The axis of '
          'accuracy does not begin at zero.')


def _family(record: Mapping[str, Any]) -> str:
  """Returns the key of `report.families` of a trial."""
  if record['kind'] == 'float':
    return 'float'
  layers = ' '.join(record['layers'])
  if 'zeros' in layers or 'clusters' in layers:
    return 'combined'
  if record['keep_ratio'] < 1.0:
    return 'channels'
  return 'qat' if record.get('train_steps') else 'ptq'


def _table(
    variants: Sequence[Mapping[str, Any]], minimize: str) -> html.Table:
  reference, score = variants[0], choosing.score_of(variants)
  rows = []
  for v in variants:
    lost = choosing.drop(v, reference)
    rows.append(html.Row([
        html.Cell(v['name']), html.number(100 * v[score], '{:.2f}'),
        html.Cell(choosing.difference(v, reference), -lost),
        html.number(v.get('size_bytes')), html.number(v.get('gzip_bytes')),
        html.number(v.get('median_ms'), '{:.3f}'),
        html.number(choosing.cost(v, minimize)),
        html.Cell('; '.join(f'{n} {what}' for what, n in v.get(
            'layers', {}).items())),
        html.number(v.get('seconds'), '{:,.0f}')],
                         key=v['name'], family=v['family']))
  columns = [html.Column('trial', number=False),
             html.Column(f'{choosing.SCORES[score]}, %'),
             html.Column('from float', number=False), html.Column('bytes'),
             html.Column('gzip bytes'), html.Column('ms'),
             html.Column(f'minimized: {minimize}'),
             html.Column('layers', number=False), html.Column('seconds')]
  return html.Table('Trials of the search', columns, rows, filtered=True)


def winner_yaml(
    values: Mapping[str, Any], sentence: str, path: str,
    flags: Sequence[str] = (),
) -> str:
  """Returns the pipeline of the winner, with the command that runs it.

  Args:
    values: The pipeline.
    sentence: What the search came to.
    path: Path of the file, for the command.
    flags: Further flags of that command.
  """
  command = shlex.join([
      'modelgarden-opt', 'run', f'--config_file={path}',
      '--model_dir=runs/winner', *flags])
  return (f'# {command}\n# {sentence}\n'
          + yaml.safe_dump(dict(values), sort_keys=False))


def candidate_names(
    records: Sequence[Mapping[str, Any]], winner: str, minimize: str
) -> list[str]:
  """Returns the trials that are judged on unseen images: front and uniform."""
  names = front(records, minimize)
  return [r['name'] for r in records if r['name'] in (winner, *names)
          or r['kind'] == 'uniform']

