"""Packaging: `official.video` beside the Model Garden's `official`, projects, tools."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION: dict[str, str] = {}
BEAM = 'apache-beam>=2.65'
exec((HERE / 'official/video/version.py').read_text(), VERSION)

METHODS = setuptools.find_packages(HERE / 'projects')

setuptools.setup(
  name='vidgarden',
  version=VERSION['__version__'],
  description='Self-supervised video learning for the TensorFlow Model Garden',
  long_description=(HERE / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11,<3.13',
  # official/__init__.py stays out: in site-packages the Model Garden's stands there.
  # The methods move under `official.video`, as users have folders called projects too.
  packages=[
    *setuptools.find_namespace_packages(include=['official.video*', 'tfrecords_tools*']),
    *(f'official.video.projects.{name}' for name in METHODS),
  ],
  package_dir={f'official.video.projects.{name}': f'projects/{name}' for name in METHODS},
  package_data={
    'official.video': ['report/*.html'],
    'official.video.projects.gvilm': ['vocab_test.txt'],
  },
  install_requires=[
    'absl-py',
    'av>=14',
    'gin-config',
    'google-crc32c',
    'h5py',
    'importlib-resources',  # tensorflow-datasets imports it undeclared.
    'jinja2',
    'lmdb',
    'msgpack',
    'numpy',
    'opencv-python-headless',
    'pillow',
    'plotly',
    'protobuf',
    'pyyaml',
    'scikit-image',
    'scikit-learn',
    'simplejpeg',
    'tensorboard',
    'tensorflow==2.20.*',
    'tensorflow-datasets',
    'tensorflow-text==2.20.*',
    'textblob',
    'tf-keras==2.20.*',
    'tf-models-official==2.20.*',
    'tqdm',
  ],
  extras_require={
    # Conversion beyond one machine, and to gs://, s3:// and hdfs://.
    'beam': [BEAM],
    'spacy': ['spacy'],  # Its English model is no package of an index.
    'dev': [
      BEAM,
      'build',
      'mypy',
      'pytest',
      'pytest-xdist',
      'ruff',
      'types-PyYAML',
      'types-tqdm',
    ],
  },
)
