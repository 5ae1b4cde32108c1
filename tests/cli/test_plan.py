"""`plan` lists every kernel and its size without training."""

import json

import pytest

from modelgarden_opt.cli import main


def _plan(tiny_yaml, tmp_path, override, experiment='mobilenet_v2_pruning'):
  path = tmp_path / 'plan.json'
  code = main.main([
      'plan', f'--experiment={experiment}', f'--config_file={tiny_yaml}',
      f'--params_override={override}', f'--output_json={path}'])
  return code, path.exists() and json.loads(path.read_text())['kernels']


def test_every_kernel_its_zeros_and_why_it_is_left_dense(
    tiny_yaml, tmp_path, capsys):
  code, kernels = _plan(
      tiny_yaml, tmp_path, 'task: {pruning: {end_step: 100, final_sparsity: '
      '0.75, rules: [{path: dense_0, enabled: false}]}}')
  assert code == 0 and len(kernels) == 11
  pruned = [k for k in kernels if k['sparsity']]
  assert len(pruned) == 7
  reasons = {k['path']: k['reason'] for k in kernels if not k['sparsity']}
  assert reasons.pop('dense_0') == 'a rule leaves it dense'
  assert set(reasons.values()) == {
      'policy default leaves depthwise kernels dense'}
  for kernel in pruned:
    assert kernel['sparse_bytes'] < kernel['dense_bytes']
  out = capsys.readouterr().out
  assert 'expected size of the kernels' in out and '11 kernels' in out


def test_quantization_is_planned_as_well(tiny_yaml, tmp_path):
  code, kernels = _plan(
      tiny_yaml, tmp_path, 'task: {quantization: {rules: [{path: dense_0, '
      'enabled: false}]}}', 'mobilenet_v2_qat')
  assert code == 0
  assert {k['path']: k['num_bits'] for k in kernels}['dense_0'] is None
  assert sum(k['num_bits'] == 8 for k in kernels) == 10


def test_nothing_to_plan_is_told(tiny_yaml, tmp_path, capsys):
  code, _ = _plan(tiny_yaml, tmp_path, 'trainer: {train_steps: 9}',
                  'mobilenet_v2')
  assert code == 2 and 'nothing to plan' in capsys.readouterr().err


def test_a_plan_is_a_page_too(tiny_yaml, tmp_path):
  page = tmp_path / 'plan.html'
  code = main.main([
      'plan', '--experiment=mobilenet_v2_pruning',
      f'--config_file={tiny_yaml}', f'--output_html={page}',
      '--params_override=task: {pruning: {end_step: 100, final_sparsity: 0.75}}'
  ])
  text = page.read_text()
  assert code == 0 and '<h1>Plan of mobilenet_v2_pruning</h1>' in text
  assert '75.0 %</td>' in text and 'backbone/conv2dbn_block_0/conv0' in text
  assert 'policy default leaves depthwise kernels dense' in text


@pytest.mark.parametrize('model, zeros, reason', [
    ('padding: symmetric', 'final_sparsity: 0.8', ''),
    ('input_size: [33, 33, 3]', 'final_sparsity: 0.8', ''),
    ('padding: same', 'final_sparsity: 0.8', 'has SAME padding with a stride'),
    ('padding: symmetric', 'final_sparsity: 0.6', 'two thirds or fewer'),
    ('padding: symmetric', 'sparsity_m_by_n: [3, 4]', '')])
def test_sparse_inference_is_planned(
    model, zeros, reason, tiny_yaml, tmp_path, capsys):
  path = tmp_path / 'plan.json'
  assert main.main([
      'plan', '--experiment=mobilenet_v2_pruning',
      f'--config_file={tiny_yaml}', f'--output_json={path}',
      f'--params_override=task: {{model: {{{model}}}, '
      f'pruning: {{end_step: 9, {zeros}}}}}']) == 0
  found = json.loads(path.read_text())['sparse_inference']
  assert found['eligible'] == (not reason)
  assert all(reason in line for line in found['reasons'][:1])
  verdict = 'no' if reason else 'yes'
  assert f'sparse inference on Arm: {verdict}' in capsys.readouterr().out


def test_zeros_of_a_checkpoint_are_not_foretold(tiny_yaml, tmp_path):
  path = tmp_path / 'plan.json'
  assert main.main([
      'plan', '--experiment=mobilenet_v2_pruning',
      f'--config_file={tiny_yaml}', f'--output_json={path}',
      '--params_override=task: {pruning: {pruning_schedule: Preserve, '
      'pretrained_original_checkpoint: somewhere}}']) == 0
  assert json.loads(path.read_text())['sparse_inference'] is None
