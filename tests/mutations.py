"""Makes up one-line breakages of Python source, of the kinds that people make."""

import ast
from collections.abc import Iterator

_OPERATORS = {
  ast.Add: '-',
  ast.Sub: '+',
  ast.Mult: '/',
  ast.Div: '*',
  ast.FloorDiv: '*',
  ast.Mod: '//',
  ast.Pow: '*',
}
_COMPARISONS = {
  ast.Lt: '<=',
  ast.LtE: '<',
  ast.Gt: '>=',
  ast.GtE: '>',
  ast.Eq: '!=',
  ast.NotEq: '==',
  ast.Is: 'is not',
  ast.IsNot: 'is',
  ast.In: 'not in',
  ast.NotIn: 'in',
}
_SIBLINGS = {
  'minimum': 'maximum',
  'min': 'max',
  'reduce_sum': 'reduce_mean',
  'sum': 'mean',
  'argmax': 'argmin',
  'reduce_max': 'reduce_min',
  'floor': 'ceil',
  'any': 'all',
  'reduce_any': 'reduce_all',
  'zeros': 'ones',
  'zeros_like': 'ones_like',
  'cos': 'sin',
}
_SIBLINGS |= {value: name for name, value in _SIBLINGS.items()}
# Calls that shape no value by themselves, so one may be forgotten.
_DROPPED = {
  'stop_gradient',
  'l2_normalize',
  'normalize',
  'softmax',
  'sqrt',
  'square',
  'abs',
  'round',
  'sorted',
  'floor',
  'clip_by_value',
  'gather',
  'log',
  'exp',
}


_COMMUTATIVE = {'minimum', 'min', 'maximum', 'max', 'equal', 'logical_and', 'multiply'}


def _name(node: ast.Call) -> str:
  if isinstance(node.func, ast.Attribute):
    return node.func.attr
  return node.func.id if isinstance(node.func, ast.Name) else ''


def _replacements(node: ast.AST, text) -> Iterator[str]:
  """What may stand wrongly instead of a node; `text` gives a node's source."""
  match node:
    case ast.Constant(value=bool() as value):
      yield str(not value)
    case ast.Constant(value=int() as value):
      yield str(value + 1)
    case ast.Constant(value=float() as value):
      yield repr(value * 2 if value else 1.0)
    case ast.BinOp(left=left, op=op, right=right):
      if type(op) in _OPERATORS:
        yield f'({text(left)} {_OPERATORS[type(op)]} {text(right)})'
      yield f'({text(left)})'
      if isinstance(op, ast.Add | ast.Mult):
        yield f'({text(right)})'
    case ast.Compare(left=left, ops=[op], comparators=[right]):
      yield f'({text(left)} {_COMPARISONS[type(op)]} {text(right)})'
    case ast.BoolOp(op=op, values=values):
      other = ' or ' if isinstance(op, ast.And) else ' and '
      yield f'({other.join(f"({text(v)})" for v in values)})'
      yield f'({text(values[0])})'
      yield f'({text(values[-1])})'
    case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
      yield f'({text(operand)})'
    case ast.IfExp(body=body, orelse=orelse):
      yield f'({text(body)})'
      yield f'({text(orelse)})'
    case ast.Subscript(value=value, slice=ast.Slice()):
      yield text(value)
    case ast.Call(args=args, keywords=keywords):
      parts = [text(a) for a in args] + [
        f'{k.arg}={text(k.value)}' if k.arg else f'**{text(k.value)}' for k in keywords
      ]
      called, name = text(node.func), _name(node)
      if len(args) > 1 and name not in _COMMUTATIVE:
        yield f'{called}({", ".join([parts[1], parts[0], *parts[2:]])})'
      for dropped in range(len(parts)):
        if dropped >= len(args) or (dropped and dropped == len(args) - 1):
          kept = parts[:dropped] + parts[dropped + 1 :]
          yield f'{called}({", ".join(kept)})'
      if name in _SIBLINGS:
        sibling = called[: len(called) - len(name)] + _SIBLINGS[name]
        yield f'{sibling}({", ".join(parts)})'
      if name in _DROPPED and args:
        yield f'({parts[0]})'
      elif name in _DROPPED and isinstance(node.func, ast.Attribute):
        yield f'({text(node.func.value)})'


def _skipped(node: ast.AST) -> bool:
  match node:
    case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Assert():
      return True
    case ast.Expr(value=ast.Constant()):
      return True
    case ast.FunctionDef(name=name):
      return name in ('get_config', '__repr__', '__str__')
  return False


def _children(node: ast.AST) -> Iterator[ast.AST]:
  """Those that say what is computed: no annotation, no decorator."""
  for name, value in ast.iter_fields(node):
    if name in ('annotation', 'returns', 'decorator_list'):
      continue
    for child in value if isinstance(value, list) else [value]:
      if isinstance(child, ast.AST) and not _skipped(child):
        yield child


def of(content: str) -> Iterator[tuple[int, str]]:
  """Breakages of a source: the line, and the whole file as it would be."""
  tree = ast.parse(content)
  raw = content.encode()
  starts = [0]
  for line in raw.splitlines(keepends=True):
    starts.append(starts[-1] + len(line))

  def span(node) -> tuple[int, int]:
    first = starts[node.lineno - 1] + node.col_offset
    return first, starts[node.end_lineno - 1] + node.end_col_offset

  def text(node) -> str:
    first, last = span(node)
    return raw[first:last].decode()

  waiting: list[ast.AST] = [tree]
  known = {ast.dump(tree)}
  while waiting:
    node = waiting.pop()
    waiting += reversed(list(_children(node)))
    places: list[tuple[tuple[int, int], str]] = []
    if isinstance(node, ast.If):
      places.append((span(node.test), f'(not ({text(node.test)}))'))
    elif isinstance(node, ast.AugAssign | ast.Expr):
      places.append((span(node), 'pass'))
    if hasattr(node, 'lineno'):
      places += [(span(node), new) for new in _replacements(node, text)]
    for (first, last), new in places:
      broken = (raw[:first] + new.encode() + raw[last:]).decode()
      try:
        meaning = ast.dump(ast.parse(broken))
      except SyntaxError:
        continue
      if meaning not in known:
        known.add(meaning)
        yield node.lineno, broken
