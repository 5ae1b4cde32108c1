"""A search as a user runs it: killed, resumed, its winner made again."""

import dataclasses
import json
import pathlib

import pytest
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import census
from modelgarden_opt.report import choosing
from modelgarden_opt.search import candidates
from modelgarden_opt.search import limits as limits_lib
from modelgarden_opt.search import results
from modelgarden_opt.search import searching
from modelgarden_opt.search import space
from tests.search import test_candidates


def _flags(float_run, output_dir, *more):
  return ['search', f'--model_dir={float_run}', f'--output_dir={output_dir}',
          '--max_drop=40', '--time=10m', *more]


def _read(output_dir):
  return json.loads((pathlib.Path(output_dir) / results.JSON).read_text())


@pytest.fixture
def few(monkeypatch):
  """Uniform candidates are two, of which the second one cannot be made."""
  whole = candidates.uniform

  def first(*args):
    eight, *_ = whole(*args)
    path = next(iter(eight.layers))
    return [eight, space.Candidate(
        'impossible', eight.family,
        {**eight.layers, 'no/such/layer': space.Choice(4), path:
         space.Choice()}, uniform=True)]

  monkeypatch.setattr(candidates, 'uniform', first)


@pytest.fixture(scope='module')
def stopped_and_whole(float_run, tmp_path_factory):
  """Directory of a search that was killed in its second trial, then ended."""
  output_dir = tmp_path_factory.mktemp('search')
  with pytest.MonkeyPatch.context() as patch:
    few.__wrapped__(patch)
    execute, count = main.execute, []

    def until_killed(argv):
      count.append(argv[0])
      if count.count('train') == 3 and argv[0] == 'export':
        raise KeyboardInterrupt
      return execute(argv)

    flags = _flags(float_run, output_dir, '--trials=3')
    patch.setattr(main, 'execute', until_killed)
    assert main.main(flags) == 130
    assert not (output_dir / results.JSON).exists()
    kept = {p.parent.name: p.read_text()
            for p in output_dir.glob('trials/*/trial.json')}
    patch.setattr(main, 'execute', execute)
    assert main.main(flags) == 0
  return output_dir, count, kept


def test_what_was_done_before_a_kill_is_not_done_again(stopped_and_whole):
  output_dir, count, kept = stopped_and_whole
  # The float file, 8 bits, what cannot be made; the searched one was killed.
  assert count == ['export', 'evaluate', 'train', 'export', 'evaluate', 'train',
                   'train', 'export'] and len(kept) == 3
  for number, record in kept.items():
    assert (output_dir / 'trials' / number / 'trial.json').read_text() == record
  log, = [path for path in output_dir.glob('trials/*/log.txt')
          if path.parent.name not in kept]
  # What was trained is not trained again.
  assert log.read_text().count('$ modelgarden-opt train') == 1
  assert log.read_text().count('$ modelgarden-opt export') == 2
  assert 'trial: complete' in log.read_text()


def test_every_trial_is_kept_and_failures_say_why(stopped_and_whole):
  found = _read(stopped_and_whole[0])
  assert [(r['name'], r['status']) for r in found['trials']] == [
      ('float32', 'done'), ('8 bits', 'done'), ('impossible', 'failed'),
      ('searched 1', 'done')]
  assert 'no/such/layer' in found['trials'][2]['message']
  assert found['stopped'] == 'trials'
  reference, eight, _, searched = found['trials']
  assert searched['gzip_bytes'] < eight['gzip_bytes'] < (
      reference['gzip_bytes'])
  for record in (eight, searched):
    assert record['difference']['low'] <= (
        record['top_1_accuracy'] - reference['top_1_accuracy']) <= (
            record['difference']['high'])
    assert record['num_examples'] == 180
  assert set(found['front']) <= {r['name'] for r in found['trials']}


