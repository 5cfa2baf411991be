"""The pieces of a page: HTML whose every text is escaped, and the page around them.

What is HTML already is of the type `Markup`, so that a type checker tells it from text.
"""

import html
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NewType

Markup = NewType('Markup', str)

NOTHING = Markup('')
# Tells a report from other pages.
GENERATOR = 'vidgarden report'
# Nothing is loaded and nothing runs.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# Of one `choice`: the style has a rule for each.
MOST_CHOICES = 12


def text(value: object) -> Markup:
  """Plain text as HTML."""
  return Markup(html.escape(str(value)))


def join(parts: Iterable[Markup], between: str = '') -> Markup:
  """Pieces one after the other; `between` is plain text."""
  return Markup(text(between).join(parts))


def element(tag: str, inner: Markup, **attributes: object) -> Markup:
  """An element; `class_` and `aria_label` stand for the attributes' own names."""
  named = ''.join(
    f' {name.rstrip("_").replace("_", "-")}="{text(value)}"'
    for name, value in attributes.items()
    if value is not None
  )
  return Markup(f'<{tag}{named}>{inner}</{tag}>')


def paragraph(sentence: str, kind: str | None = None) -> Markup:
  """A paragraph of plain text."""
  return element('p', text(sentence), class_=kind)


def card(*parts: Markup) -> Markup:
  """A framed box."""
  return element('div', join(parts), class_='card')


def grid(parts: Iterable[Markup], kind: str = 'grid panels') -> Markup:
  """Cards beside each other, as many as there is room for."""
  return element('div', join(parts), class_=kind)


def table(
  head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int] = ()
) -> Markup:
  """A table that scrolls by itself where the page is narrow.

  Args:
    head: of the columns.
    rows: of cells, plain text; the first of each heads its row.
    numbers: columns that hold numbers.
  """
  right = set(numbers)

  def line(cells: Sequence[str], tag: str) -> Markup:
    made = (
      element(
        'th' if tag == 'th' or column == 0 else 'td',
        text(cell),
        scope='col' if tag == 'th' else 'row' if column == 0 else None,
        class_='number' if column in right else None,
      )
      for column, cell in enumerate(cells)
    )
    return element('tr', join(made))

  body = join(line(row, 'td') for row in rows)
  inner = join([element('thead', line(head, 'th')), element('tbody', body)])
  whole = element('table', inner, class_='plain')
  return element(
    'div', whole, class_='wide', tabindex=0, role='region', aria_label=', '.join(head)
  )


def facts(values: Mapping[str, object]) -> Markup:
  """Names and values."""
  pairs = (
    element(
      'div',
      join([element('dt', text(name)), element('dd', text(value))]),
      class_='wide' if len(str(value)) > 70 else None,
    )
    for name, value in values.items()
  )
  return element('dl', join(pairs))


def commands(lines: Mapping[str, str]) -> Markup:
  """Commands by what they are for."""
  return join(
    join(
      [
        paragraph(purpose, 'purpose'),
        element('pre', element('code', text(line)), tabindex=0),
      ]
    )
    for purpose, line in lines.items()
  )


def choice(name: str, asked: str, options: Mapping[str, Markup]) -> Markup:
  """One of several pieces is seen, chosen by radio buttons; in print, all are.

  A group of radio buttons is one stop of the Tab key; arrows move in it.

  Args:
    name: of the buttons, that no other choice of the page has.
    asked: what is chosen.
    options: the pieces by what their buttons say, at most `MOST_CHOICES`; one alone is
      shown without a choice.
  """
  if len(options) < 2:
    return join(options.values())
  buttons = join(
    join(
      [
        element(
          *('input', NOTHING),
          type='radio',
          name=name,
          id=f'{name}-{number}',
          checked='' if number == 0 else None,
        ),
        element('label', text(said), for_=f'{name}-{number}'),
      ]
    )
    for number, said in enumerate(options)
  )
  # No element of HTML that holds nothing is closed.
  buttons = Markup(buttons.replace('</input>', ''))
  shown = join(
    element('div', join([element('h3', text(said)), piece]))
    for said, piece in options.items()
  )
  return element(
    'fieldset',
    join(
      [
        element('legend', text(asked)),
        buttons,
        element('div', shown, class_='choices'),
      ]
    ),
    class_='choice',
  )


def _rules_of_choices() -> str:
  """The style by which the piece of the chosen button is seen."""
  rules = (
    f'.choice>input:nth-of-type({n}):checked~.choices>:nth-child({n})'
    for n in range(1, MOST_CHOICES + 1)
  )
  return f'@media not print {{ {",".join(rules)}{{display:block}} }}\n'


def section(name: str, title: str, hint: str, *parts: Markup) -> Markup:
  """A section that the navigation leads to."""
  about = paragraph(hint, 'hint') if hint else NOTHING
  return element('section', join([element('h2', text(title)), about, *parts]), id=name)


def page(
  title: str,
  subtitle: str,
  headlines: Sequence[tuple[str, str]],
  sections: Mapping[str, tuple[str, Markup]],
  moves: bool = False,
) -> bytes:
  """The whole file.

  Args:
    title: of the page.
    subtitle: a sentence under it.
    headlines: numbers, already formatted, and what each is.
    sections: by id: what the navigation calls it, and the section.
    moves: whether clips on it do; then there is a box that stops them.
  """
  style = (pathlib.Path(__file__).parent / 'page.css').read_text()
  numbers = join(
    element('li', join([element('b', text(value)), element('span', text(what))]))
    for value, what in headlines
  )
  links = join(
    element('a', text(name), href=f'#{place}') for place, (name, _) in sections.items()
  )
  switch = Markup(
    '<label class="switch"><input type="checkbox" id="still"> hold the clips still</label>'
  )
  head = join(
    [
      element('h1', text(title)),
      paragraph(subtitle, 'subtitle'),
      element('ul', numbers, class_='headlines') if headlines else NOTHING,
      element('nav', links, aria_label='Sections'),
    ]
  )
  body = join(
    [
      switch if moves else NOTHING,
      *(made for _, made in sections.values()),
      element(
        'footer', text('This file is complete: it loads nothing, and runs nothing.')
      ),
    ]
  )
  return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{GENERATOR}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{text(title)}</title>
<style>
{style}{_rules_of_choices()}</style>
</head>
<body>
<header class="top"><div>{head}</div></header>
<main>{body}</main>
</body>
</html>
""".encode('utf-8', 'replace')
