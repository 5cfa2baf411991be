"""Serves training batches from other machines: a dispatcher, and workers that decode.

  python docs/scripts/data_service.py dispatcher --port=5050
  python docs/scripts/data_service.py worker --dispatcher=node1:5050 --address=node2

Start one dispatcher, and a worker on each machine that lends its cores, then train with
--tf_data_service=grpc://node1:5050. Workers read the records: the paths of the run's data are
theirs too. Servers run until they are stopped. Nothing here asks who is calling: keep the
ports within a network that you trust.
"""

import argparse

import tensorflow as tf


def main() -> None:
  """Starts the server that the arguments ask for."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  kinds = parser.add_subparsers(dest='kind', required=True)
  dispatcher = kinds.add_parser('dispatcher', help='hands out the steps')
  dispatcher.add_argument('--port', type=int, default=5050)
  worker = kinds.add_parser('worker', help='makes the batches')
  worker.add_argument('--dispatcher', required=True, help='host:port')
  worker.add_argument('--address', default='localhost', help='as the run reaches it')
  worker.add_argument('--port', type=int, default=5051)
  flags = parser.parse_args()
  service = tf.data.experimental.service
  if flags.kind == 'dispatcher':
    server = service.DispatchServer(service.DispatcherConfig(port=flags.port))
  else:
    server = service.WorkerServer(
      service.WorkerConfig(
        dispatcher_address=flags.dispatcher,
        worker_address=f'{flags.address}:{flags.port}',
        port=flags.port,
      )
    )
  print(f'{flags.kind} on port {flags.port}', flush=True)
  server.join()


if __name__ == '__main__':
  main()
