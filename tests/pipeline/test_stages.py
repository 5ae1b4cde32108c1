"""What a staged YAML describes, and what is refused."""

import pytest

from modelgarden_opt import errors
from modelgarden_opt.export import exporter
from modelgarden_opt.export import formats
from modelgarden_opt.export import saved_model
from modelgarden_opt.pipeline import commands
from modelgarden_opt.pipeline import fields
from modelgarden_opt.pipeline import stages

_FULL = ['float', 'prune', 'cluster', 'qat', 'export', 'evaluate', 'benchmark',
         'report']


def _parse(names=_FULL, **blocks):
  return stages.parse({'model': 'mobilenet_v2', 'stages': names, **blocks})


def test_every_stage_starts_from_the_one_before_and_keeps_what_it_did():
  trainings = _parse(
      cluster={'task': {'clustering': {'number_of_clusters': 8}}}).trainings
  assert [(t.experiment, t.source) for t in trainings] == [
      ('mobilenet_v2', None), ('mobilenet_v2_pruning', 'float'),
      ('mobilenet_v2_clustering', 'prune'), ('mobilenet_v2_pcqat', 'cluster')]
  assert trainings[2].overrides['task']['clustering'] == {
      'number_of_clusters': 8, 'preserve_sparsity': True}
  assert trainings[3].overrides['task']['clustering'] == {
      'number_of_clusters': 8}


@pytest.mark.parametrize('names, blocks, experiment', [
    (['float', 'qat'], {}, 'qat'),
    (['float', 'prune', 'qat'], {}, 'pqat'),
    (['float', 'prune', 'qat'], {'qat': {'preserve': False}}, 'qat'),
    (['float', 'cluster', 'qat'], {}, 'cqat'),
    (['float', 'prune', 'cluster', 'qat'], {'qat': {'from': 'prune'}}, 'pqat'),
    (['float', 'prune', 'other'], {'other': {'kind': 'qat'}}, 'pqat'),
    (['float', 'prune', 'more'], {'more': {'kind': 'prune'}}, 'pruning'),
    # Removed channels leave no zeros.
    (['float', 'prune', 'qat'],
     {'prune': {'task': {'pruning': {'granularity': 'channel'}}}}, 'qat'),
])
def test_techniques_follow_from_the_stages_before(names, blocks, experiment):
  last = _parse(names, **blocks).trainings[-1]
  assert last.experiment == f'mobilenet_v2_{experiment}'


def test_overrides_of_all_come_below_those_of_one():
  trainings = _parse(
      ['float', 'qat'],
      all={'trainer': {'train_steps': 5, 'steps_per_loop': 5}},
      qat={'trainer': {'train_steps': 2}}).trainings
  assert trainings[0].overrides == {
      'trainer': {'train_steps': 5, 'steps_per_loop': 5}}
  assert trainings[1].overrides == {
      'trainer': {'train_steps': 2, 'steps_per_loop': 5}}


def test_a_stage_starts_from_a_file_and_its_own_fields_win(tmp_path):
  path = tmp_path / 'mobilenet_v2_pruning.yaml'
  path.write_text('{trainer: {train_steps: 7, steps_per_loop: 7}, '
                  'task: {pruning: {granularity: channel}}}')
  trainings = _parse(
      ['float', 'prune', 'qat'],
      all={'trainer': {'train_steps': 5, 'validation_interval': 5}},
      prune={'config_file': f'{tmp_path}/{{model}}_pruning.yaml',
             'trainer': {'steps_per_loop': 2}}).trainings
  assert trainings[1].overrides == {
      'trainer': {'train_steps': 7, 'steps_per_loop': 2,
                  'validation_interval': 5},
      'task': {'pruning': {'granularity': 'channel'}}}
  # The file removes channels, which leaves no zeros to preserve.
  assert trainings[2].experiment == 'mobilenet_v2_qat'


@pytest.mark.parametrize('task', [3, None, {'pruning': 3}, {'clustering': 3}])
def test_values_of_the_wrong_type_are_left_to_the_check_of_fields(task):
  names = ['float', 'prune', 'cluster', 'qat']
  blocks = {name: {'task': task} for name in names[:3]}
  assert len(_parse(names, **blocks).trainings) == 4


def test_a_report_may_name_its_variants():
  pipeline = _parse(['float', 'qat', 'export', 'evaluate', 'benchmark',
                     'report'], report={'names': {'float_int8': 'ptq_int8'}})
  report = commands.steps(pipeline, 'out', 'the command')[-1].commands[0]
  assert [flag for flag in report if flag.startswith('--variant')] == [
      '--variant=float_float32=out/files/float_float32.tflite',
      '--variant=ptq_int8=out/files/float_int8.tflite',
      '--variant=qat_int8=out/files/qat_int8.tflite']
  assert not any('names' in flag for flag in report)


