"""Opens an HTML page in headless Chromium: pictures of it for the documents.

    python scripts/photograph.py --page=runs/demo/report.html --output_dir=docs

Speaks the DevTools protocol over a pipe, so it needs nothing but the browser
(Debian: `apt-get install chromium`). Tests use `Browser` to press what a user
would press.
"""

import argparse
import base64
import fcntl
import io
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

from PIL import Image

_NAMES = ('chromium', 'chromium-browser', 'google-chrome')
# Width in pixels, and whether it is that of a phone.
_WIDTHS = ((390, True), (1440, False))
_SECONDS = 60
# The protocol wants its pipes to be 3 and 4.
_START = ('import os, sys; os.dup2(int(sys.argv[1]), 3); '
          'os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])')


def program() -> str | None:
  """Returns the path of the browser, None if there is none."""
  return next(filter(None, map(shutil.which, _NAMES)), None)


def _high(descriptor: int) -> int:
  """Returns a file descriptor that is neither 3 nor 4."""
  moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
  os.close(descriptor)
  return moved


class Browser:
  """One page in a headless browser; use it in a `with` statement.

  `messages` has what the page wrote to the console, errors of the page, and
  every address that it asked for.
  """

  def __init__(self):
    self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    to_read, self._out = map(_high, os.pipe())
    self._in, to_write = map(_high, os.pipe())
    self._process = subprocess.Popen(
        [sys.executable, '-c', _START, str(to_read), str(to_write), program(),
         '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars',
         '--remote-debugging-pipe', '--disable-dev-shm-usage',
         f'--user-data-dir={self._profile.name}', 'about:blank'],
        pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    os.close(to_read)
    os.close(to_write)
    self._numbers, self._buffer = itertools.count(1), b''
    self._session = None
    self.messages: list[str] = []
    self.requests: list[str] = []
    target = self.call('Target.createTarget', url='about:blank')['targetId']
    self._session = self.call(
        'Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.call(f'{domain}.enable')

  def __enter__(self):
    return self

  def __exit__(self, *_):
    os.close(self._out)  # The browser ends with its pipe.
    try:
      self._process.wait(timeout=10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._in)
    self._profile.cleanup()

  def call(self, method: str, **params):
    """Sends a command of the protocol and returns its result."""
    number = next(self._numbers)
    message = {'id': number, 'method': method, 'params': params}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._out, json.dumps(message).encode() + b'\0')
    while True:
      answer = self._next()
      if answer.get('id') == number:
        if 'error' in answer:
          raise RuntimeError(f'{method}: {answer["error"]}')
        return answer['result']

  def _next(self):
    deadline = time.monotonic() + _SECONDS
    while b'\0' not in self._buffer:
      ready, _, _ = select.select(
          [self._in], [], [], max(0.0, deadline - time.monotonic()))
      chunk = os.read(self._in, 1 << 20) if ready else b''
      if not chunk:
        raise RuntimeError('the browser does not answer')
      self._buffer += chunk
    text, _, self._buffer = self._buffer.partition(b'\0')
    answer = json.loads(text)
    self._note(answer.get('method'), answer.get('params') or {})
    return answer

  def _note(self, method, params):
    if method == 'Runtime.consoleAPICalled':
      self.messages.append(str([
          a.get('value', a.get('description')) for a in params['args']]))
    elif method == 'Runtime.exceptionThrown':
      self.messages.append(json.dumps(params['exceptionDetails']))
    elif method == 'Log.entryAdded':
      self.messages.append(params['entry']['text'])
    elif method == 'Network.requestWillBeSent':
      self.requests.append(params['request']['url'])

  def size(self, width: int, height: int = 900, phone: bool = False) -> None:
    """Gives the window a size in pixels."""
    self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
              deviceScaleFactor=2 if phone else 1, mobile=phone)

  def scheme(self, name: str) -> None:
    """Chooses the color scheme: `light` or `dark`."""
    self.call('Emulation.setEmulatedMedia', features=[
        {'name': 'prefers-color-scheme', 'value': name}])

  def script(self, on: bool) -> None:
    """Switches JavaScript on or off, for pages that are opened later."""
    self.call('Emulation.setScriptExecutionDisabled', value=not on)

  def open(self, path: str) -> None:
    """Opens a local file and waits until it is there."""
    self.call('Page.navigate', url=pathlib.Path(path).resolve().as_uri())
    deadline = time.monotonic() + _SECONDS
    while self.run('document.readyState') != 'complete' or (
        self.run('location.href') == 'about:blank'):
      if time.monotonic() > deadline:
        raise RuntimeError(f'{path!r} does not load')
      time.sleep(0.05)

  def run(self, code: str):
    """Returns the value of an expression of JavaScript in the page."""
    answer = self.call('Runtime.evaluate', expression=code, returnByValue=True,
                       awaitPromise=True)
    if 'exceptionDetails' in answer:
      raise RuntimeError(json.dumps(answer['exceptionDetails']))
    return answer['result'].get('value')

  def picture(self, path: str, whole: bool = False) -> None:
    """Writes a PNG file of the window, or of the whole page."""
    options = {'captureBeyondViewport': whole}
    if whole:
      size = self.call('Page.getLayoutMetrics')['cssContentSize']
      options['clip'] = {'x': 0, 'y': 0, 'width': size['width'],
                         'height': size['height'], 'scale': 1}
    answer = self.call('Page.captureScreenshot', format='png', **options)
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with Image.open(io.BytesIO(base64.b64decode(answer['data']))) as picture:
      _few_colors(picture.convert('RGB')).save(path, optimize=True)


def _few_colors(picture: Image.Image) -> Image.Image:
  """Returns a picture in its 256 most frequent colors, for a small file."""
  counts = sorted(picture.getcolors(picture.width * picture.height))[-256:]
  palette = Image.new('P', (1, 1))
  palette.putpalette([v for _, color in counts for v in color])
  return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def photograph(
    page: str, output_dir: str, name: str, whole: bool = False,
    height: int = 900,
) -> list[str]:
  """Writes a page as a phone and a desktop show it, light and dark."""
  written = []
  with Browser() as browser:
    for width, phone in _WIDTHS:
      browser.size(width, height, phone)
      for scheme in ('light', 'dark'):
        browser.scheme(scheme)
        browser.open(page)
        path = os.path.join(output_dir, f'{name}_{width}_{scheme}.png')
        browser.picture(path, whole)
        written.append(path)
    if browser.messages:
      raise RuntimeError(f'{page!r}: {browser.messages}')
  return written


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--page', required=True)
  parser.add_argument('--output_dir', required=True)
  parser.add_argument('--name', default='report')
  parser.add_argument('--height', type=int, default=900)
  parser.add_argument('--whole', action='store_true',
                      help='the whole page, not what is seen first')
  args = parser.parse_args()
  if program() is None:
    print(f'no browser: none of {", ".join(_NAMES)} is installed',
          file=sys.stderr)
    return 1
  for path in photograph(args.page, args.output_dir, args.name, args.whole,
                         args.height):
    print(path)
  return 0


if __name__ == '__main__':
  sys.exit(main())
