"""Builds the C extensions; everything else about the project is in pyproject.toml."""

import os
import platform
import shlex
from glob import glob
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# -O3 makes look-ups and steps 5 to 15 per cent slower, link-time optimisation 5 to 30; aligned
# loops and functions make no difference.
OPTIMISE = "-O2"
# No contraction and no fast-math: every instruction set must give the same bits.
CFLAGS = ["-std=gnu11", OPTIMISE, "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
if platform.machine() in ("x86_64", "AMD64"):  # one build serves every machine: wider instruction sets are chosen at run time
    CFLAGS += ["-march=x86-64", "-mtune=generic"]
CFLAGS += shlex.split(os.environ.get("CFLAGS", ""))  # last, so that they win

# Where make coverage asks for it, each line of Cython reports that it runs.
IS_TRACED = "-DCYTHON_TRACE_NOGIL=1" in CFLAGS

SOURCES = sorted(glob("src_c/**/*.c", recursive=True))
HEADERS = sorted({*glob("src_c/**/*.*", recursive=True), *glob("fastembed/_kernels/*.pxd")} - {*SOURCES})


class BuildExt(build_ext):
    """Leaves out the library paths of the machine that built Python."""

    def build_extensions(self):
        linker = self.compiler.linker_so
        self.compiler.linker_so = [flag for flag in linker if not flag.startswith(("-L", "-Wl,-rpath"))]
        super().build_extensions()


def extension(path):
    """One Cython module. `_core` is linked with the C, and the others call that through it."""
    name = Path(path).stem
    return Extension(
        f"fastembed._kernels.{name}",
        [path, *(SOURCES if name == "_core" else [])],
        depends=HEADERS,
        include_dirs=["src_c", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("FE_CFLAGS", f'"{shlex.join(CFLAGS)}"')],
        extra_compile_args=CFLAGS,
    )


setup(
    ext_modules=cythonize(
        [extension(path) for path in sorted(glob("fastembed/_kernels/*.pyx"))],
        build_dir="build/coverage/cython" if IS_TRACED else "build/cython",
        compiler_directives={"boundscheck": False, "wraparound": False, "initializedcheck": False, "linetrace": IS_TRACED},
    ),
    cmdclass={"build_ext": BuildExt},
)
