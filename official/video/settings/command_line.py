"""What the drivers share: flags, one-line errors, the distribution strategy."""

import contextlib
import ctypes
import fcntl
import glob
import io
import os
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TextIO

from absl import app, flags, logging

from official.video import files
from official.video.errors import UserError, printable

# The Model Garden runs on tf_keras. Without this, TensorFlow also imports Keras 3, and that
# scikit-learn: seconds before a run's first step, for nothing.
os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
# TensorFlow's and CUDA's own lines would bury ours; what they raise is told all the same.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

# Of a process's temporary folder, and of the file in it that the process holds locked.
_TEMPORARY, _LOCK = 'vidgarden_process_', 'lock'
# Whether this process is a driver's, and may be ended at once: a notebook's may not.
owns_process = False
_HELP = frozenset({'--help', '-help', '-h', '--helpshort', '--helpfull'})


def define_experiment_flags() -> None:
  """The Model Garden's experiment flags, and `--dry_run`."""
  flags.DEFINE_string('experiment', None, 'Name of a registered experiment.')
  flags.DEFINE_string(
    'list',
    None,
    'Print the experiments whose names have this in them, or all, with their YAML files, '
    'and stop.',
  )
  flags.DEFINE_multi_string(
    'config_file',
    [],
    'YAML files that override fields of the experiment, in order; those of this library '
    'also by short name, such as cvrl/pretrain_tiny.',
  )
  flags.DEFINE_string(
    'params_override',
    '',
    'Overrides after the files: YAML, a YAML file, or a.b=1,c.d=2.',
  )
  flags.DEFINE_multi_string(
    'gin_file', [], 'Gin files: numbers inside samplers and policies.'
  )
  flags.DEFINE_multi_string(
    'import', [], 'Modules that register methods, backbones, view makers and the like.'
  )
  flags.DEFINE_multi_string('gin_params', [], 'Gin bindings, after the files.')
  flags.DEFINE_string(
    'zoo', '', 'Folder of downloaded weights, for checkpoints named zoo:NAME.'
  )
  flags.DEFINE_string(
    'tpu', None, 'Name or address of a Cloud TPU; sets the TPU strategy.'
  )
  flags.DEFINE_string(
    'tf_data_service',
    None,
    "Dispatcher of a tf.data service that makes the training batches, 'grpc://host:5050'.",
  )
  flags.DEFINE_bool(
    'dry_run',
    False,
    'Print the resolved config, parameters, FLOPs, memory and the data found, and stop.',
  )


def load_experiment(values: flags.FlagValues):
  """The experiment that the flags ask for; see `experiment.load`.

  With `--list` prints the experiments and ends.
  """
  from official.video.settings import catalogue, experiment, methods, ranges

  if values.zoo:
    os.environ[files.ZOO] = values.zoo
  methods.register(values['import'].value)
  if values.list is not None:
    print(*catalogue.lines(values.list), sep='\n')
    sys.exit(0)
  if not values.experiment:
    raise UserError('--experiment is missing; --list prints those that there are')
  params = experiment.load(
    values.experiment,
    values.config_file,
    values.params_override,
    values.gin_file,
    values.gin_params,
    trains='mode' in values,
  )
  if values.tpu is not None:
    if 'mode' not in values:
      raise UserError(
        '--tpu: this computes on the GPUs or the CPU of the machine; leave it out, or score '
        'on a TPU by official.video.train --mode=eval'
      )
    params.override({'runtime': {'tpu': values.tpu, 'distribution_strategy': 'tpu'}})
  if values.tf_data_service is not None:
    service = {
      'enable_tf_data_service': True,
      'tf_data_service_address': values.tf_data_service,
    }
    params.override({'task': {'train_data': service}})
  use_gpus(params.runtime)
  _tell_runtime(params.runtime, 'mode' in values)
  # Of the drivers that only read a model, each looks at the data that it takes.
  if 'mode' in values or 'protocols' in values:
    ranges.check(params, values.mode if 'mode' in values else 'eval')
  params.lock()
  return params


def require(values: flags.FlagValues, *names: str) -> None:
  """Raises `UserError` for a flag that has no value, where a command can't go on without."""
  for name in names:
    if not values[name].value:
      raise UserError(f'--{name} is missing: {values[name].help}')


def use_gpus(runtime: Any) -> None:
  """Takes the GPUs that there are, where the strategy is for them and none was asked for."""
  import tensorflow as tf

  most = {'mirrored': None, 'multi_worker_mirrored': None, 'one_device': 1}
  strategy = runtime.distribution_strategy
  if runtime.num_gpus == 0 and runtime.tpu is None and strategy in most:
    gpus = tf.config.list_physical_devices('GPU')[: most[strategy]]
    runtime.num_gpus = len(gpus)
    if gpus:
      print(
        f'note: runtime.num_gpus {len(gpus)}: all that {strategy} takes; set it to use '
        'fewer, or CUDA_VISIBLE_DEVICES=-1 for the CPU',
        file=sys.stderr,
      )
    elif glob.glob('/dev/nvidia[0-9]*'):
      print(f'note: runs on the CPU: {_NO_CUDA}', file=sys.stderr)


