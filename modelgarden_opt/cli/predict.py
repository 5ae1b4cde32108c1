"""`modelgarden-opt predict`: predictions of a `.tflite` file for an image."""

import argparse
import io
import os
import sys

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import config_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--tflite', required=True, metavar='PATH',
                      help='file to run')
  parser.add_argument('--image', required=True, metavar='PATH',
                      help='image file of any size, depth and mode')
  parser.add_argument('--labels', metavar='PATH',
                      help='class names, one per line (default: those in '
                      'the .tflite file, or labels.txt next to it)')
  parser.add_argument('--model_dir',
                      help='run directory whose preprocessing is used '
                      '(default: that of the file, if it is in one)')
  parser.add_argument('--center_crop_fraction', type=float,
                      help='central square to keep, as a fraction of the '
                      'shorter side; 0 keeps the whole image (classification)')
  parser.add_argument('--output', metavar='PNG',
                      help='image with the predicted classes in colour '
                      '(segmentation; default: overlay.png)')
  parser.add_argument('--top_k', type=int, default=5,
                      help='classes to list (classification; default: 5)')


def run(args: argparse.Namespace) -> None:
  """Prints the classes; writes the overlay of a segmentation."""
  _check(args)
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  import numpy as np
  from PIL import Image

  from modelgarden_opt.evaluation import predict
  found = predict.predict(
      args.tflite, args.image, args.top_k, _preprocessing(args))
  title = _titles(args, found)
  for note in found.notes:
    print(f'note: {note}', file=sys.stderr)
  if found.labels is None:
    for rank, (index, probability) in enumerate(found.ranking, 1):
      print(f'{rank}. {title(index)}: {probability:.1%}')
    return
  numbers, counts = np.unique(found.labels, return_counts=True)
  for number, count in zip(numbers, counts):
    print(f'{title(number)}: {count / found.labels.size:.1%} of the pixels')
  output = args.output or 'overlay.png'
  content = io.BytesIO()
  ending = os.path.splitext(output)[1].lower()
  Image.init()  # Fills the table of endings.
  Image.fromarray(predict.overlay(found)).save(
      content, Image.EXTENSION.get(ending, 'PNG'))
  files.write_atomically(output, content.getvalue())
  print(f'{output}: image with the predicted classes in colour')


def _check(args: argparse.Namespace) -> None:
  """Finds mistakes before TensorFlow is imported, which takes seconds."""
  config_flags.assert_files('tflite', [args.tflite])
  config_flags.assert_files('image', [args.image])
  if args.labels:
    config_flags.assert_files('labels', [args.labels])
  if args.top_k < 1:
    raise errors.UsageError(f'top_k: must be >= 1, received {args.top_k}')
  fraction = args.center_crop_fraction
  if fraction is not None and not 0.0 <= fraction <= 1.0:
    raise errors.UsageError(
        f'center_crop_fraction: must be in [0, 1], received {fraction}')


def _preprocessing(args: argparse.Namespace):
  """Returns what the flags say about preprocessing, None for nothing."""
  from modelgarden_opt.evaluation import predict  # pylint: disable=g-import-not-at-top
  if args.center_crop_fraction is not None:
    return predict.Preprocessing(args.center_crop_fraction or None)
  return predict.preprocessing_of(args.model_dir) if args.model_dir else None


def _titles(args: argparse.Namespace, found):
  """Returns a function from the number of a class to what is printed."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import label_map
  from modelgarden_opt.evaluation import predict
  names = (label_map.read(args.labels) if args.labels
           else label_map.labels_of(args.tflite))
  if names is None:
    return lambda index: f'class {index}'
  names = predict.name_classes(names, found)
  return lambda index: f'class {index} ({names[index]})'
