"""Two replicas train the ranges and channels that one does."""

import pytest

from tests.training import equivalence


@pytest.mark.parametrize('technique', equivalence.OF_RANGES)
def test_two_replicas_are_one(technique, trained):
  equivalence.assert_like_one(technique, trained(technique, 2)[0], trained)
