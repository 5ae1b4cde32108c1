"""Times the sensitivity analysis of a model with random weights.

    python scripts/time_analysis.py --model=mobilenet_v2 --size=224 --images=512
"""

import argparse
import dataclasses
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir))

import numpy as np
from official.core import task_factory

from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.analysis import sensitivity
from modelgarden_opt.analysis import study as study_lib
from modelgarden_opt.analysis import subject
from modelgarden_opt.analysis import treatments
from modelgarden_opt.configs import overrides
from modelgarden_opt.export import ptq
from modelgarden_opt.tasks import run_directory


@dataclasses.dataclass(frozen=True)
class _Random(subject.Subject):
  """A model without a run directory, with images of noise."""
  noise: np.ndarray
  labels: np.ndarray

  def images(self, split, number):
    return self.noise, self.labels

  def identity(self, split, number):
    return {}


def main() -> None:
  """Prints seconds until the first measurement, and of all of them."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--model', default='mobilenet_v2')
  parser.add_argument('--size', type=int, default=224)
  parser.add_argument('--images', type=int, default=512)
  parser.add_argument('--treatment', action='append')
  args = parser.parse_args()
  params = overrides.resolve(
      f'{args.model}_qat', params_override=f'task.model.input_size='
      f'[{args.size},{args.size},3]')
  started = time.perf_counter()
  task = task_factory.get_task(params.task)
  run = run_directory.Run('', params, task, task.build_model(), '')
  rng = np.random.default_rng(0)
  images = rng.normal(size=[args.images, args.size, args.size, 3]).astype(
      np.float32)
  ptq.calibrate(run.model, params.task.quantization,
                lambda: iter(images[:32, np.newaxis]))
  labels = rng.integers(0, 10, args.images)
  study = study_lib.Study(
      _Random(run, False, None, images, labels), 'validation', args.images)
  ready = time.perf_counter()
  measured = sensitivity.of_study(study, sensitivity.Options(
      treatments=tuple(map(treatments.parse, args.treatment or (
          'quantization:4',))), all_but_one=False, num_images=args.images))
  ended = time.perf_counter()
  print(f'{args.model}, {args.size} pixels, {args.images} images: '
        f'{len(study.probe.kernels)} kernels, {len(measured.records)} '
        f'measurements; {ready - started:.1f} s until the first one, '
        f'{ended - ready:.1f} s for all, {ended - started:.1f} s together')


if __name__ == '__main__':
  main()