@pytest.mark.parametrize('values, expected', [
    ({'model': 'mobilenet_v9'}, "model: 'mobilenet_v9' is not a model; did"),
    ({'stages': []}, 'stages: expected a list'),
    ({'stages': ['float', 'float']}, 'stages: float is there twice'),
    ({'stages': ['float', 'export', 'qat']}, 'export come last'),
    ({'stages': ['float', 'evaluate']}, 'evaluate needs export'),
    ({'stages': ['float', 'prun']}, "kind: 'prun' is not a kind .* 'prune'"),
    ({'stages': ['float', 'cluster', 'prune']}, 'prune would undo clustering'),
    ({'quat': {}}, 'quat: no such stage; did you mean'),
    ({'qat': {'trainre': {}}}, 'qat.trainre: no such field; did you mean'),
    ({'qat': {'from': 'prunes'}},
     "qat.from: 'prunes' is not a training before"),
    ({'benchmark': {'runs': 3}}, 'benchmark.runs: no such field'),
    ({'qat': {'config_file': 'no/{model}.yaml'}},
     "qat.config_file: there is no file 'no/mobilenet_v2.yaml'"),
    ({'report': {'names': ['a']}}, 'report.names: expected `variant: name`'),
    ({'report': {'names': {'float_int9': 'a'}}},
     "report.names.float_int9: no such variant; did you mean 'float_int8'"),
    ({'report': {'names': {'float_int8': 'a=b'}}},
     "without '=', received 'a=b'"),
    ({'report': {'names': {'float_int8': 'qat_int8'}}},
     "report.names.float_int8: 'qat_int8' names two variants"),
    ({'all': {'trainr': {}}}, "all.trainr: no such field; did you mean 'tra"),
    ({'qat': 3}, 'qat: expected `field: value` pairs, received 3'),
])
def test_mistakes_are_told(values, expected):
  with pytest.raises(errors.UsageError, match=expected):
    stages.parse({'model': 'mobilenet_v2', 'stages': _FULL, **values})


@pytest.mark.parametrize('name', ['a/b', '../x', 'a=b', 'a,b', '', 'files'])
def test_names_of_stages_are_names_of_directories(name):
  with pytest.raises(errors.UsageError, match='names a directory'):
    stages.parse({'model': 'mobilenet_v2', 'stages': ['float', name],
                  name: {'kind': 'qat'}})


def test_a_stage_that_is_no_name_is_told():
  with pytest.raises(errors.UsageError, match='expected names, received'):
    stages.parse({'model': 'mobilenet_v2', 'stages': [{'float': 1}]})


def test_commands_are_those_that_a_user_would_type():
  steps = commands.steps(_parse(), 'out', 'the command')
  assert [step.name for step in steps] == _FULL
  assert steps[1].commands == [[
      'train', '--experiment=mobilenet_v2_pruning',
      '--config_file=out/prune.yaml', '--model_dir=out/prune']]
  assert steps[1].config == ('out/prune.yaml', {'task': {'pruning': {
      'pretrained_original_checkpoint': 'out/float/best_ckpt'}}})
  assert steps[4].commands == [
      ['export', f'--model_dir=out/{name}', f'--formats={forms}',
       '--output_dir=out/files', f'--name={name}']
      for name, forms in (('float', 'float32,int8'), ('prune', 'float32,int8'),
                          ('cluster', 'float32,int8'), ('qat', 'int8'))]


def test_a_stage_starts_from_where_its_source_keeps_its_best():
  for subdir, expected in (('mine', 'out/float/mine'), ('', 'out/float')):
    steps = commands.steps(_parse(['float', 'qat'], float={'trainer': {
        'best_checkpoint_export_subdir': subdir}}), 'out', 'the command')
    assert steps[1].config[1]['task']['quantization'] == {
        'pretrained_original_checkpoint': expected}


def test_every_stage_depends_on_what_it_reads():
  steps = {s.name: s for s in commands.steps(_parse(), 'out', 'the command')}
  made = {path: name for name, step in steps.items() for path in step.outputs}
  sources = {name: {made[path] for path in step.inputs}
             for name, step in steps.items()}
  trainings = {'float', 'prune', 'cluster', 'qat'}
  assert sources == {
      'float': set(), 'prune': {'float'}, 'cluster': {'prune'},
      'qat': {'cluster'}, 'export': trainings,
      'evaluate': {*trainings, 'export'}, 'benchmark': {'export'},
      'report': {'export', 'evaluate', 'benchmark'}}


@pytest.mark.parametrize('values, expected', [
    ({'qat': {'formats': ['int9']}}, r'qat.formats\[0\]: must be one of flo'),
    ({'qat': {'formats': 5}}, 'qat.formats: expected list of str'),
    ({'qat': {'from': ['float']}}, r"qat.from: expected str .*received \['flo"),
    ({'qat': {'teacher': {}}}, 'qat.teacher: expected str or null, received a'),
    ({'qat': {'kind': []}}, 'qat.kind: expected str'),
    ({'qat': {'preserve': 'no'}}, 'qat.preserve: expected bool'),
    ({'qat': {'config_file': None}}, 'qat.config_file: must not be null'),
    ({'model': ['mobilenet_v2']}, 'model: .* is not a model'),
    ({'export': {'io_dtype': 'int9'}}, 'export.io_dtype: must be one of floa'),
    ({'benchmark': {'num_runs': 0}}, 'benchmark.num_runs: must be >= 1'),
    ({'report': {'title': 5}}, 'report.title: expected str, received 5'),
])
def test_values_of_stages_are_checked(values, expected):
  with pytest.raises(errors.UsageError, match=expected):
    stages.parse({'model': 'mobilenet_v2', 'stages': _FULL, **values})


def test_formats_are_those_of_export():
  assert {*fields.FORMATS} == {
      *formats.FORMATS, exporter.INT4_INT8, saved_model.FORMAT}