def test_the_winner_is_judged_on_images_that_the_search_did_not_see(
    stopped_and_whole):
  found = _read(stopped_and_whole[0])
  winner, tested = found['winner'], found['winner']['test']
  assert tested['num_examples'] == 360 and tested['data_role'] == 'unseen'
  lost = 100 * (found['trials'][0]['test']['top_1_accuracy']
                - tested['top_1_accuracy'])
  assert found['margin']['points'] == pytest.approx(40 - lost, abs=1e-3)
  assert found['budget_met'] == (lost <= 40)
  assert found['margin']['low'] < found['margin']['high']
  assert tested['ratio'] > 0 and winner['name'] in found['sentence']
  page = (stopped_and_whole[0] / results.PAGE).read_text()
  assert winner['name'] in page and '<svg' in page


@pytest.mark.parametrize('milliseconds, beats', [(0.9, True), (1.1, False)])
def test_a_winner_that_is_slower_than_float_says_so(milliseconds, beats):
  of_float = {'name': 'float32', 'top_1_accuracy': 0.9, 'median_ms': 1.0,
              'size_bytes': 4000, 'num_examples': 10, 'data': 'test_data'}
  winner = {**of_float, 'name': '8 bits', 'median_ms': milliseconds,
            'size_bytes': 1000}
  found = results.verdict(
      winner, of_float, {'float32': of_float, '8 bits': winner},
      choosing.Constraints(minimize='latency'))
  assert found['budget_met'] and found['beats_float'] == beats
  assert ('float32 file has the least latency' in found['sentence']) != beats


@pytest.mark.parametrize('before, begin', [
    (0.9, 'small met the budget on the images of the search, and misses it'),
    (0.8, 'no trial meets the budget; nearest is small: ')])
def test_a_budget_that_is_missed_on_other_images_alone_is_told(before, begin):
  of_float = {'name': 'float32', 'top_1_accuracy': 0.9, 'size_bytes': 4000,
              'num_examples': 10, 'data': 'test_data'}
  winner = {**of_float, 'name': 'small', 'top_1_accuracy': before}
  found = results.verdict(
      winner, of_float, {'float32': of_float, 'small': {
          **winner, 'top_1_accuracy': 0.89}}, choosing.Constraints())
  assert found['sentence'].startswith(begin) and not found['budget_met']
  assert '. It loses 1.00 points, 0.5 are allowed' in found['sentence']


def test_one_command_makes_the_winner_again(stopped_and_whole, tmp_path):
  output_dir, _, _ = stopped_and_whole
  winner = _read(output_dir)['winner']
  path = output_dir / results.WINNER
  assert path.read_text().startswith('# modelgarden-opt run --config_file=')
  assert yaml.safe_load(path.read_text())['stages'][-1] == 'report'
  assert main.main(['run', f'--config_file={path}',
                    f'--model_dir={tmp_path}']) == 0
  made = tmp_path / 'files' / 'trial_int8.tflite'
  assert made.read_bytes() == pathlib.Path(winner['model']).read_bytes()
  assert census.gzip_bytes(str(made)) == winner['gzip_bytes']
  evaluated = json.loads((
      tmp_path / 'files' / 'trial_evaluation.json').read_text())['results'][-1]
  assert evaluated['metrics']['top_1_accuracy'] == (
      winner['test']['top_1_accuracy'])


