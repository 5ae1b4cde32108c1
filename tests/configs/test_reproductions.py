"""Mistakes that were accepted once, or ended in a traceback, are told."""

import time

import pytest

from modelgarden_opt import errors
from modelgarden_opt.configs import resolving
from modelgarden_opt.configs.schema import stored

_QAT = 'task: {quantization: {%s}}'
_PRUNING = 'task: {pruning: {%s}}'
_TRAINER = 'trainer: {%s}'
_RATE = ('trainer: {optimizer_config: {learning_rate: {type: cosine, cosine: '
         '{initial_learning_rate: 0.1, decay_steps: 156000, %s}}}}')
_DIGITS = ('task: {train_data: {embedded_name: digits, embedded_split: train, '
           '%s}}')


def _problems(text, experiment='mobilenet_v2', name='c.yaml', directory=None):
  path = directory / name
  path.write_text(text)
  sources = resolving.read([str(path)])
  found = resolving.resolve(stored.experiment(experiment), sources)
  return [str(problem).removeprefix(f'{directory}/')
          for problem in found.problems]


@pytest.mark.parametrize(('text', 'expected'), [
    # Null where a value is needed; lists by element and length.
    (_PRUNING % 'frequency: null', 'task.pruning.frequency: must not be null'),
    ('trainer: null', 'trainer: must not be null'),
    ('task: null', 'task: must not be null'),
    (_PRUNING % 'sparsity_m_by_n: [2]',
     'task.pruning.sparsity_m_by_n: must have 2 elements, received 1'),
    (_PRUNING % 'sparsity_m_by_n: [4, 2]', '0 < m < n'),
    (_PRUNING % 'block_size: [4, b]',
     "task.pruning.block_size[1]: expected int, received 'b' (str)"),
    (_QAT % 'rules: [{path: null}]',
     'task.quantization.rules[0].path: must not be null'),
    (_QAT % 'rules: [null]', 'task.quantization.rules[0]: must not be null'),
    (_QAT % 'rules: 5', 'rules: expected list of mapping, received 5'),
    ('task: {model: {input_size: [28, 28, 1]}}',
     'task.model.input_size: images have 3 channels'),
    ('task: {model: {input_size: [28, 28]}}', 'must have 3 elements'),
    ('task: {model: {input_size: [28, null, 3]}}',
     'task.model.input_size[1]: must not be null'),
    # Enumerations of the Model Garden's fields.
    ("runtime: {distribution_strategy: 'of'}",
     "received 'of'; did you mean 'off'?"),
    ('task: {model: {backbone: {mobilenet: {model_id: MobileNetV5}}}}',
     'task.model.backbone.mobilenet.model_id: must be one of MobileNetV1'),
    ('task: {model: {backbone: {resnet: {model_id: 51}}}}',
     'task.model.backbone.resnet.model_id: must be one of 10, 18'),
    ('task: {model: {kernel_initializer: he_norml}}',
     "did you mean 'he_normal'?"),
    ('task: {train_data: {file_type: tfrecrod}}', "did you mean 'tfrecord'?"),
    ('task: {train_data: {dtype: float33}}', "did you mean 'float32'?"),
    ('trainer: {best_checkpoint_eval_metric: acuracy}',
     'trainer.best_checkpoint_eval_metric: must be one of accuracy, '
     "top_5_accuracy, validation_loss, received 'acuracy'; did you mean "
     "'accuracy'?"),
    ('trainer: {best_checkpoint_metric_comp: hihger}',
     "did you mean 'higher'?"),
    ('task: {model: {norm_activation: {activation: relu66}}}',
     'task.model.norm_activation.activation: must be one of elu'),
    # Ranges.
    (_TRAINER % 'train_steps: 0', 'trainer.train_steps: must be >= 1'),
    (_TRAINER % 'steps_per_loop: 0', 'trainer.steps_per_loop: must be >= 1'),
    (_TRAINER % 'validation_interval: -1', 'validation_interval: must be >= 1'),
    (_TRAINER % 'validation_steps: 0', 'or -1 for all batches'),
    (_RATE % 'decay_steps: -1', ' is there twice'),
    (_RATE.replace('156000', '-1') % 'alpha: 0.1', 'decay_steps: must be >= 1'),
    (_RATE.replace('0.1', '.nan', 1) % 'alpha: 0.1',
     'initial_learning_rate: must be a finite number, received nan'),
    (_RATE.replace('0.1', '-0.1', 1) % 'alpha: 0.1', 'must be >= 0'),
    (_RATE.replace('0.1', '.inf', 1) % 'alpha: 0.1', 'must be a finite number'),
    ('trainer: {optimizer_config: {optimizer: {adam: {beta_1: 1.5}}}}',
     'adam.beta_1: must lie in [0, 1), received 1.5'),
    ('task: {losses: {l2_weight_decay: -1}}', 'l2_weight_decay: must be >= 0'),
    ('task: {model: {dropout_rate: 1.0}}', 'dropout_rate: must lie in [0, 1)'),
    ('task: {evaluation: {top_k: 0}}', 'task.evaluation.top_k: must be >= 1'),
    ('task: {model: {num_classes: 0}}', 'num_classes: must lie in 1 to'),
    ('task: {batch_norm_steps: -1}', 'task.batch_norm_steps: must be >= 0'),
    ('trainer: {train_steps: 99999999999999999999}', 'must fit in 64 bits'),
    # Contradictions.
    (_DIGITS % 'global_batch_size: 2000',
     'task.train_data.global_batch_size: 2000 is more than the 1,257 images'),
    (_TRAINER % ('train_steps: 10, optimizer_config: {warmup: {linear: '
                 '{warmup_steps: 20}}}'),
     'warmup_steps: 20 is after trainer.train_steps 10, so the learning rate '
     'would not be reached; use 1 (5 %'),
    (_RATE.replace('156000', '100') % 'alpha: 0.0',
     'so 155900 steps would train at rate 0'),
    (_DIGITS % 'input_path: /data/train*',
     "'/data/train*' is not read with embedded_name 'digits'"),
    ('task: {model: {norm_activation: {activation: swish}}}',
     'is not read by a backbone of type mobilenet'),
    (_QAT % "rules: [{path: '*', enabled: false}]",
     'task.quantization.rules[0]: switches quantization off in every layer'),
    ('trainer: {optimizer_config: {learning_rate: {type: cosine, cosine: '
     '{initial_learning_rate: 0.1}}}}',
     'cosine.decay_steps: must be set with type: cosine, received null'),
    ('trainer: {optimizer_config: {learning_rate: {type: stepwise, stepwise: '
     '{boundaries: [5, 10], values: [0.1, 0.1]}}}}',
     'values: must have one more element than boundaries (2), received 2'),
    ('task: {validation_data: {is_training: true}}',
     'task.validation_data.is_training: must be false'),
    # Places outside of the run directory.
    ('trainer: {best_checkpoint_export_subdir: ../../x}',
     'must name a directory below the run directory'),
    ('trainer: {best_checkpoint_export_subdir: /tmp/x}', 'below the run'),
    ('trainer: {best_checkpoint_export_subdir: ..}', 'below the run'),
    ('trainer: {validation_summary_subdir: a/../../b}', 'below the run'),
    ("trainer: {validation_summary_subdir: 'gs://b/x'}", 'below the run'),
    # YAML that means something else.
    ('trainer: {train_steps: 5}\ntrainer: {train_steps: 6}',
     "'trainer' is there twice, first in line 1"),
    ('runtime: {distribution_strategy: off}',
     "expected str, received False (bool); a text is quoted: 'off'"),
    ('task: {imports: [on, a]}',
     "imports[0]: expected str, received True (bool); a text is quoted: 'on'"),
    ("task: {model: {add_head_batch_norm: 'off'}}",
     'without quotes it is a bool: off'),
    ('task: {pruning: off}', 'null switches it off, and {} on'),
    ('trainer: {train_steps: off}', 'YAML reads off as False'),
    ('task: {model: {backbone: {type: on}}}', 'True is not a choice; one of'),
    ('trainer: {train_steps: 0x10}', '0x10 is 16 to YAML; write that'),
    ('trainer: {train_steps: 0100}', '0100 is 64 to YAML; write that'),
    ('task: {train_data: {tfds_name: 1:30}}', '1:30 is 90 to YAML'),
    ('1: 2', "names of fields are texts, and '1' is read as 1; quote it"),
    ('on: 2', "'on' is read as True; quote it"),
    ('a: !!python/object/apply:os.system [ls]', 'is not taken'),
    ('trainer: {train_steps: 1} extra', 'not valid YAML'),
    ('a: 1\n---\nb: 2', 'a second document begins'),
    ('a: *b', "there is no anchor 'b'"),
    ('task: {train_data: {input_path: [[a]]}}',
     "input_path[0]: expected str, received ['a'] (list)"),
    ('task: {train_data: {input_path: "a\\0b"}}', 'a character that no text'),
])
def test_it_is_told(text, expected, tmp_path):
  experiment = {'quantization': 'mobilenet_v2_qat',
                'pruning': 'mobilenet_v2_pruning'}.get(
                    text.partition('task: {')[2].partition(':')[0],
                    'mobilenet_v2')
  try:
    problems = _problems(text, experiment, directory=tmp_path)
  except errors.UsageError as e:
    problems = [str(e).removeprefix(f'{tmp_path}/')]
  assert any(expected in problem for problem in problems), problems
  assert all(problem.startswith('c.yaml:') for problem in problems)
  assert len(problems) == 1, 'one mistake is told once'


