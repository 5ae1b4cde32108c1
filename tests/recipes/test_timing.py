"""Steps are timed with the model and the batch that a recipe names."""

import time

from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.recipes import timing


def test_a_step_takes_time():
  start = time.perf_counter()
  seconds = timing.seconds_per_step('mnist_cnn', {
      'model': {'input_size': [16, 16, 3]},
      'train_data': {'global_batch_size': 4}}, 3)
  assert 0 < seconds < time.perf_counter() - start
