import socket
import threading

import pytest

from official.video.errors import UserError
from official.video.run import data_service


def listener() -> tuple[socket.socket, str]:
  server = socket.create_server(('127.0.0.1', 0))
  return server, f'grpc://127.0.0.1:{server.getsockname()[1]}'


def test_a_dispatcher_that_does_not_answer_is_named():
  server, address = listener()
  data_service.check(address)
  server.close()
  for wrong in (address, 'grpc://127.0.0.1', 'grpc://127.0.0.1:99999', 'grpc://:'):
    with pytest.raises(UserError, match=f'{wrong}: nobody answers'):
      data_service.check(wrong, 0)


def test_a_dispatcher_that_starts_late_is_waited_for(capsys):
  server, address = listener()
  port = server.getsockname()[1]
  server.close()
  late: list[socket.socket] = []
  threading.Timer(
    0.3, lambda: late.append(socket.create_server(('127.0.0.1', port)))
  ).start()
  data_service.check(address, 20)
  late[0].close()
  assert capsys.readouterr().err == f'waiting for the tf.data service at {address}\n'


def ended(address: str, progress) -> bool:
  """Whether a run would be ended within some looks."""
  codes: list[int] = []
  come = threading.Event()

  def end(code: int) -> None:
    codes.append(code)
    come.set()

  with data_service.watched(address, progress, 0.2, end):
    come.wait(1.0)
  return codes == [2]


def test_a_run_ends_only_if_it_waits_and_nobody_answers(capsys):
  server, address = listener()
  counts = iter(range(10**6))
  assert not ended(address, lambda: 7)
  server.close()
  assert not ended(address, lambda: next(counts))
  assert not capsys.readouterr().err
  assert ended(address, lambda: 7)
  assert f'the tf.data service at {address} is gone for 0.2 s' in capsys.readouterr().err
