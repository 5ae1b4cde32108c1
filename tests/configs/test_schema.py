"""The schema is what the dataclasses and the Model Garden's code say."""

import subprocess
import sys

from official.modeling import tf_utils
from official.vision.modeling.backbones import efficientnet
from official.vision.modeling.backbones import mobiledet
from official.vision.modeling.backbones import mobilenet
from official.vision.modeling.backbones import resnet
from official.vision.modeling.backbones import resnet_deeplab
from official.vision.modeling.backbones import revnet
from official.vision.modeling.backbones import spinenet
from official.vision.modeling.backbones import spinenet_mobile
import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression.pruning import schedules
from modelgarden_opt.compression.quantization import observers
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import overrides
from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.configs.rules import every
from modelgarden_opt.configs.rules import pruning as pruning_rules
from modelgarden_opt.configs.schema import checking
from modelgarden_opt.configs.schema import fields
from modelgarden_opt.configs.schema import live
from modelgarden_opt.configs.schema import model_garden
from modelgarden_opt.configs.schema import ranges
from modelgarden_opt.configs.schema import stored
from modelgarden_opt.modeling.channel_pruning import costs

_TASKS = {'image_classification': 'mobilenet_v2',
          'semantic_segmentation': 'deeplabv3_mobilenet_v2'}


def _described(name):
  config = overrides.base(name)
  config.task.name = name
  return overrides.described(config)


def test_the_kept_schema_is_that_of_the_code():
  """In a process of its own: other tests register classes of users."""
  assert stored.fits(), 'run `make docs`'
  subprocess.run([sys.executable, 'scripts/render_schema.py', '--check'],
                 check=True)


def test_the_kept_experiments_are_all():
  assert all(stored.experiment(name) for name in catalog.EXPERIMENTS)


@pytest.mark.parametrize(('cls', 'specs'), [
    ('MobileNet', mobilenet.SUPPORTED_SPECS_MAP),
    ('MobileDet', mobiledet.SUPPORTED_SPECS_MAP),
    ('ResNet', resnet.RESNET_SPECS),
    ('DilatedResNet', resnet_deeplab.RESNET_SPECS),
    ('RevNet', revnet.REVNET_SPECS), ('SpineNet', spinenet.SCALING_MAP),
    ('SpineNetMobile', spinenet_mobile.SCALING_MAP),
    ('EfficientNet', efficientnet.SCALING_MAP)])
def test_names_of_models_are_those_of_the_model_garden(cls, specs):
  takes = model_garden.TAKES[cls]['model_id']
  assert {*takes.choices} <= specs.keys()
  # Names that tests add are known as soon as they are there.
  assert {*fields.Field(kinds=('str',), takes=takes).choices()} == {*specs}


@pytest.mark.parametrize(('cls', 'name', 'registry'), [
    (pruning_cfg.Pruning, 'pruning_schedule', schedules.SCHEDULES),
    (pruning_cfg.Pruning, 'target', costs.COSTS),
    (quantization_cfg.Quantization, 'calibration_method', observers.METHODS)])
def test_names_of_functions_are_those_that_are_registered(cls, name, registry):
  field = live.schema_of(cls()).blocks[live.name_of(cls)].fields[name]
  assert {*field.takes.choices} <= registry.keys()
  assert {*field.choices()} == {*registry}


@pytest.mark.parametrize('name', model_garden.ACTIVATIONS)
def test_activations_are_known_to_the_model_garden(name):
  assert callable(tf_utils.get_activation(name))


@pytest.mark.parametrize('name', model_garden.INITIALIZERS)
def test_initializers_are_known_to_keras(name):
  assert tf_keras.initializers.get(name)([3, 3]).shape == (3, 3)


@pytest.mark.parametrize('task', _TASKS)
def test_every_field_can_be_checked(task):
  schema, root = stored.schemas()[task]
  described = dict(checking.fields_of(schema, root))
  assert len(described) > 300
  for path, field in described.items():
    assert field.kinds, path
    if field.takes.range:
      ranges.parse(field.takes.range)
      kinds = {*field.kinds} | ({*field.element.kinds} if field.element else
                                set())
      assert kinds & {'int', 'float'}, path


@pytest.mark.parametrize('task', _TASKS)
def test_every_rule_reads_fields_that_there_are(task):
  schemas = stored.schemas()
  for rule in every.rules():
    for path in rule.reads:
      found = [_exists(schema, root, path)
               for schema, root in schemas.values()]
      assert any(found), path


def _exists(schema, root, path):
  try:
    fields.lookup(schema, root, path.split('.'))
  except KeyError:
    return False
  return True


def test_defaults_of_fields_that_one_granularity_reads_are_those_of_the_block():
  default = live.plain(pruning_cfg.Pruning())
  for name, value in (pruning_rules.OF_WEIGHTS
                      | pruning_rules.OF_CHANNELS).items():
    assert default[name] == value, name


@pytest.mark.parametrize(('text', 'inside', 'outside'), [
    ('[0, 1)', (0, 0.5), (-0.1, 1.0, float('nan'))),
    ('(0, 1]', (1.0, 1e-9), (0, 1.1)), ('>= 1', (1, 1e9), (0, -1)),
    ('> 0', (1e-9,), (0, -1)), ('2 to 8', (2, 8), (1, 9)),
    ('<= 0', (0, -1), (1,)), ('(0, inf]', (float('inf'),), (0,))])
def test_ranges(text, inside, outside):
  found = ranges.parse(text)
  assert all(value in found for value in inside)
  assert not any(value in found for value in outside)
  assert text in found.rule


def test_what_is_no_range_is_refused():
  with pytest.raises(ValueError, match='not a range'):
    ranges.parse('0..1')


def test_finish_checks_a_configuration_that_was_made_in_python():
  config = overrides.base('mobilenet_v2')
  config.task.name = 'mobilenet_v2'
  config.trainer.train_steps = 0
  with pytest.raises(errors.UsageError, match='trainer.train_steps: must be'):
    overrides.finish(config)
