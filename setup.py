"""Build script; a wheel carries configs and tools in ``mmpvg/.mim``, as OpenMMLab packages do."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def read_version():
    """Reads the version without importing the package, which may lack its dependencies."""
    text = (ROOT / 'mmpvg' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE).group(1)


def read_requirements(name):
    """Reads ``requirements/<name>.txt`` without its comments and blank lines."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.split('#')[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


class BuildWithMim(build_py):
    """``build_py`` that adds ``mmpvg/.mim``, where mmengine and mim look for a package's configs.

    A wheel gets copies, made in the build folder only. An editable install gets relative links in
    the source tree, so that an edited config is seen at once.
    """

    entries = ('configs', 'tools', 'model-index.yml')

    def run(self):
        super().run()
        editable = getattr(self, 'editable_mode', False)
        parent = ROOT / 'mmpvg' if editable else Path(self.build_lib) / 'mmpvg'
        mim = parent / '.mim'
        # A build folder left by an earlier build may hold configs deleted since.
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for entry in self.entries:
            source, target = ROOT / entry, mim / entry
            if editable:
                target.symlink_to(os.path.relpath(source, mim), source.is_dir())
            elif source.is_dir():
                ignored = shutil.ignore_patterns('__pycache__', '*.py[co]')
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copy2(source, target)


current, legacy = read_requirements('current'), read_requirements('legacy')

setup(
    name='mmpvg',
    version=read_version(),
    description='Plain vision transformers with MPVG position embeddings for MMDetection and '
    'MMSegmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The mmpvg authors',
    license='Apache-2.0',
    keywords='computer vision, vision transformer, position embedding, object detection, '
    'semantic segmentation, OpenMMLab',
    packages=find_packages(include=['mmpvg', 'mmpvg.*']),
    package_data={'mmpvg': ['py.typed'], 'mmpvg.comparison': ['templates/*.html']},
    cmdclass={'build_py': BuildWithMim},
    python_requires='>=3.10',
    install_requires=read_requirements('runtime'),
    extras_require={
        'current': current,
        'onedl': current,
        'legacy': legacy,
        'openmmlab': legacy,
        'optional': read_requirements('optional'),
        'tests': read_requirements('tests'),
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    zip_safe=False,
)
