"""What keeping replicas equal costs a training step.

    python -m projects.model_garden_bench.replicas --technique=qat

Two replicas on two logical CPUs take steps with and without what makes them
agree, interleaved; printed is the ratio of the times. For `qat` that is the
maximum over replicas of every activation range; for `pruning` and `clustering`
it is bringing every replica's kernels into form at the end of the step, the
masks and tables included.
"""

import argparse
import contextlib
from unittest import mock

from official.core import task_factory
import tensorflow as tf
import tf_keras

from modelgarden_opt import ratios
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.benchmark import training
from modelgarden_opt.compression import replicas
from modelgarden_opt.configs import overrides
from modelgarden_opt.modeling import constraints
from modelgarden_opt.training import strategies
from projects.scaling import measure as scaling

_REPLICAS = 2
# Technique -> the function of `replicas` without which they would not agree,
# and one that does nothing in its place.
_AGREEING = {
    'qat': ('largest', lambda values: values),
    'pruning': ('update', lambda variables, change: None),
    'clustering': ('update', lambda variables, change: None),
}


def make_step(experiment: str, image_size: int, batch_size: int):
  """Returns a call that takes one step of all replicas; it is traced already.

  Args:
    experiment: Name of an experiment.
    image_size: Side of the images in pixels.
    batch_size: Images of each replica.
  """
  config = overrides.base(experiment)
  config.task.model.input_size = [image_size, image_size, 3]
  strategy = tf.distribute.get_strategy()
  task = task_factory.get_task(config.task)
  model = task.build_model()
  constraints.start(constraints.find(model))
  optimizer = tf_keras.optimizers.legacy.SGD(1e-4)
  images = tf.random.stateless_normal(
      [batch_size, image_size, image_size, 3], seed=(1, 2))
  labels = tf.zeros([batch_size], tf.int32)

  @tf.function
  def step():
    return strategy.run(lambda: task.train_step(
        (images, labels), model, optimizer)[task.loss])

  def call():
    for loss in strategy.experimental_local_results(step()):
      loss.numpy()

  call()
  return call


def measure(
    experiment: str, technique: str, image_size: int, batch_size: int,
    rounds: int) -> dict[str, list[float]]:
  """Returns the seconds of steps of replicas that agree and of others."""
  strategies.make_logical_cpus(_REPLICAS)
  strategy = tf.distribute.MirroredStrategy(
      [f'CPU:{index}' for index in range(_REPLICAS)])
  function, nothing = _AGREEING[technique]
  calls = {}
  with strategy.scope():
    for name, context in (
        ('joined', contextlib.nullcontext()),
        ('apart', mock.patch.object(replicas, function, nothing))):
      with context:
        calls[name] = make_step(experiment, image_size, batch_size)
  return training.in_turn(calls, rounds)


def main() -> None:
  """Measures one family."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--family', default='mobilenet_v2')
  parser.add_argument('--technique', default='qat', choices=_AGREEING)
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch_size', type=int, default=8,
                      help='images of each replica')
  parser.add_argument('--rounds', type=int, default=30)
  parser.add_argument('--keep', action='store_true',
                      help='write the ratio to docs/scaling.md')
  args = parser.parse_args()
  experiment = f'{args.family}_{args.technique}'
  seconds = measure(experiment, args.technique, args.image_size,
                    args.batch_size, args.rounds)
  case = (f'{experiment}, {args.image_size} pixels, 2 x {args.batch_size} '
          'images')
  print(f'{case}, {args.rounds} rounds: {ratios.paired(*seconds.values())}')
  if args.keep:
    scaling.write_steps(scaling.REPLICAS, case, seconds)


if __name__ == '__main__':
  main()
