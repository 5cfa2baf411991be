"""Packaging: `official.video` beside the Model Garden's `official`, projects, tools."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION: dict[str, str] = {}
# What only some commands need; official/video/extras.py names them where they are missing.
EXTRAS = {
  # Conversion beyond one machine, and to gs://, s3:// and hdfs://.
  'beam': ['apache-beam>=2.65'],
  'index': ['usearch'],
  'lmdb': ['lmdb', 'msgpack'],
  'regions': ['scikit-image'],
  'report': ['jinja2', 'plotly'],
  'text': ['textblob'],
}
exec((HERE / 'official/video/version.py').read_text(), VERSION)

METHODS = setuptools.find_packages(HERE / 'projects')
RECIPES = sorted(path.name for path in (HERE / 'configs').iterdir() if path.is_dir())

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
    *(f'official.video.recipes.{name}' for name in RECIPES),
  ],
  package_dir={
    **{f'official.video.projects.{name}': f'projects/{name}' for name in METHODS},
    **{f'official.video.recipes.{name}': f'configs/{name}' for name in RECIPES},
  },
  package_data={
    'official.video': [
      'report/*.css',
      'report/*.html',
      'checkpoints/zoo.yaml',
      'settings/defaults.json',
      'settings/rows.yaml',
      'checkpoints/shipped/*/*',
    ],
    'official.video.projects.gvilm': ['vocab_test.txt'],
    **{f'official.video.recipes.{name}': ['*.yaml', '*.gin'] for name in RECIPES},
  },
  entry_points={'console_scripts': ['vidgarden = official.video.cli:main']},
  install_requires=[
    'absl-py',
    'av>=14',
    'gin-config',
    'google-crc32c',
    'h5py',
    'importlib-resources',  # tensorflow-datasets imports it undeclared.
    'numpy',
    'opencv-python-headless',
    'pillow',
    'protobuf',
    'pyarrow',
    'pyyaml',
    'scikit-learn',
    'setuptools<82',  # tensorboard imports its pkg_resources, which later ones lack.
    'simplejpeg',
    'tensorboard',
    'tensorflow==2.20.*',
    'tensorflow-datasets',
    'tensorflow-text==2.20.*',
    'tf-keras==2.20.*',
    'tf-models-official==2.20.*',
    'tqdm',
  ],
  extras_require={
    **EXTRAS,
    'all': [package for packages in EXTRAS.values() for package in packages],
    'spacy': ['spacy'],  # Its English model is no package of an index.
    'docs': ['mkdocs<2', 'mkdocs-material', 'mkdocstrings[python]'],
    'dev': [
      *(package for packages in EXTRAS.values() for package in packages),
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
