"""Numbers of a recipe follow from the data and the budget."""

import pytest

from modelgarden_opt import errors
from modelgarden_opt.recipes import recipe


@pytest.mark.parametrize('text, value, unit', [
    ('30m', 30, 'm'), ('1.5 minutes', 1.5, 'm'), ('20e', 20, 'e'),
    ('20epochs', 20, 'e'), ('1h', 60, 'm'), ('1.5 hours', 90, 'm')])
def test_a_budget_is_in_minutes_hours_or_epochs(text, value, unit):
  assert recipe.Budget.parse(text) == recipe.Budget(value, unit)


@pytest.mark.parametrize(
    'text', ['', '30', '0m', '-3e', '3 days', 'm', '3monkeys'])
def test_what_is_no_budget_is_refused(text):
  with pytest.raises(errors.UsageError, match='budget: expected minutes'):
    recipe.Budget.parse(text)


@pytest.mark.parametrize('of_images, side', [
    (8, 64), (28, 64), (32, 64), (70, 64), (128, 128), (500, 224)])
def test_the_input_suits_the_images_and_the_models(of_images, side):
  assert recipe.image_size(of_images) == side


@pytest.mark.parametrize('num_images, size', [
    (1, 16), (600, 16), (1257, 32), (3000, 128), (60000, 128)])
def test_small_data_sets_have_small_batches(num_images, size):
  assert recipe.batch_size(num_images) == size


def test_epochs_give_steps():
  numbers = recipe.derive(60000, 64, 2, recipe.Budget(10, 'e'))
  assert numbers.float_steps == 4700  # 10 * 60,000 / 128 = 4,687
  assert numbers.fine_tuning_steps == 1200
  assert numbers.minutes is None


def test_minutes_are_those_of_all_trainings():
  numbers = recipe.derive(
      60000, 64, 2, recipe.Budget(30, 'm'), seconds_per_step=0.1)
  assert numbers.minutes == pytest.approx(30, rel=0.05)
  assert numbers.float_steps > 3 * numbers.fine_tuning_steps


def test_a_budget_too_small_says_what_it_takes():
  numbers = recipe.derive(
      60000, 64, 1, recipe.Budget(1, 'm'), seconds_per_step=2.0)
  assert (numbers.float_steps, numbers.fine_tuning_steps) == (200, 100)
  assert numbers.minutes == pytest.approx(300 * 2 / 60 / 0.85)


@pytest.mark.parametrize('steps', [200, 1000, 4000])
def test_statistics_of_initialization_are_forgotten_early(steps):
  assert recipe.momentum(steps) ** (steps / 5) < 0.02
