"""A technique is one folder, one configuration class, and one entry.

A toy technique that no other file knows is registered in a process of its own;
its block is read from YAML, its transform joins the chain of every kernel, a
checkpoint without its variables loads, and a run trains and exports with it.
"""

import os
import subprocess
import sys
import textwrap

from tests import conftest

_TOY = textwrap.dedent('''
    import dataclasses

    from official.modeling import hyperparams
    import tensorflow as tf

    from modelgarden_opt.compression import rules
    from modelgarden_opt.compression import transforms
    from modelgarden_opt.configs import block
    from modelgarden_opt.configs.schema import fields


    @dataclasses.dataclass
    class Damping(block.Block):
      """Scales every kernel.

      Attributes:
        scale: By this factor.
      """
      scale: float = fields.field(1.0, range='> 0')


    class Scale(transforms.KernelTransform):
      technique = 'damping'

      def __init__(self, scale):
        super().__init__()
        self._scale = scale

      def build(self, layer, kernel):
        self.factor = layer.add_weight(
            name='damping_factor', shape=(), trainable=False,
            initializer=tf.constant_initializer(self._scale))

      def __call__(self, kernel, training):
        return kernel * self.factor


    class Technique:
      name = 'damping'

      def __init__(self, config):
        self._scale = config.scale

      def transform(self, kernel):
        return Scale(self._scale)

      def enabled(self, path, layer_type):
        return True

      def assert_all_rules_matched(self):
        pass
    ''')

_SCRIPT = textwrap.dedent("""
    import sys

    from modelgarden_opt import techniques
    techniques.TECHNIQUES['damping'] = techniques.Technique(
        name='damping', block='toy:Damping', make='toy:Technique',
        variable_prefix='damping_', suffix='_damping', stage='damp')

    from tests import tiny
    from modelgarden_opt.cli import main
    import tensorflow as tf
    config, model_dir, source = sys.argv[1:]
    train = ['train', f'--config_file={config}', '--mode=train',
             '--experiment=mobilenet_v2_damping', f'--model_dir={model_dir}',
             '--params_override=task.damping.pretrained_original_checkpoint='
             f'{source},trainer.train_steps=2,task.damping.scale=']
    assert main.main(train[:-1] + [train[-1] + '-1.0']) == 2
    assert main.main(train[:-1] + [train[-1] + '0.5']) == 0
    names = [name for name, _ in tf.train.list_variables(
        tf.train.latest_checkpoint(model_dir)) if 'damping_factor' in name]
    assert len(names) >= 8, names
    assert main.main(['export', f'--model_dir={model_dir}', '--format=float32',
                      f'--output={model_dir}/model.tflite']) == 0
    assert main.main(['list']) == 0
    """)


def test_a_technique_needs_no_other_file(tiny_yaml, float_run, tmp_path):
  (tmp_path / 'toy.py').write_text(_TOY)
  result = subprocess.run(
      [sys.executable, '-c', _SCRIPT, tiny_yaml, str(tmp_path / 'run'),
       float_run],
      cwd=conftest.REPOSITORY, capture_output=True, text=True, check=False,
      env={**os.environ,
           'PYTHONPATH': f'{conftest.REPOSITORY}:{tmp_path}'})
  assert result.returncode == 0, result.stderr[-3000:]
  assert 'task.damping.scale: must be > 0, received -1.0' in result.stderr
  assert 'mobilenet_v2_damping' in result.stdout
