"""The public SequenceExample messages, without TensorFlow."""

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = descriptor_pb2.FieldDescriptorProto
_PACKAGE = 'vidgarden'


def _message(file: Any, name: str, **fields: int | str) -> Any:
  """Adds a message type to a file.

  Args:
    file: the file's descriptor.
    name: of the message.
    **fields: in the order of their numbers, from 1: a scalar type or the name of a message;
      a field called `repeated_<name>` is a list.

  Returns:
    The message's descriptor.
  """
  proto = file.message_type.add(name=name)
  for number, (field, kind) in enumerate(fields.items(), start=1):
    scalar = isinstance(kind, int)
    repeated = field.startswith('repeated_')
    proto.field.add(
      name=field.removeprefix('repeated_'),
      number=number,
      label=_TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL,
      type=kind if scalar else _TYPES.TYPE_MESSAGE,
      type_name=None if scalar else f'.{_PACKAGE}.{kind}',
    )
  return proto


def _map_message(file: Any, name: str, field: str, value: str) -> None:
  """Adds a message whose one field maps texts to messages of the type `value`."""
  # What protoc makes of `map<string, value> field`: a list of entries of a nested type.
  entry_name = f'{field.title().replace("_", "")}Entry'
  proto = _message(file, name, **{f'repeated_{field}': f'{name}.{entry_name}'})
  entry = proto.nested_type.add(name=entry_name)
  entry.options.map_entry = True
  entry.field.add(
    name='key', number=1, label=_TYPES.LABEL_OPTIONAL, type=_TYPES.TYPE_STRING
  )
  entry.field.add(
    name='value',
    number=2,
    label=_TYPES.LABEL_OPTIONAL,
    type=_TYPES.TYPE_MESSAGE,
    type_name=f'.{_PACKAGE}.{value}',
  )


def _sequence_example_class() -> Any:
  """Builds the messages in a descriptor pool of their own.

  TensorFlow's pool has them under their public names; two of one name don't go together.
  """
  file = descriptor_pb2.FileDescriptorProto(
    name='vidgarden/sequence_example.proto', package=_PACKAGE, syntax='proto3'
  )
  _message(file, 'BytesList', repeated_value=_TYPES.TYPE_BYTES)
  _message(file, 'FloatList', repeated_value=_TYPES.TYPE_FLOAT)
  _message(file, 'Int64List', repeated_value=_TYPES.TYPE_INT64)
  lists = {
    'bytes_list': 'BytesList',
    'float_list': 'FloatList',
    'int64_list': 'Int64List',
  }
  feature = _message(file, 'Feature', **lists)
  feature.oneof_decl.add(name='kind')
  for field in feature.field:
    field.oneof_index = 0
  _map_message(file, 'Features', 'feature', 'Feature')
  _message(file, 'FeatureList', repeated_feature='Feature')
  _map_message(file, 'FeatureLists', 'feature_list', 'FeatureList')
  _message(file, 'SequenceExample', context='Features', feature_lists='FeatureLists')
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  found = pool.FindMessageTypeByName(f'{_PACKAGE}.SequenceExample')
  return message_factory.GetMessageClass(found)


SequenceExample = _sequence_example_class()


def encode_text(text: str) -> bytes:
  """A text as records hold it.

  File names need not be UTF-8; Python marks their other bytes, which come back here. Half
  of a pair of surrogates, as in a caption that was cut, becomes a replacement character.
  """
  whole = re.sub('[\ud800-\udc7f\udd00-\udfff]', '\ufffd', text)
  return whole.encode('utf-8', 'surrogateescape')
