"""`modelgarden-opt predict`: a `.tflite` file on one's own picture."""

import argparse
import os

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--tflite', required=True, metavar='PATH')
  parser.add_argument('--image', required=True, metavar='PATH')
  parser.add_argument('--output', metavar='PNG',
                      help='the picture with its classes in colour '
                      '(segmentation; default: overlay.png)')
  parser.add_argument('--top_k', type=int, default=5,
                      help='length of the list (classification)')


def run(args: argparse.Namespace) -> None:
  """Prints the classes; writes the overlay of a segmentation."""
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  import numpy as np
  from PIL import Image

  from modelgarden_opt.evaluation import predict
  if args.top_k < 1:
    raise errors.UsageError(f'top_k: must be >= 1, received {args.top_k}')
  found = predict.predict(args.tflite, args.image, args.top_k)
  if found.labels is None:
    for rank, (index, probability) in enumerate(found.ranking, 1):
      print(f'{rank}. class {index}: {probability:.1%}')
    return
  numbers, counts = np.unique(found.labels, return_counts=True)
  for number, count in zip(numbers, counts):
    print(f'class {number}: {count / found.labels.size:.1%} of the pixels')
  output = args.output or 'overlay.png'
  os.makedirs(os.path.dirname(output) or '.', exist_ok=True)
  Image.fromarray(predict.overlay(found)).save(output)
  print(f'{output}: the picture with its classes in colour')
