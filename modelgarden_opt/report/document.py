"""A whole report: HTML, Markdown, picture and JSON of what was found."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
from typing import Any

from markupsafe import Markup

from modelgarden_opt import files
from modelgarden_opt.report import choosing
from modelgarden_opt.report import commands
from modelgarden_opt.report import confusion
from modelgarden_opt.report import curves
from modelgarden_opt.report import details
from modelgarden_opt.report import finding
from modelgarden_opt.report import html
from modelgarden_opt.report import layers
from modelgarden_opt.report import overview
from modelgarden_opt.report import page
from modelgarden_opt.report import predictions as predictions_lib
from modelgarden_opt.report import results as results_lib
from modelgarden_opt.report import runs as runs_lib
from modelgarden_opt.report import samples

# Fields of the JSON of `analyze` that hold the noise of a layer.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """Everything that a report shows.

  Attributes:
    title: Its heading.
    made_by: The command that made the results.
    found: What was found.
    runs: Run directories, see `runs.load_all`.
    predictions: Predictions by path of the file.
    results: What `results.collect` returned.
    constraints: What the file to ship has to fulfill.
  """
  title: str
  made_by: str
  found: finding.Found
  runs: Mapping[str, runs_lib.Run]
  predictions: Mapping[str, predictions_lib.Predictions]
  results: Mapping[str, Any]
  constraints: choosing.Constraints

  @property
  def variants(self) -> Sequence[Mapping[str, Any]]:
    """The records of the variants."""
    return self.results['variants']

  @property
  def chosen(self) -> Mapping[str, Any]:
    """The variant to ship, else the last one."""
    return choosing.choose(self.variants, self.constraints) or (
        self.variants[-1])

  @property
  def paths(self) -> dict[str, str]:
    """Names of the variants by path."""
    return {self.found.path_of(v['model']): v['name'] for v in self.variants}

  @property
  def used_runs(self) -> dict[str, runs_lib.Run]:
    """Runs by a name that is short: those of the variants and their sources.

    All of them if no file says which run it is from.
    """
    wanted = [v['run'] for v in self.variants if v.get('run')]
    known = []
    for directory in wanted or self.runs:
      chain = []
      while directory in self.runs and directory not in known + chain:
        chain.append(directory)
        directory = self.runs[directory].source
      known += chain[::-1]
    return {name: self.runs[k] for k, name in finding.short(known).items()}

  @property
  def class_names(self) -> list[str]:
    """Names of the classes, [] if they are not known."""
    return next((r.class_names for r in self.runs.values()
                 if r.class_names), [])


def make(
    found: finding.Found,
    variants: Mapping[str, str] | None = None,
    title: str = 'Results',
    made_by: str = '',
    constraints: choosing.Constraints | None = None,
) -> Report:
  """Returns the report of what was found.

  Args:
    found: What was found.
    variants: Paths by name; None for all files.
    title: Heading.
    made_by: The command that made the results.
    constraints: What the file to ship has to fulfill; None for the defaults.
  """
  constraints = constraints or choosing.Constraints()
  runs = runs_lib.load_all(found)
  predictions = predictions_lib.load(
      found.predictions, found.path_of, results_lib.scores(found))
  results = results_lib.collect(found, variants, runs, predictions)
  shown = results['variants']
  chosen = choosing.choose(shown, constraints)
  results['summary'] = {
      'sentence': choosing.sentence(shown, constraints),
      'reference': shown[0]['name'],
      'ship': None if chosen is None else chosen['name'],
      'constraints': dataclasses.asdict(constraints)}
  made = {v['name']: commands.of(v, found, runs) for v in shown}
  results['commands'] = {name: lines for name, lines in made.items() if lines}
  return Report(title=title, made_by=made_by, found=found, runs=runs,
                predictions=predictions, results=results,
                constraints=constraints)


def write(report: Report, output_dir: str) -> None:
  """Writes `report.html`, `report.md`, `report.png` and `results.json`."""
  page.write(report.results, output_dir, report.title, report.made_by)
  files.write_atomically(
      os.path.join(output_dir, 'report.html'), to_html(report))


def to_html(report: Report) -> str:
  """Returns the report as one HTML page."""
  results = report.results
  variants = results['variants']
  sections = [
      ('variants', 'Variants', overview.table(variants, report.constraints),
       page.notes(results)),
      ('front', 'Accuracy against cost',
       overview.charts(variants, report.constraints), _FRONT),
      ('devices', 'Devices', details.targets(report.found, report.paths), ''),
      ('samples', 'Samples', _samples(report), ''),
      ('classes', 'Classes', _confusion(report),
       _classes_note(report)),
      ('layers', 'Layers', _layers(report), ''),
      ('sensitivity', 'Sensitivity', _analysis(report), ''),
      ('trials', 'Trials of the search', _search(report), ''),
      ('training', 'Training', curves.panel(report.used_runs), _CURVES),
      ('configuration', 'What differs between the runs',
       details.configuration(report.used_runs), _CONFIGURATION),
      ('commands', 'Commands',
       details.commands(variants, results.get('commands', {}),
                        report.chosen['name']), ''),
      ('environment', 'Environment', details.facts(results['environment'])
       if results['environment'] else Markup(), ''),
  ]
  facts = {'made by': report.made_by} if report.made_by else {}
  return html.page(
      report.title,
      [html.Section(*section) for section in sections if section[2]],
      overview.lead(variants, report.constraints), facts)


_FRONT = (
    'The line is the front: what lies under it is beaten by a file that costs '
    'as little and is more accurate. Vertical lines are 95 % confidence '
    'intervals of the difference from the dashed reference, hollow markers are '
    'dominated in all costs together, and the axis of accuracy does not begin '
    'at zero. A marker leads to the commands that made the file.')
_CLASSES = ('Predictions of {0}. Of the two tables, the first one counts true '
            'classes (rows) by predicted ones, and the second one shows the '
            'share of every class that is recognized, worst change first.')
_CURVES = ('Thin lines are training batches, thick ones validation; dashed is '
           'the schedule that the zeros follow.')
_CONFIGURATION = ('Fields of params.yaml; soft values are those of the first '
                  'run.')


def _classes_note(report: Report) -> str:
  if report.chosen.get('per_class_iou'):
    return 'Intersection over union of every class, worst change first.'
  return _CLASSES.format(report.chosen['name'])


def _layers(report: Report) -> Markup:
  exports = {report.found.path_of(e['model']): e
             for e in report.found.of('export')}
  timed = {report.found.path_of(r['model']): r['per_op']
           for b in report.found.of('benchmark') for r in b['results']
           if r.get('per_op')}
  by_name = {name: exports[path] for path, name in report.paths.items()
             if path in exports}
  if not by_name:
    return Markup()
  return layers.panel(
      by_name, {n: timed.get(p) for p, n in report.paths.items()},
      _analyses(report, by_name), report.chosen['name'])


def _analyses(
    report: Report, exports: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
  """Returns the JSON of `analyze` by variant.

  It is of a file, or of the run that int8 files were exported from.

  Args:
    report: The report.
    exports: Records of `export` by variant.
  """
  found = {}
  for analysis in report.found.of('analysis'):
    model = str(analysis.get('model', ''))
    name = report.paths.get(report.found.path_of(model))
    if name:
      found[name] = analysis
      continue
    run = report.found.run_of(str(analysis.get('checkpoint') or model))
    for name, export in exports.items():
      if run and export.get('format') == 'int8' and run == (
          report.found.run_of(str(export.get('checkpoint', '')))):
        found.setdefault(name, analysis)
  return found


def _analysis(report: Report) -> Markup:
  return Markup('').join(
      details.layers([v for v in analysis['layers'] if isinstance(v, Mapping)],
                     f"Layers of {analysis.get('model', 'a file')}, as ranked")
      for analysis in report.found.of('analysis') if analysis['layers'])


def _search(report: Report) -> Markup:
  return Markup('').join(
      details.records(search['trials'], 'name', 'Trials')
      for search in report.found.of('search') if search['trials'])


def _confusion(report: Report) -> Markup:
  chosen, first = report.chosen, report.variants[0]
  if chosen.get('per_class_iou'):
    return confusion.of_segmentation(
        (chosen['name'], chosen['per_class_iou']),
        (first['name'], first.get('per_class_iou') or ()), report.class_names)
  by_name = {name: report.predictions[path]
             for path, name in report.paths.items()
             if path in report.predictions}
  if chosen['name'] not in by_name:
    return Markup()
  before = (first['name'], by_name[first['name']]) if (
      first['name'] in by_name) else None
  return confusion.panel(
      (chosen['name'], by_name[chosen['name']]), before, report.class_names)


def _samples(report: Report) -> Markup:
  kept = report.found.of('samples')
  if not kept:
    return Markup()
  wanted = {report.variants[0]['name'], report.chosen['name']}
  shown = {path: name for path, name in report.paths.items()
           if name in wanted}
  return samples.panel(
      kept[-1], shown, report.found.path_of, report.class_names)