@pytest.mark.parametrize(('content', 'expected'), [
    ('a: ä'.encode('latin-1'), 'c.yaml:1: is not UTF-8 (byte 0xe4); save it'),
    ('a: b'.encode('utf-16'), 'is UTF-16 or UTF-32; save it as UTF-8'),
    (bytes(range(256)) * 8, 'not '),
    (b'a: ' + b'[' * 100_000, 'nested more than 40 levels'),
    (b'a: ' + b'{a: ' * 5_000, 'nested more than 40 levels'),
    (b'- ' * 3_000, 'nested more than 40 levels'),
    (b'a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n' + b''.join(
        b'%c: &%c [%s]\n' % (n + 1, n + 1, b', '.join([b'*%c' % n] * 10))
        for n in range(97, 109)), 'more than 100,000 values with its aliases'),
    (b'a: &a [*a]', "there is no anchor 'a'"),
    (b'a: ' + b'x' * 10_000_000, 'more than 1,048,576 bytes'),
    (b'trainer: {train_steps: ' + b'x' * 500_000 + b'}', '... (500,002 char'),
    (b'trainer: {train_steps: ' + b'9' * 5_000 + b'}', '4300 digits|of type'),
    (b'\t- a', 'indentation takes spaces')])
def test_what_is_no_configuration_gets_one_short_line_at_once(
    content, expected, tmp_path):
  (tmp_path / 'c.yaml').write_bytes(content)
  start = time.perf_counter()
  try:
    found = resolving.resolve(
        stored.experiment('mobilenet_v2'),
        resolving.read([str(tmp_path / 'c.yaml')]))
    message = resolving.message(found.problems)
  except errors.UsageError as e:
    message = str(e)
  assert time.perf_counter() - start < 1.0
  assert any(part in message for part in expected.split('|')), message
  assert '\n' not in message and len(message) < 400


