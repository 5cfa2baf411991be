"""How benchmarks are run: contenders alternate, every round is kept, ratios are per round.

A benchmark is a module of this package with two functions:

    def benchmark(options: harness.Options) -> harness.Benchmark:
      return harness.Benchmark(
        name='input',                       # results/<name>.json
        title='Input',
        about='What is measured, in a few sentences of Markdown.',
        metrics=(harness.Metric('rate', 'pairs/s', higher_is_better=True),),
        contenders=(
          harness.in_worker('ours', 'benchmarks.input:ours', options, batch=8),
          harness.in_worker('theirs', 'benchmarks.input:theirs', options,
                            requires=('cv2',)),
          harness.Contender('tool', run_tool_once),
        ),
        rival='theirs',                     # what the ratios are relative to
        targets=(harness.Target('ours', 'rate', 1.2),),
      )

    if __name__ == '__main__':
      harness.main(benchmark)

A contender's `run` does one round and returns its metrics, `{'rate': 41.5}`; a contender
need not have every metric. `in_worker` names a function `make(**arguments)` that prepares
all it needs once, in a process of its own that lives until the end, and returns such a
`run`; so libraries with thread pools, memory and start-up costs of their own never meet,
and yet their rounds alternate. A contender that must start afresh every round calls
`run_command` in its `run`. `measured` and `peak_memory` are what a round measures with.

Ratios are contender / rival, taken round by round; the table gives their median. A
contender whose packages are missing is shown as not installed, and one that raised as
failed. A quick run is for checking that the benchmark works: its figures are kept only
where `--results_dir` says.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import report

Run = Callable[[], Mapping[str, float]]

REPOSITORY = pathlib.Path(__file__).parent.parent
_PACKAGES = (
  'tensorflow',
  'tf-models-official',
  'numpy',
  'torch',
  'opencv-python-headless',
  'opencv-python',
  'pillow',
  'av',
  'simplejpeg',
)


@dataclasses.dataclass(frozen=True)
class Options:
  """What the command line says.

  Attributes:
    rounds: measured rounds of every contender.
    quick: whether to use the smallest sizes that still run everything.
    data_dir: folder of the benchmark's data, made where it is missing.
    cores: processor cores that every contender may use.
  """

  rounds: int
  quick: bool
  data_dir: pathlib.Path
  cores: int


@dataclasses.dataclass(frozen=True)
class Metric:
  """A figure that rounds yield.

  Attributes:
    key: in a round's result.
    title: column of the table, with its unit.
    higher_is_better: whether a larger figure is the better one.
  """

  key: str
  title: str
  higher_is_better: bool = False


@dataclasses.dataclass(frozen=True)
class Contender:
  """One who is measured.

  Attributes:
    name: row of the table.
    run: does one round and returns its metrics.
    requires: modules it imports; where one is missing it is shown as not installed.
    warm_up: rounds whose figures are dropped.
    rival: whom its ratios are relative to, where not the benchmark's.
    close: frees what `run` holds.
  """

  name: str
  run: Run
  requires: tuple[str, ...] = ()
  warm_up: int = 1
  rival: str | None = None
  close: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Target:
  """A ratio that is to be reached: at least, or at most where lower is better.

  Attributes:
    contender: whose ratio.
    metric: of which metric.
    ratio: the bound, of contender / rival.
    rival: relative to whom, where not the contender's own rival.
  """

  contender: str
  metric: str
  ratio: float
  rival: str | None = None


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """What is measured of whom.

  Attributes:
    name: of the module and of the result file.
    title: heading of its section.
    about: Markdown; what is measured, and what each contender does.
    metrics: columns.
    contenders: rows.
    rival: whom the ratios are relative to.
    targets: ratios that are judged.
    flags: of its own that it was given, each after a blank.
  """

  name: str
  title: str
  about: str
  metrics: tuple[Metric, ...]
  contenders: tuple[Contender, ...]
  rival: str
  targets: tuple[Target, ...] = ()
  flags: str = ''


# --- Measuring ------------------------------------------------------------------------


@dataclasses.dataclass
class Span:
  """Wall and processor time of a stretch of code, in seconds; of all threads."""

  wall: float = 0.0
  cpu: float = 0.0


@contextlib.contextmanager
def measured() -> Iterator[Span]:
  """Times the body of a `with` statement; the span is filled at its end."""
  span = Span()
  wall, cpu = time.perf_counter(), time.process_time()
  yield span
  span.wall, span.cpu = time.perf_counter() - wall, time.process_time() - cpu


def peak_memory() -> float:
  """Largest resident memory of this process so far, in MB.

  Linux hands `ru_maxrss` down from the parent at exec; the high-water mark of the
  process's own pages is not, so it is preferred.
  """
  with contextlib.suppress(OSError), open('/proc/self/status') as status:
    for line in status:
      if line.startswith('VmHWM:'):
        return int(line.split()[1]) * 1024 / 1e6
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak * (1 if sys.platform == 'darwin' else 1024) / 1e6


@dataclasses.dataclass(frozen=True)
class Finished:
  """A command that ended well.

  Attributes:
    wall: seconds from launch to exit.
    cpu: processor seconds of the process and its children.
    peak_memory: largest resident memory of the process, in MB.
    started: when it was launched, in seconds of `time.time()`.
    stdout: what it printed.
  """

  wall: float
  cpu: float
  peak_memory: float
  started: float
  stdout: str


def environment(cores: int, root: pathlib.Path = REPOSITORY) -> dict[str, str]:
  """Environment of a contender: the checkout importable, quiet, one number of threads."""
  path = os.pathsep.join(filter(None, [str(root), os.environ.get('PYTHONPATH')]))
  threads = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'), str(cores))
  quiet = {'TF_CPP_MIN_LOG_LEVEL': '3', 'CUDA_VISIBLE_DEVICES': '-1'}
  return os.environ | quiet | threads | {'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1'}


def pin(cores: int) -> None:
  """Restricts this process to its first cores, where the system allows; 0 for all."""
  if hasattr(os, 'sched_setaffinity') and cores:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def run_command(
  command: Sequence[str],
  cores: int = 0,
  cwd: str | os.PathLike[str] = REPOSITORY,
  timeout: float = 3600,
  root: pathlib.Path = REPOSITORY,
) -> Finished:
  """Runs a command in a process of its own, on the given number of cores.

  Args:
    command: program and arguments.
    cores: processor cores it may use; 0 for all.
    cwd: folder it runs in.
    timeout: seconds after which it is ended.
    root: of the checkout that it imports.

  Raises:
    RuntimeError: it failed; the message is the last line it wrote.
    subprocess.TimeoutExpired: it took too long.
  """
  # A process between this one and the command measures the command alone.
  supervisor = [sys.executable, '-m', 'benchmarks.worker', '--command', str(cores)]
  with tempfile.TemporaryFile('w+') as errors:
    done = subprocess.run(
      [*supervisor, os.fspath(cwd), str(timeout), *command],
      cwd=root,
      env=environment(cores or os.cpu_count() or 1, root),
      stdout=subprocess.PIPE,
      stderr=errors,
      text=True,
      timeout=timeout + 60,
    )
    errors.seek(0)
    if done.returncode:
      raise RuntimeError(_last_line(errors.read() or done.stdout))
  return Finished(**json.loads(done.stdout.splitlines()[-1]))


def _last_line(text: str) -> str:
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1] if lines else 'it wrote nothing'


class Worker:
  """A process that prepares a contender once and runs its rounds when asked."""

  def __init__(
    self,
    function: str,
    cores: int,
    arguments: Mapping[str, Any],
    root: pathlib.Path = REPOSITORY,
  ):
    """Names what is to run; the process starts with the first round.

    Args:
      function: 'module:function', called with the arguments; it returns a `Run`.
      cores: processor cores it may use.
      arguments: JSON values.
      root: of the checkout whose files run.
    """
    self._command = [function, str(cores), json.dumps(arguments)]
    self._cores, self._root = cores, root
    self._process: subprocess.Popen[str] | None = None
    self._errors = tempfile.TemporaryFile('w+')  # noqa: SIM115  (closed by close)

  def run(self, timeout: float = 3600) -> Mapping[str, float]:
    """One round; the first also prepares.

    Raises:
      RuntimeError: the process failed; the message is the last line it wrote.
    """
    process = self._process = self._process or subprocess.Popen(
      [sys.executable, '-m', 'benchmarks.worker', *self._command],
      cwd=self._root,
      env=environment(self._cores, self._root),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
    )
    assert process.stdin and process.stdout
    watch = threading.Timer(timeout, process.kill)
    watch.start()
    try:
      with contextlib.suppress(BrokenPipeError):
        process.stdin.write('round\n')
        process.stdin.flush()
      line = process.stdout.readline()
    finally:
      watch.cancel()
    if not line:
      code = process.wait()
      self._errors.seek(0)
      raise RuntimeError(f'{_last_line(self._errors.read())} (exit code {code})')
    return json.loads(line)

  def close(self) -> None:
    """Ends the process."""
    if self._process:
      assert self._process.stdin and self._process.stdout
      with contextlib.suppress(BrokenPipeError):
        self._process.stdin.close()
      try:
        self._process.wait(timeout=30)
      except subprocess.TimeoutExpired:
        self._process.kill()
        self._process.wait()
      self._process.stdout.close()
    self._errors.close()


def in_worker(
  name: str,
  function: str,
  options: Options,
  *,
  requires: tuple[str, ...] = (),
  warm_up: int = 1,
  rival: str | None = None,
  cores: int = 0,
  root: pathlib.Path = REPOSITORY,
  **arguments: Any,
) -> Contender:
  """A contender that lives in a process of its own.

  Args:
    name: row of the table.
    function: 'module:function', called once with `arguments`; it returns a `Run`.
    options: of the command line.
    requires: modules it imports.
    warm_up: rounds whose figures are dropped.
    rival: whom its ratios are relative to, where not the benchmark's.
    cores: processor cores it may use, where not the options'.
    root: of the checkout whose files run.
    **arguments: of the function; JSON values.
  """
  worker = Worker(function, cores or options.cores, arguments, root)
  return Contender(name, worker.run, requires, warm_up, rival, worker.close)


# --- The rounds -----------------------------------------------------------------------


def missing(contender: Contender) -> list[str]:
  """Top-level modules that the contender needs and this environment lacks."""
  return [
    module
    for module in contender.requires
    if importlib.util.find_spec(module.partition('.')[0]) is None
  ]


def measure(
  benchmark: Benchmark, rounds: int, say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
  """Runs the rounds of all contenders in turns.

  Each round runs every contender once, in an order that reverses from round to round, so
  that none is always the first to run after another.

  Returns:
    Per contender its 'name', 'rival', 'status' ('measured', 'not installed: ...' or
    'failed: ...') and 'rounds', the metrics of every measured round.
  """
  rows: dict[str, dict[str, Any]] = {}
  for contender in benchmark.contenders:
    lacking = missing(contender)
    status = f'not installed: {", ".join(lacking)}' if lacking else 'measured'
    rival = contender.rival or benchmark.rival
    rows[contender.name] = {
      'name': contender.name,
      'rival': rival,
      'status': status,
      'rounds': [],
    }
  warm_up = max((c.warm_up for c in benchmark.contenders), default=0)
  try:
    for number in range(-warm_up, rounds):
      order = benchmark.contenders[:: -1 if number % 2 else 1]
      for contender in order:
        if number >= -contender.warm_up and rows[contender.name]['status'] == 'measured':
          _run_round(contender, rows[contender.name], number, say)
  finally:
    for contender in benchmark.contenders:
      contender.close()
  return list(rows.values())


def _run_round(
  contender: Contender, row: dict[str, Any], number: int, say: Callable[[str], None]
) -> None:
  try:
    values = dict(contender.run())
  except Exception as error:
    row['status'] = f'failed: {_last_line(str(error))}'
    say(f'{contender.name}: {row["status"]}')
    return
  label = f'round {number + 1}' if number >= 0 else 'warm-up'
  say(
    f'{label}: {contender.name}: ' + ', '.join(f'{k} {v:.4g}' for k, v in values.items())
  )
  if number >= 0:
    row['rounds'].append(values)


# --- The result -----------------------------------------------------------------------


def machine(cores: int) -> dict[str, Any]:
  """The machine and the software measured on; names neither host nor folder."""
  versions = {}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[package] = importlib.metadata.version(package)
  return {
    'cpu': _cpu_model(),
    'cores': os.cpu_count(),
    'cores_used': min(cores, os.cpu_count() or cores),
    'memory_gb': round(_memory_bytes() / 1024**3, 1),
    'system': f'{platform.system()} {platform.machine()}',
    'python': platform.python_version(),
    'versions': versions,
    'load_before': round(os.getloadavg()[0], 2),
  }


def _cpu_model() -> str:
  with contextlib.suppress(OSError), open('/proc/cpuinfo') as file:
    for line in file:
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()


def _memory_bytes() -> int:
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def result(
  benchmark: Benchmark, options: Options, command: str, rows: list[dict[str, Any]]
) -> dict[str, Any]:
  """The JSON document of a run."""
  return {
    'name': benchmark.name,
    'title': benchmark.title,
    'about': benchmark.about,
    'command': command,
    'quick': options.quick,
    'rounds': options.rounds,
    'machine': machine(options.cores),
    'metrics': [dataclasses.asdict(metric) for metric in benchmark.metrics],
    'targets': [dataclasses.asdict(target) for target in benchmark.targets],
    'contenders': rows,
  }


def add_flags(parser: argparse.ArgumentParser) -> None:
  """The flags that every benchmark has."""
  parser.add_argument('--rounds', type=int, default=0, help='default 5, quick 1')
  parser.add_argument(
    '--quick', action='store_true', help='smallest sizes, about a minute'
  )
  parser.add_argument('--data_dir', default='', help='keeps the data made; default: none')
  parser.add_argument('--results_dir', default='', help='default results/; quick: none')
  parser.add_argument('--cores', type=int, default=2, help='that each contender may use')


def run(
  make: Callable[[Options], Benchmark], arguments: argparse.Namespace
) -> dict[str, Any]:
  """Runs one benchmark, prints its table and keeps its result.

  Args:
    make: builds the benchmark for the options.
    arguments: parsed `add_flags`.

  Returns:
    The document that was kept.
  """
  rounds = arguments.rounds or (1 if arguments.quick else 5)
  with contextlib.ExitStack() as stack:
    folder = arguments.data_dir or stack.enter_context(
      tempfile.TemporaryDirectory(prefix='benchmark_')
    )
    cores = min(arguments.cores, os.cpu_count() or arguments.cores)
    options = Options(rounds, arguments.quick, pathlib.Path(folder), cores)
    options.data_dir.mkdir(parents=True, exist_ok=True)
    benchmark = make(options)
    quick = ' --quick' if options.quick else ''
    command = f'python -m benchmarks.{benchmark.name}{quick} --rounds={rounds}'
    command += f' --cores={cores}{benchmark.flags}'
    before = machine(options.cores)
    document = result(benchmark, options, command, measure(benchmark, rounds))
    document['machine'] = before
  print('\n' + report.section(document))
  results = arguments.results_dir or ('' if arguments.quick else str(report.RESULTS))
  if results:
    report.keep(benchmark.name, document, pathlib.Path(results))
  return document


def failures(document: Mapping[str, Any]) -> list[str]:
  """Names of the contenders that failed."""
  return [
    row['name'] for row in document['contenders'] if row['status'].startswith('failed')
  ]


def main(make: Callable[[Options], Benchmark]) -> None:
  """The command line of a benchmark; exits with 1 where a contender failed."""
  parser = argparse.ArgumentParser(description=sys.modules[make.__module__].__doc__)
  add_flags(parser)
  sys.exit(1 if failures(run(make, parser.parse_args())) else 0)
