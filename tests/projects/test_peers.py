"""Our files and the peer's are compared on the same images."""

import numpy as np

from modelgarden_opt import files
from projects.fashion_mnist import peers

_N = 1003  # Not a multiple of eight: bits are padded.


def test_points_are_those_of_the_same_images(tmp_path):
  labels = np.arange(_N) % 10
  ours, theirs = labels.copy(), np.ones(_N, bool)
  ours[:50] += 1
  theirs[:20], theirs[100:160] = False, False
  (tmp_path / 'files').mkdir()
  np.savez(tmp_path / 'files' / 'zeros90_seed2_predictions.npz', labels=labels,
           models=['runs/zeros90_seed2_int8.tflite'], classes=[ours])
  peer = tmp_path / 'peer'
  peer.mkdir()
  right = np.packbits(theirs).tobytes().hex()
  files.write_json(str(peer / 'evaluation.json'), {'results': [
      {'model': 'runs/float32.tflite', 'right': right},  # We have none.
      {'model': 'runs/int8.tflite', 'right': right}]})
  row, = peers.rows(str(tmp_path), 'zeros90_seed2', str(peer))
  assert row['format'] == 'int8' and row['n'] == _N
  assert row['ours'] == round(1 - 50 / _N, 4)
  assert row['theirs'] == round(1 - 80 / _N, 4)
  assert row['difference'] == round(30 / _N, 5)
  # 30 are ours alone to get wrong, 60 theirs.
  expected = 1.96 * (90 / _N) ** 0.5 / _N ** 0.5
  assert abs(row['difference_high'] - row['difference'] - expected) < 1e-3