def test_an_utf_8_byte_order_mark_is_no_error(tmp_path):
  text = '\ufefftrainer: {train_steps: 5000}'
  assert not _problems(text, directory=tmp_path)


def test_a_wrong_field_hides_nothing_and_makes_nothing_else_wrong(tmp_path):
  """The rest of its file counts: no second error from a dropped source."""
  problems = _problems("""
task:
  pruning: {end_step: 400, initial_sparsity: 1.5, final_sparsity: 0.6}
trainer:
  train_step: 7
  train_steps: 500
  optimizer_config: {warmup: {type: null}}
""", 'mobilenet_v2_pruning', directory=tmp_path)
  assert problems == [
      'c.yaml:3:46: task.pruning.initial_sparsity: must lie in [0, 1), '
      'received 1.5', problems[1]]
  assert problems[1].startswith('c.yaml:5:15: trainer.train_step: no such '
                                "field; did you mean 'train_steps'?")


def test_all_files_that_cannot_be_read_are_told(tmp_path):
  (tmp_path / 'a.yaml').write_text('a: [')
  with pytest.raises(errors.UsageError) as e:
    resolving.read([str(tmp_path / 'a.yaml'), 'none.yaml'], 'a')
  lines = str(e.value).splitlines()
  assert len(lines) == 3 and 'not valid YAML' in lines[0]
  assert "there is no file 'none.yaml'" in lines[1]
