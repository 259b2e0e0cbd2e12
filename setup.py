"""Builds the C extensions; everything else about the project is in pyproject.toml."""

import gzip
import os
import platform
import shlex
import tarfile
import threading
from glob import glob
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

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

DIRECTIVES = {
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "freethreading_compatible": True,
    "linetrace": IS_TRACED,
}

SOURCES = sorted(glob("src_c/**/*.c", recursive=True))
HEADERS = sorted({*glob("src_c/**/*.*", recursive=True), *glob("fastembed/_kernels/*.pxd")} - {*SOURCES})


class BuildExt(build_ext):
    """Leaves out the library paths of the machine that built Python; compiles on all processors.

    Cython runs here, and not where names or sources alone are asked for: for one module at a time,
    while the C of others is compiled.
    """

    cython = threading.Lock()

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        linker = self.compiler.linker_so
        self.compiler.linker_so = [flag for flag in linker if not flag.startswith(("-L", "-Wl,-rpath"))]
        self.extensions.sort(key=lambda extension: -len(extension.sources))  # the longest first
        super().build_extensions()

    def build_extension(self, extension):
        with self.cython:
            (written,) = cythonize(
                [extension],
                shared_utility_qualified_name=UTILITY,
                build_dir="build/coverage/cython" if IS_TRACED else "build/cython",
                compiler_directives=DIRECTIVES,
            )
        extension.sources = written.sources
        super().build_extension(extension)

    def copy_file(self, source, target, *arguments, **options):
        """Put a module in its place whole: another process may be importing it."""
        new, is_copied = super().copy_file(source, f"{target}.new", *arguments, **options)
        os.replace(new, target)
        return target, is_copied


class Sdist(sdist):
    """Where SOURCE_DATE_EPOCH gives the time, the same files make the same bytes."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **owner):
        time = os.environ.get("SOURCE_DATE_EPOCH")
        if time is None or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, **owner)
        name = f"{base_name}.tar.gz"
        paths = sorted(path for path in Path(root_dir or ".", base_dir).rglob("*") if path.is_file())
        with gzip.GzipFile(name, "wb", mtime=int(time)) as compressed, tarfile.open(mode="w", fileobj=compressed) as archive:
            for path in paths:
                archive.add(path, path.relative_to(root_dir or "."), filter=lambda entry: plain(entry, int(time)))
        return name


def plain(entry, time):
    """An entry of an archive without what depends on the machine."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    entry.mtime = time
    return entry


def wait_for_other_builds():
    """The lock of this folder, in which one build at a time writes C, objects and modules.

    Two of them, as of `make docs` and `make wheel`, would read each other's unfinished files. The
    lock is held to the end of the process.
    """
    os.makedirs("build", exist_ok=True)
    lock = open("build/.lock", "w")  # noqa: SIM115
    if fcntl is not None:
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


# What Cython adds for memoryviews is in a module of its own, once: 0.4 MB less than in each.
UTILITY = "fastembed._kernels._cyutility"


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


LOCK = wait_for_other_builds()
setup(
    ext_modules=[
        *(extension(path) for path in sorted(glob("fastembed/_kernels/*.pyx"))),
        Extension(UTILITY, ["fastembed/_kernels/_cyutility.c"], extra_compile_args=CFLAGS),
    ],
    cmdclass={"build_ext": BuildExt, "sdist": Sdist},
)
