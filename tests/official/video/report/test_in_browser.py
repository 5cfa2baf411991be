"""The pages in headless Chromium: nothing overflows, nothing is faint, clips move or rest.

Skipped where there is no Chromium.
"""

import functools
import http.server
import itertools
import json
import re
import shutil
import subprocess
import threading

import pytest

from official.video.report import __main__ as door
from tests.official.video.report.test_feature_page import shortcut_file
from tests.official.video.report.test_runs import made_run

BROWSER = next(
  filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason='there is no Chromium')

# Reads the page in frames of several widths from outside: the page itself runs no script.
PROBE = """<!doctype html><title>waiting</title><body style="margin:0">
<script>
const curve = x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4;
const channel = x => curve(x / 255);
const rgba = text => (text.match(/[\\d.]+/g) || []).map(Number);
const light = c => .2126 * channel(c[0]) + .7152 * channel(c[1]) + .0722 * channel(c[2]);
function behind(view, node) {
  for (; node; node = node.parentElement) {
    const c = rgba(view.getComputedStyle(node).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c;
  }
  return [255, 255, 255];
}
function contrast(view, node) {
  const style = view.getComputedStyle(node);
  const svg = node.namespaceURI.endsWith('svg');
  const a = light(rgba(svg ? style.fill : style.color)), b = light(behind(view, node));
  return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
}
function look(frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  const root = page.documentElement, width = root.clientWidth;
  const texts = [...page.body.querySelectorAll('*')].filter(node =>
    node.getClientRects().length && node.tagName !== 'title' &&
    [...node.childNodes].some(x => x.nodeType === 3 && x.textContent.trim()));
  const faint = texts.map(node => [contrast(view, node), node.textContent.slice(0, 30)]);
  const small = texts.filter(node => node.namespaceURI.endsWith('svg')).map(node =>
    parseFloat(view.getComputedStyle(node).fontSize) * node.getScreenCTM().a);
  const scrolled = node => node.closest('.wide, .clip, g');
  const out = [...page.body.querySelectorAll('*')].filter(node =>
    !scrolled(node) && node.getBoundingClientRect().right > width + 1);
  const image = page.querySelector('.clip.moving img');
  return {
    width, ground: light(behind(view, page.body)), scroll: root.scrollWidth,
    out: out.map(x => x.outerHTML.slice(0, 80)),
    faintest: faint.sort((a, b) => a[0] - b[0])[0], smallest: Math.min(...small),
    motion: image && view.getComputedStyle(image).animationName,
    frames: image && image.getBoundingClientRect().width
      / image.parentElement.clientWidth,
    maps: [...page.querySelectorAll('.choices > *')].map(x =>
      x.getClientRects().length > 0),
    thumbs: [...page.querySelectorAll('.frame')].filter(x => x.getClientRects().length)
      .map(x => x.getBoundingClientRect().width),
    focus: [...page.querySelectorAll('a[href], input, button, summary, [tabindex]')].map(x => {
      x.focus();
      const style = view.getComputedStyle(x), box = x.getBoundingClientRect();
      return {
        tag: x.tagName, index: x.tabIndex, got: page.activeElement === x,
        hidden: !x.getClientRects().length, top: box.top + view.scrollY,
        seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0,
      };
    }),
    unnamed: [...page.querySelectorAll('img, svg[role=img], [role=region]')].filter(x =>
      !(x.getAttribute('alt') || x.getAttribute('aria-label'))).length,
  };
}
const widths = [400, 720, 1400], found = [];
const frames = widths.map(width => {
  const frame = document.createElement('iframe');
  frame.style = `border:0;display:block;height:900px;width:${width}px`;
  frame.onload = () => {
    found[widths.indexOf(width)] = look(frame);
    if (widths.some((_, n) => !found[n])) return;
    const told = document.createElement('pre');
    told.id = 'told';
    told.textContent = JSON.stringify(found);
    document.body.append(told);
  };
  frame.src = 'page.html';
  document.body.append(frame);
});
</script>
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *_):
    pass


def looked_at(folder, *flags):
  """What the probe finds at each width, and what the browser complains of."""
  (folder / 'probe.html').write_text(PROBE)
  handler = functools.partial(Quiet, directory=str(folder))
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    done = subprocess.run(
      [
        *(BROWSER, '--headless=new', '--no-sandbox', '--disable-gpu', '--dump-dom'),
        *(f'--user-data-dir={folder / "profile"}', '--window-size=1400,2700'),
        *('--enable-logging=stderr', '--virtual-time-budget=4000', *flags),
        f'http://127.0.0.1:{server.server_port}/probe.html',
      ],
      capture_output=True,
      text=True,
      timeout=120,
    )
  finally:
    server.shutdown()
    server.server_close()
  told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
  assert told, done.stderr[-2000:]
  complaints = [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
  return json.loads(told[1].replace('&lt;', '<').replace('&gt;', '>')), complaints


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  place = tmp_path_factory.mktemp('browser')
  path, listed = shortcut_file(place)
  words = [str(made_run(place / name)) for name in ('one', 'two')]
  words += [f'--features={path}', f'--labels={listed}', f'--output={place / "page.html"}']
  assert door.main(words) == 0
  return place


def test_the_page_fits_and_can_be_read(folder):
  for dark in (False, True):
    flags = ['--blink-settings=preferredColorScheme=0'] if dark else []
    found, complaints = looked_at(folder, *flags)
    # The bar that scrolls down takes its part.
    assert [one['width'] // 10 for one in found] == pytest.approx([40, 72, 140], abs=2)
    for one in found:
      assert (one['ground'] < 0.1) == dark
      assert one['scroll'] <= one['width'] and not one['out'], one
      # 4.5 is what WCAG 2 asks of text.
      assert one['faintest'][0] >= 4.5, one['faintest']
      assert one['smallest'] >= 7.5
      assert one['frames'] == pytest.approx(8, abs=0.01)
      assert one['motion'] == 'play' and not one['unnamed']
      stops = [stop for stop in one['focus'] if not stop['hidden'] and stop['index'] >= 0]
      assert stops[0]['tag'] == 'A' and 'INPUT' in {stop['tag'] for stop in stops}
      # By the tabulator in the order of the page, each one seen where it is.
      assert all(stop['got'] and stop['seen'] for stop in stops), stops
      assert {stop['index'] for stop in stops} == {0}
      tops = [stop['top'] for stop in stops]
      assert all(b > a - 60 for a, b in itertools.pairwise(tops)), tops
      # One colouring of the map is seen, with its pictures.
      assert one['maps'] == [True] + [False] * (len(one['maps']) - 1)
      assert len(one['maps']) >= 4 and len(one['thumbs']) >= 2
      assert all(15 < width < 80 for width in one['thumbs'])
    assert not [line for line in complaints if 'favicon' not in line]


def test_clips_rest_for_who_wants_no_motion(folder):
  found, _ = looked_at(folder, '--force-prefers-reduced-motion')
  assert {one['motion'] for one in found} == {'none'}
