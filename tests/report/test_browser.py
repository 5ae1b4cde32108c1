"""The page in headless Chromium: no errors, and it does what it offers."""

import pytest

from scripts import photograph
from tests.report import conftest
from tests.report import test_page

pytestmark = pytest.mark.skipif(
    photograph.program() is None,
    reason='no Chromium: apt-get install chromium')
_NAMES = ("[...document.querySelectorAll('#variants tbody tr')]"
          ".filter(r => !r.hidden).map(r => r.dataset.key)")


@pytest.fixture(scope='module')
def path(runs_dir, tmp_path_factory):
  path = tmp_path_factory.mktemp('page') / 'report.html'
  path.write_text(test_page.page_of(runs_dir))
  return str(path)


@pytest.fixture(scope='module')
def started():
  with photograph.Browser() as browser:
    yield browser


@pytest.fixture
def browser(started, path):
  started.script(True)
  started.size(1440)
  started.scheme('light')
  started.messages.clear()
  started.requests.clear()
  started.open(path)
  yield started
  assert started.messages == []
  assert [r for r in started.requests
          if not r.startswith(('file:', 'data:', 'about:'))] == []


def _press(browser, title):
  browser.run(
      "[...document.querySelectorAll('#variants thead button')].find("
      f"b => b.textContent === '{title}').click()")


def test_columns_are_sorted_by_a_button(browser):
  given = [name for name, *_ in conftest.VARIANTS]
  assert browser.run(_NAMES) == given
  _press(browser, 'zipped KiB')  # Numbers begin with the largest.
  assert browser.run(_NAMES) == [
      'float_float32', 'prune_float32', 'float_int8', 'qat_int8']
  _press(browser, 'zipped KiB')
  assert browser.run(_NAMES) == [
      'qat_int8', 'float_int8', 'prune_float32', 'float_float32']
  assert browser.run(
      "document.querySelector('#variants th[aria-sort]').ariaSort") == (
          'ascending')
  _press(browser, 'points')  # The first one has none: it comes last.
  assert browser.run(_NAMES)[0] == 'qat_int8'
  assert browser.run(_NAMES)[-1] == 'float_float32'
  _press(browser, 'variant')
  assert browser.run(_NAMES) == sorted(given)


def test_rows_and_markers_are_filtered_together(browser):
  browser.run("""{
    const box = document.querySelector('#variants input[type=search]');
    box.value = 'int8';
    box.dispatchEvent(new Event('input', {bubbles: true}));
  }""")
  assert browser.run(_NAMES) == ['float_int8', 'qat_int8']
  faint = "[...document.querySelectorAll('.point.faint')].map(p=>p.dataset.key)"
  assert set(browser.run(faint)) == {'float_float32', 'prune_float32'}
  browser.run("document.querySelector('#variants input[value=qat]').click()")
  assert browser.run(_NAMES) == ['float_int8']
  assert browser.run(
      "document.querySelector('#variants .count').textContent") == (
          '1 of 4 shown')


def test_a_marker_tells_its_variant_and_leads_to_its_commands(browser):
  browser.run("""{
    const point = document.querySelector('.point[data-key=qat_int8]');
    point.dispatchEvent(new MouseEvent('mouseenter'));
  }""")
  assert browser.run("document.querySelector('.tip').hidden") is False
  assert browser.run(
      "document.querySelector('.tip').textContent").startswith('qat_int8')
  assert browser.run(
      "document.querySelectorAll('tr.hot[data-key=qat_int8]').length") == 1
  anchor = browser.run("document.querySelector("
                       "'.point[data-key=prune_float32]').getAttribute('href')")
  assert browser.run(f"document.querySelector('{anchor}').open") is False
  browser.run(f"location.hash = '{anchor}'")
  browser.run('new Promise(done => setTimeout(done, 100))')
  assert browser.run(f"document.querySelector('{anchor}').open") is True


@pytest.mark.parametrize('width', [390, 1440])
@pytest.mark.parametrize('scheme, dark', [('light', False), ('dark', True)])
def test_it_fits_phones_and_desktops_in_light_and_dark(
    browser, path, width, scheme, dark, tmp_path):
  browser.size(width, phone=width == 390)
  browser.scheme(scheme)
  browser.open(path)
  assert browser.run('document.documentElement.scrollWidth') <= width
  red = browser.run('getComputedStyle(document.body).backgroundColor')
  assert (int(red.removeprefix('rgb(').split(',')[0]) < 128) == dark
  browser.picture(str(tmp_path / 'page.png'))
  content = (tmp_path / 'page.png').read_bytes()
  assert content.startswith(b'\x89PNG') and len(content) > 20_000


def test_without_its_script_it_can_be_read(browser, path):
  browser.script(False)
  browser.open(path)
  shown = browser.call('DOMSnapshot.captureSnapshot', computedStyles=[])
  strings = shown['strings']
  assert 'dominated' in strings
  assert any('is the smallest file within' in s for s in strings)
  # What only the script can do is not offered.
  assert 'Copy' not in strings and '4 of 4 shown' not in strings


def test_everything_can_be_reached_by_keyboard(browser):
  reached = browser.run("""(() => {
    const found = [...document.querySelectorAll(
        'a[href], button, input, summary, [tabindex]')];
    return found.filter(e => e.tabIndex < 0).length;
  })()""")
  assert reached == 0
  browser.run("document.querySelector('.point').focus()")
  assert browser.run("document.querySelector('.tip').hidden") is False
