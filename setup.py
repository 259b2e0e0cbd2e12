"""Builds the C extension; everything else about the project is in pyproject.toml."""

import os
import shlex
from glob import glob

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# No contraction and no fast-math: every instruction set must give the same bits.
CFLAGS = ["-std=gnu11", "-O2", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
CFLAGS += shlex.split(os.environ.get("CFLAGS", ""))  # last, so that they win


class BuildExt(build_ext):
    """Leaves out the library paths of the machine that built Python, which are not for it."""

    def build_extensions(self):
        linker = self.compiler.linker_so
        self.compiler.linker_so = [flag for flag in linker if not flag.startswith(("-L", "-Wl,-rpath"))]
        super().build_extensions()


extension = Extension(
    "fastembed._kernels._core",
    ["fastembed/_kernels/_core.pyx", *sorted(glob("src_c/**/*.c", recursive=True))],
    depends=[*sorted(glob("src_c/**/*.[hi]*", recursive=True)), *sorted(glob("fastembed/_kernels/*.px[di]"))],
    include_dirs=["src_c", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("FE_CFLAGS", f'"{shlex.join(CFLAGS)}"')],
    extra_compile_args=CFLAGS,
)

setup(
    ext_modules=cythonize(
        [extension],
        build_dir="build/cython",
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False},
    ),
    cmdclass={"build_ext": BuildExt},
)