_NO_CUDA = (
  "a GPU is there (/dev/nvidia*) and TensorFlow can't use it; install its CUDA libraries "
  "with make setup GPU=1, or pip install 'tensorflow[and-cuda]==2.20.*'"
)


def _check_gpus(num_gpus: int) -> None:
  """Raises `UserError` for more GPUs than TensorFlow sees."""
  import tensorflow as tf

  gpus = tf.config.list_physical_devices('GPU')
  if num_gpus > len(gpus):
    reason = f'; {_NO_CUDA}' if glob.glob('/dev/nvidia[0-9]*') and not gpus else ''
    raise UserError(
      f'runtime.num_gpus {num_gpus}: TensorFlow sees {len(gpus)} GPUs here; use at '
      f'most that{reason}'
    )


def _reduced(runtime: Any) -> bool:
  return runtime.mixed_precision_dtype not in (None, 'float32')


def _on_cpu(runtime: Any) -> bool:
  return runtime.distribution_strategy != 'tpu' and runtime.num_gpus == 0


def check_precision(runtime: Any) -> None:
  """Raises `UserError` for training in 16 bit where a CPU would do it."""
  if _reduced(runtime) and _on_cpu(runtime):
    raise UserError(
      f'runtime.mixed_precision_dtype {runtime.mixed_precision_dtype}: 3D convolution '
      'gradients are wrong in reduced precision on CPUs; use float32 or an accelerator'
    )


def _tell_runtime(runtime: Any, trains: bool) -> None:
  """Says which of the fields that speed up training change nothing here."""
  if runtime.enable_xla and (not trains or _on_cpu(runtime)):
    print(
      "note: runtime.enable_xla true: only a GPU's training steps are compiled; nothing is "
      'here',
      file=sys.stderr,
    )
  if runtime.distribution_strategy == 'tpu' and not trains:
    print(
      'note: runtime.distribution_strategy tpu: of training; all is computed on the GPUs or '
      'the CPU of this machine here',
      file=sys.stderr,
    )
  if _reduced(runtime) and not trains:
    print(
      f'note: runtime.mixed_precision_dtype {runtime.mixed_precision_dtype}: of training; '
      'all is computed in float32 here',
      file=sys.stderr,
    )


def encoding_strategy(num_gpus: int | None = None, batch: int = 0):
  """The strategy in whose scope an encoder is for the GPUs of this machine.

  Args:
    num_gpus: how many at most, as where a run was trained there may be more; by default all
      that there are.
    batch: clips that are to be shared alike: so many GPUs are taken as divide it.
  """
  import tensorflow as tf

  gpus = len(tf.config.list_physical_devices('GPU'))
  gpus = gpus if num_gpus is None else min(num_gpus, gpus)
  while gpus > 1 and batch % gpus:
    gpus -= 1
  if gpus < 2:
    return tf.distribute.get_strategy()
  return tf.distribute.MirroredStrategy([f'/gpu:{i}' for i in range(gpus)])


# Of the absl that TensorFlow 2.20 is built with; other builds keep their one line of it.
_SET_LEVEL = '_ZN4absl12lts_2025012714SetMinLogLevelENS0_18LogSeverityAtLeastE'


def _quiet() -> None:
  """Sets the level of what TensorFlow logs past `TF_CPP_MIN_LOG_LEVEL` to errors too."""
  import tensorflow as tf

  if os.environ['TF_CPP_MIN_LOG_LEVEL'] == '3':
    library = os.path.join(tf.sysconfig.get_lib(), 'libtensorflow_framework.so.2')
    with contextlib.suppress(OSError, AttributeError):
      getattr(ctypes.CDLL(library), _SET_LEVEL)(2)


def strategy_of(params):
  """The distribution strategy of an experiment, with its precision policy set.

  Raises:
    UserError: what is asked for is unknown or not on this machine.
  """
  from official.common import distribute_utils
  from official.modeling import performance

  _quiet()
  runtime = params.runtime
  _check_gpus(runtime.num_gpus)
  check_precision(runtime)
  if _reduced(runtime):
    performance.set_mixed_precision_policy(runtime.mixed_precision_dtype)
  try:
    distribute_utils.configure_cluster(runtime.worker_hosts, runtime.task_index)
    return distribute_utils.get_distribution_strategy(
      distribution_strategy=runtime.distribution_strategy,
      all_reduce_alg=runtime.all_reduce_alg,
      num_gpus=runtime.num_gpus,
      num_packs=runtime.num_packs,
      tpu_address=runtime.tpu,
    )
  except ValueError as error:
    raise UserError(
      f'runtime.distribution_strategy {runtime.distribution_strategy!r}: {error}'
    ) from error