class _FakeTrials:
  """Trials whose drop is that of their sensitivities."""

  def __init__(self, drop_of, seconds=10.0, train_steps=0, fails=None):
    self._known, self._fails = {}, fails or (
        lambda c: c.family.granularity == space.PER_TENSOR)
    self.kept, self.seconds, self.longer = [], 0.0, []
    self._drop_of, self._each = drop_of, seconds
    self._train_steps = train_steps

  @property
  def reference(self):
    return self.kept[0]

  def run_float(self):
    return self._keep({'name': 'float32', 'kind': 'float', 'status': 'done',
                       'top_1_accuracy': 0.9, 'gzip_bytes': 10**6})

  def run(self, candidate):
    key = repr(dataclasses.replace(candidate, name='', uniform=False))
    if key not in self._known:
      self._known[key] = self._run(candidate)
    return self._known[key]

  def _run(self, candidate):
    layers = test_candidates.LAYERS
    cost = sum(test_candidates.layers_lib.zipped(
        layer, candidate.layers[layer.path], candidate.family)
               for layer in layers)
    if self._fails(candidate):
      return self._keep({'name': candidate.name, 'kind': 'searched',
                         'status': 'failed', 'message': 'refused'})
    if candidate.times > 1:
      self.longer.append(candidate)
    return self._keep({
        'name': candidate.name, 'status': 'done', 'gzip_bytes': int(cost),
        'kind': 'uniform' if candidate.uniform else 'searched',
        'train_steps': self._train_steps * candidate.times,
        'top_1_accuracy': 0.9 - self._drop_of(candidate) / candidate.times},
                      candidate.times)

  def _keep(self, record, times=1):
    self.seconds += self._each * times
    self.kept.append({**record, 'seconds': self._each * times})
    return self.kept[-1]


def _search(budget, max_drop=0.5, train_steps=0, within=None,
            fails=None):
  harms = test_candidates.harms_lib.Harms(test_candidates._records({}))
  trials = _FakeTrials(lambda c: 0.02 * sum(
      harms.of(path, choice) for path, choice in c.layers.items()),
                       train_steps=train_steps, fails=fails)
  asked = []

  def sensitivities(treatments, seconds):
    asked.append((treatments, seconds))
    return test_candidates._records({})

  limits = choosing.Constraints(max_drop=max_drop)
  search = searching.Search(
      searching.Problem(layers=test_candidates.LAYERS,
                        space=within or space.Space(),
                        limits=limits), trials, budget, sensitivities,
      lambda line: None)
  search.run()
  return search, trials, asked, limits


def test_it_ends_with_a_file_that_no_uniform_one_beats():
  search, trials, asked, limits = _search(searching.Budget(seconds=1e4))
  assert search.stopped == 'nothing left to try'
  best = limits_lib.best(
      [r for r in trials.kept if r['status'] == 'done'], limits)
  assert best['kind'] == 'searched'
  fitting = [r['gzip_bytes'] for r in trials.kept if r['kind'] == 'uniform'
             and limits_lib.fits(r, trials.reference, limits)]
  assert best['gzip_bytes'] < min(fitting)
  (treatments, seconds), = asked
  assert seconds == 2e3 and treatments[:2] == [
      ('quantization', 4), ('quantization', 8)]
  assert len(trials.kept) < 40 and len({r['name'] for r in trials.kept}) == (
      len(trials.kept))


def test_what_is_nearly_accurate_enough_is_trained_longer():
  """Four times the steps leave a quarter of the drop here."""
  search, trials, _, limits = _search(
      searching.Budget(seconds=1e4), train_steps=100)
  assert search.stopped == 'nothing left to try' and trials.longer
  by_name = {r['name']: r for r in trials.kept}
  for candidate in trials.longer:
    short = by_name[candidate.name.removesuffix(', 400 steps')]
    assert by_name[candidate.name]['train_steps'] == 400
    assert 0.5 < choosing.drop(short, trials.reference) < 1.001
  _, untrained, _, _ = _search(searching.Budget(seconds=1e4))
  assert not untrained.longer
  cheapest, before = (limits_lib.best(
      [r for r in of.kept if r['status'] == 'done'], limits)['gzip_bytes']
                      for of in (trials, untrained))
  assert cheapest < before


def test_a_longer_training_begins_only_if_it_would_end_in_time():
  _, trials, _, _ = _search(searching.Budget(seconds=95), train_steps=100)
  assert trials.seconds <= 95 and not trials.longer


def test_no_trial_begins_that_would_not_end_in_time():
  search, trials, asked, _ = _search(searching.Budget(seconds=45))
  assert search.stopped == 'time' and trials.seconds == 40 and not asked


def test_channels_that_cannot_be_removed_are_tried_once():
  _, trials, _, _ = _search(
      searching.Budget(seconds=1e4), within=space.Space(
          keeps=(1.0, 0.75), granularities=(space.PER_CHANNEL,)),
      fails=lambda c: c.family.keep < 1.0)
  failed, = (r['name'] for r in trials.kept if r['status'] == 'failed')
  assert '75 %' in failed


