"""`init` writes files that `run` and `train` take as they are."""

import pytest
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.cli import run
from modelgarden_opt.configs import overrides
from modelgarden_opt.recipes import goals
from modelgarden_opt.recipes import questions
from modelgarden_opt.recipes import timing
from tests import without_tensorflow


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
  """An empty current directory, and a machine of known speed."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(timing, 'seconds_per_step', lambda *_: 0.1)
  return tmp_path


@pytest.mark.parametrize('goal, experiments', [
    ('accuracy', ['mobilenet_v2', 'mobilenet_v2_qat']),
    ('latency', ['mobilenet_v2', 'mobilenet_v2_pruning', 'mobilenet_v2_qat']),
    ('size', ['mobilenet_v2', 'mobilenet_v2_pruning',
              'mobilenet_v2_clustering', 'mobilenet_v2_pcqat'])])
def test_a_pipeline_for_every_goal_resolves(goal, experiments, here, capsys):
  assert main.main(['init', '--data=digits', f'--goal={goal}']) == 0
  pipeline, configs = run.load_with_configs('digits_mobilenet_v2.yaml')
  assert [t.experiment for t in pipeline.trainings] == experiments
  for config in configs.values():
    assert config.task.model.num_classes == 10
    assert config.task.train_data.embedded_name == 'digits'
    assert not config.task.train_data.aug_rand_hflip  # Digits in a mirror.
    assert config.task.validation_data.aug_crop is False
    steps = config.trainer.train_steps
    schedule = config.trainer.optimizer_config.learning_rate.cosine
    assert schedule.decay_steps == steps
    assert steps % config.trainer.validation_interval == 0
  assert 'next: modelgarden-opt run --config_file=digits_mobilenet_v2.yaml' in (
      capsys.readouterr().out)


def test_a_run_for_train_resolves(here):
  assert main.main(['init', '--data=digits', '--kind=run', '--model=resnet18',
                    '--width=0.25', '--budget=40e', '--output=r.yaml']) == 0
  config = overrides.resolve('resnet18', ['r.yaml'])
  assert config.task.model.backbone.resnet.depth_multiplier == 0.25
  # 40 epochs of 1,257 images in batches of 32 are 1,571 steps.
  assert config.trainer.train_steps == 1600


@pytest.mark.parametrize('model, field', [
    ('mobilenet_v4_conv_small', {'mobilenet': {'filter_size_scale': 0.35}}),
    ('resnet50', {'resnet': {'depth_multiplier': 0.35}}),
    ('efficientnet_b0', None)])
def test_the_width_is_that_of_the_backbone(model, field, here):
  assert main.main(
      ['init', '--data=digits', f'--model={model}', '--output=w.yaml']) == 0
  values = yaml.safe_load((here / 'w.yaml').read_text())
  assert values['all']['task']['model'].get('backbone') == field
  assert run.load('w.yaml').trainings


def test_a_segmentation_data_set_gets_a_segmentation_model(here):
  assert main.main(['init', '--data=digits_scenes', '--output=s.yaml']) == 0
  pipeline, configs = run.load_with_configs('s.yaml')
  assert pipeline.trainings[0].experiment == 'deeplabv3_mobilenet_v2'
  assert configs['float'].task.model.num_classes == 11


def test_integer_devices_get_integer_files(here):
  assert main.main(['init', '--data=digits', '--device=microcontroller']) == 0
  values = yaml.safe_load((here / 'digits_mobilenet_v1.yaml').read_text())
  assert values['export'] == {'io_dtype': 'int8'}


def test_shipped_files_are_copied(here, capsys):
  assert main.main(['init', '--from=digits_resnet18_qat']) == 0
  copied = (here / 'digits_resnet18_qat.yaml').read_text()
  assert copied.startswith('# modelgarden-opt train --experiment=resnet18_qat')
  assert main.main(['init', '--from=list']) == 0
  assert 'pipelines/digits_qat' in capsys.readouterr().out


@pytest.mark.parametrize('flags, message', [
    ([], 'data: expected a directory'),
    (['--data=digit'], "did you mean 'digits'?"),
    (['--data=digits', '--goal=sise'], "did you mean 'size'?"),
    (['--data=digits', '--device=fone'], "did you mean 'phone'?"),
    (['--data=digits', '--model=resnet19'], "did you mean 'resnet1"),
    (['--data=digits', '--model=deeplabv3_resnet50'], 'not for image class'),
    (['--data=digits', '--model=efficientnet_b0', '--width=0.5'],
     "width: 'efficientnet_b0' has no width multiplier, received 0.5"),
    (['--data=digits', '--budget=soon'], "budget: expected minutes ('30m')"),
    (['--data=digits', '--width=-1'], 'width: must lie in 0.05 to 4'),
    (['--data=digits', '--image_size=100'], 'the nearest is 96'),
    (['--from=digits_resnet19'], 'no YAML file'),
    (['--from=digits_resnet18', '--data=digits'], 'data cannot be given'),
])
def test_mistakes_are_one_message_and_write_nothing(
    flags, message, here, capsys):
  assert main.main(['init', *flags]) == 2
  assert message in capsys.readouterr().err
  assert not list(here.iterdir())


def test_a_file_that_is_there_is_kept(here):
  path = here / 'd.yaml'
  path.write_text('mine')
  # Told before a step of training is timed.
  done = without_tensorflow.run(['init', '--data=digits', f'--output={path}'])
  assert done.returncode == 2 and 'is there already' in done.stderr
  assert path.read_text() == 'mine'


def test_questions_are_asked_until_answered():
  answers = iter(['', 'sise', 'size'])
  lines = []
  assert questions.ask(
      'goal', {name: g.description for name, g in goals.GOALS.items()}, '',
      read=lambda prompt: next(answers), write=lines.append) == 'size'
  assert sum('expected one of: accuracy' in line for line in lines) == 2
  assert questions.ask('goal', {'a': ''}, 'a', read=lambda _: '',
                       write=lines.append) == 'a'


@pytest.mark.parametrize(('directory', 'called'), [
    ('data', '2 classes'), ('flowers', 'flowers'),
    ('flowers/../cats/.', 'cats')])
def test_a_report_is_called_after_what_the_data_are(directory, called, here):
  from PIL import Image
  for name in ('a', 'b'):
    (here / 'source' / name).mkdir(parents=True)
    for shade in range(10):
      Image.new('RGB', (40, 40), (25 * shade, 99, ord(name))).save(
          here / 'source' / name / f'{shade}.png')
  (here / 'flowers').mkdir()  # On the way to others.
  target = (here / directory).resolve()
  assert main.main(['data', 'import', '--source=source',
                    f'--output_dir={target}']) == 0
  assert main.main(['init', f'--data={directory}', '--budget=1e',
                    '--output=p.yaml']) == 0
  assert yaml.safe_load((here / 'p.yaml').read_text())['report']['title'] == (
      f'mobilenet_v2 on {called}')