def takes_arguments(main: Callable[[Sequence[str]], None]):
  """Marks a driver's main that takes arguments beside its flags, in any order."""
  main.takes_arguments = True  # type: ignore[attr-defined]
  return main


def run(main: Callable[[Sequence[str]], None]) -> None:
  """`absl.app.run`, with a user's mistake as one line on stderr and exit code 2."""
  with_arguments = getattr(main, 'takes_arguments', False)
  flags.FLAGS.set_gnu_getopt(with_arguments)

  def guarded(argv: Sequence[str]) -> None:
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.ERROR)  # What matters is printed.
    if len(argv) > 1 and not with_arguments:
      _fail(f'unexpected argument {argv[1]!r}; flags start with --')
    try:
      main(argv)
    except UserError as error:
      _fail(str(error))

  # Names of files need not be UTF-8; stderr shows their bytes by itself.
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors='backslashreplace')
  if _HELP & set(sys.argv[1:]):
    print(_help(main, flags.FLAGS))
    sys.exit(0)
  for flag in ('--list', '--fit'):
    if flag.removeprefix('--') in flags.FLAGS:
      sys.argv[1:] = _with_values(sys.argv[1:], flag)
  try:
    app.run(guarded, flags_parser=lambda argv: flags.FLAGS(list(argv)))
  except flags.Error as error:
    _fail(' '.join(str(error).split()))


def _with_values(arguments: Sequence[str], flag: str) -> list[str]:
  """Arguments in which a flag without a value has the empty one."""
  following = [*arguments[1:], '--']
  return [
    f'{flag}=' if one == flag and after.startswith('-') else one
    for one, after in zip(arguments, following, strict=False)
  ]


def run_process(main: Callable[[Sequence[str]], None]) -> NoReturn:
  """`run`, and the end of the process as soon as it is done.

  What is written is written by then. An interpreter that ends would wait for threads of
  TensorFlow's input, which may take a minute. A worker of several ends the usual way: its
  peers are told so.
  """
  global owns_process
  owns_process = True
  code: Any = 0
  folder = _own_temporary_folder()
  try:
    run(main)
  except SystemExit as stop:
    code = stop.code
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    code = 128 + signal.SIGINT
  except BaseException as error:
    if isinstance(error, BrokenPipeError) and _nobody_reads(sys.stdout):
      code = 128 + signal.SIGPIPE  # As in `... --list | head`: it has what it wanted.
    else:
      traceback.print_exc()
      code = 1
  shutil.rmtree(folder, ignore_errors=True)
  if 'TF_CONFIG' in os.environ:
    sys.exit(code)
  if isinstance(code, str):
    print(code, file=sys.stderr)
  logging.flush()
  for stream in (sys.stdout, sys.stderr):
    try:
      stream.flush()
    except (OSError, ValueError):  # Nobody listens any more.
      code = code or 1
  os._exit(code if isinstance(code, int) else int(bool(code)))


def _nobody_reads(stream: TextIO) -> bool:
  """Whether a stream is a pipe whose other end is closed."""
  try:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
  except (OSError, ValueError):  # It is none of the system's.
    return False


def _own_temporary_folder() -> str:
  """Makes this process's temporary files in a folder of their own; returns it.

  TensorFlow leaves files in a process that does not come to its own end. Folders of such
  processes, whose lock nobody holds any more, are cleared away.
  """
  for old in glob.glob(
    os.path.join(glob.escape(tempfile.gettempdir()), f'{_TEMPORARY}*')
  ):
    with contextlib.suppress(OSError), open(os.path.join(old, _LOCK), 'rb') as lock:
      if os.fstat(lock.fileno()).st_uid == os.getuid():
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(old, ignore_errors=True)
  folder = tempfile.mkdtemp(prefix=_TEMPORARY)
  held = os.open(os.path.join(folder, 'new'), os.O_CREAT | os.O_RDWR, 0o600)
  fcntl.flock(held, fcntl.LOCK_EX)  # Held until the process ends, however it does.
  os.rename(os.path.join(folder, 'new'), os.path.join(folder, _LOCK))
  tempfile.tempdir = folder
  return folder


def _help(main: Callable[[Sequence[str]], None], known: flags.FlagValues) -> str:
  """The driver's docstring, then its flags: absl's own are left out."""
  modules = known.flags_by_module_dict().items()
  own = [flag for name, of in modules if not name.startswith('absl') for flag in of]
  lines = []
  for flag in sorted(own, key=lambda flag: flag.name):
    default = f' (default {flag.default_as_str})' if flag.default is not None else ''
    head = f'  --{"[no]" * flag.boolean}{flag.name}: '
    lines.append(flags.text_wrap(f'{head}{flag.help}{default}', 90, '      ', '  '))
  doc = (sys.modules[main.__module__].__doc__ or '').strip()
  return '\n'.join([doc, '', 'Flags:', *lines])


def _fail(message: str) -> None:
  print(f'error: {printable(files.shown(message))}', file=sys.stderr)
  sys.exit(2)