def test_what_has_two_names_is_one_trial():
  found, trials, _, _ = _search(searching.Budget(seconds=1e4))
  again = candidates.uniform(
      test_candidates.LAYERS, space.Space(), False)[0]
  number, seconds = len(trials.kept), trials.seconds
  record = found._try(dataclasses.replace(again, name='searched 9'))
  assert record['name'] == '8 bits'
  assert (len(trials.kept), trials.seconds) == (number, seconds)


def test_a_number_of_trials_is_kept():
  search, trials, _, _ = _search(searching.Budget(seconds=1e4, trials=9))
  assert search.stopped == 'trials' and len(trials.kept) == 1 + 9


def _trial(name, drop, size, half=0.0):
  return {'name': name, 'kind': 'uniform', 'top_1_accuracy': 0.9 - drop / 100,
          'gzip_bytes': size, **({'difference': {
              'value': -drop / 100, 'low': (-drop - half) / 100,
              'high': (-drop + half) / 100}} if half else {})}


def test_a_part_of_the_uncertainty_is_kept_in_reserve():
  records = [_trial('float32', 0, 1000), _trial('a', 0.45, 100, half=0.392),
             _trial('b', 0.38, 200, half=0.392), _trial('c', 0.1, 300)]
  limits = choosing.Constraints(max_drop=0.5)
  # Half of the standard error, 0.392 / 1.96 = 0.2 points.
  assert limits_lib.reserve(records[1]) == pytest.approx(0.1, rel=1e-3)
  assert limits_lib.best(records, limits)['name'] == 'b'
  strict = choosing.Constraints(max_drop=0.05)
  assert limits_lib.best(records, strict)['name'] == 'c'
  assert limits_lib.best(records[:1], limits) is None


def test_the_nearest_trial_is_nearest_to_what_it_misses():
  """A size that nobody has is not missed by accuracy."""
  trials = [_trial('float32', 0.0, 100), _trial('8 bits', -0.1, 50),
            _trial('4 bits', 0.2, 25)]
  trials = [{**r, 'size_bytes': r['gzip_bytes']} for r in trials]
  best = limits_lib.best(trials, choosing.Constraints(max_bytes=10))
  assert best['name'] == '4 bits'


def test_the_front_has_what_nothing_cheaper_is_as_accurate_as():
  records = [_trial('float32', 0, 1000), _trial('a', 0.5, 100),
             _trial('b', 0.6, 200), _trial('c', 0.1, 300),
             _trial('d', 0.1, 400)]
  assert results.front(records, 'size') == ['a', 'c', 'float32']


@pytest.mark.parametrize('flags,message', [
    (['--time=0m'], "time: expected seconds ('90s'), minutes ('10m') or hours"),
    (['--time=20e'], 'time: expected'),
    (['--trials=0'], 'trials: must be >= 1, received 0'),
    (['--train_steps=-1'], 'train_steps: must be >= 0'),
    (['--distillation'], 'give --train_steps'),
    (['--bits=6'], 'bits: files hold 4, 8 and 32 (float), received 6'),
    (['--minimize=sise'], "did you mean 'size'?"),
    (['--device=tflmm', '--minimize=flash'], "did you mean 'tflm'?"),
    (['--device=tflm'], 'device: is for --minimize=flash and instructions'),
    (['--minimize=instructions', '--device=tflm'], 'are counted on cpu')])
def test_a_mistake_is_told_before_anything_is_done(
    flags, message, tmp_path, capsys):
  assert main.main(['search', '--model_dir=/no/run',
                    f'--output_dir={tmp_path}/out', *flags]) == 2
  assert message in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def test_a_run_that_is_not_float_is_refused(qat_run, tmp_path, capsys):
  assert main.main(_flags(qat_run, tmp_path / 'out')) == 2
  assert 'has quantization' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()
