"""Builds the C extension; everything else about the project is in pyproject.toml."""

import bz2
import os
import shlex
import sys
from glob import glob
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# No contraction and no fast-math: every instruction set must give the same bits. -O3: 150 KB more, nothing faster. No table for
# unwinding: nothing here throws, and it is 30 KB.
CFLAGS = [
    "-std=gnu11",
    "-O2",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-fno-asynchronous-unwind-tables",
    "-g0",
]
if sys.platform == "linux":  # 20 KB of padding that nothing gains from
    CFLAGS += ["-falign-functions=1", "-falign-jumps=1", "-falign-loops=1", "-falign-labels=1"]
    # Functions that nobody asked to be inlined are not: 57 KB, most of it Cython's. A call for one token takes 5 per cent longer.
    CFLAGS += ["--param=inline-unit-growth=0", "--param=max-inline-insns-auto=5", "-fno-tree-dominator-opts"]
CFLAGS += shlex.split(os.environ.get("CFLAGS", ""))  # last, so that they win
# Without symbols and without padding between segments, unless somebody who asks for flags of their own wants to see them.
LDFLAGS = ["-Wl,-s", "-Wl,-z,noseparate-code"] if sys.platform == "linux" and "CFLAGS" not in os.environ else []
# What nobody asks of a private module: pickled classes, and functions that say what their arguments are. Indices are checked
# where they come from. Together 25 KB.
DIRECTIVES = {"auto_pickle": False, "binding": False, "boundscheck": False, "wraparound": False, "initializedcheck": False}


def front_coded(lines):
    """Each line as how many characters it shares with the one before, and the rest: 80 KB once they are packed, instead of 90."""
    before, coded = "", []
    for line in lines.split("\n"):
        shared = os.path.commonprefix([before, line])  # noqa: RUF071 - of strings
        coded.append(chr(ord("0") + len(shared)) + line.removeprefix(shared))
        before = line
    return "\n".join(coded)


class BuildExt(build_ext):
    """Leaves out the library paths of the machine that built Python, which are not for it; packs the names beside it."""

    def run(self):
        super().run()
        package = Path(self.get_ext_fullpath("fastembed._kernels")).parent
        names = Path(__file__).parent / "fastembed" / "data" / "names.txt"
        packed = package / "data" / "names.bz2"
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(bz2.compress(front_coded(names.read_text()).encode()))

    def build_extensions(self):
        linker = self.compiler.linker_so
        self.compiler.linker_so = [flag for flag in linker if not flag.startswith(("-L", "-Wl,-rpath"))]
        super().build_extensions()


extension = Extension(
    "fastembed._kernels",
    ["fastembed/_kernels.pyx", *sorted(glob("src_c/**/*.c", recursive=True))],
    depends=[*sorted(glob("src_c/**/*.[hi]*", recursive=True)), *sorted(glob("fastembed/*.px[di]"))],
    include_dirs=["src_c", numpy.get_include()],
    define_macros=[
        ("CYTHON_UNPACK_METHODS", "0"),  # short cuts that no call here takes; 4 KB
        ("CYTHON_FAST_THREAD_STATE", "0"),
        ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
        ("FE_CFLAGS", f'"{shlex.join(CFLAGS)}"'),
    ],
    extra_compile_args=CFLAGS,
    extra_link_args=LDFLAGS,
)

setup(
    ext_modules=cythonize([extension], language_level=3, build_dir="build/cython", compiler_directives=DIRECTIVES),
    cmdclass={"build_ext": BuildExt},
)
