"""Embedded data sets are the same bytes whenever they are built."""

from modelgarden_opt.data import embedded


def test_the_same_bytes_every_time(tmp_path):
  def built(name):
    embedded.build('digits', str(tmp_path / name))
    return {path.name: path.read_bytes()
            for path in (tmp_path / name).iterdir()}

  one = built('one')
  assert sum(name.endswith('.tfrecord') for name in one) > 2
  assert built('two') == one
