"""A copy of the package in a folder of its own, in which one source is replaced by its mutant."""

from __future__ import annotations

import compileall
import contextlib
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from written_list import ROOT

FLAGS = ["-std=gnu11", "-w", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-g0", "-fPIC"]
LIMIT = 120  # seconds of one compilation, or of processor time of a file of tests
LONGEST = 1800  # seconds by the clock, for threads that wait for each other
OF_CALLS = 60  # seconds of processor time of the replayed calls, which take 5 to 15


def status_of(command: list[str], environment: dict[str, str], limit: int = LIMIT) -> int | None:
    """Of a command that may take so much processor time; None if threads of it wait too long."""
    limited = ["bash", "-c", f'ulimit -t {limit} && exec "$@"', "bash", *command]
    try:
        return subprocess.run(limited, cwd=ROOT, env=environment, capture_output=True, timeout=LONGEST, check=False).returncode
    except subprocess.TimeoutExpired:
        return None


class Build:
    """All sources are compiled once, without optimisation, which takes less than half the time.
    Bodies of kernels are mutated in one instruction set: the tests run each of them."""

    def __init__(self, folder: Path, isa: str) -> None:
        self.folder, self.isa = folder, isa
        self.sources, self.objects, self.package = folder / "src_c", folder / "objects", folder / "lib" / "fastembed"
        shutil.rmtree(folder, ignore_errors=True)
        self.objects.mkdir(parents=True)
        shutil.copytree(ROOT / "src_c", self.sources)
        shutil.copytree(ROOT / "fastembed", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        # By content: a mutant and its source may be of the same second.
        compileall.compile_dir(self.package, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        self.environment = os.environ | {"PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment["PYTHONPATH"] = f"{self.package.parent}{os.pathsep}{os.environ['PYTHONPATH']}"
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        self.library = self.package / "_kernels" / f"_core{suffix}"
        generated = ROOT / "build" / "cython" / "fastembed" / "_kernels" / "_core.c"
        sources = [generated, *(file for folder in (".", "isa", "disk") for file in self.sources.glob(f"{folder}/*.c"))]
        for source in sources:
            self._compile(source, self._object_of(source))
        # Of what mutants can be of: neither Cython's C nor the other instruction sets.
        mutable = [file for file in sources[1:] if file.parent.name != "isa" or file.stem == isa]
        self.unmutated = {source: self._optimized(source) for source in mutable}
        self._link()
        if not (self.replays() and self.replays()):  # the first time keeps what the calls do
            raise RuntimeError("without a mutation, the replayed calls fail, or do something else the second time")

    def _object_of(self, source: Path) -> Path:
        return self.objects / f"{source.stem}.o"

    def _compile(self, source: Path, to: Path, level: str = "-O0") -> bool:
        import numpy as np

        include = [f"-I{path}" for path in (self.sources, np.get_include(), sysconfig.get_path("include"))]
        command = ["gcc", *FLAGS, level, *include, "-c", str(source), "-o", str(to)]
        return subprocess.run(command, capture_output=True, timeout=LIMIT, check=False).returncode == 0

    def _link(self) -> None:
        objects = [str(path) for path in sorted(self.objects.glob("*.o"))]
        subprocess.run(["gcc", "-shared", *objects, "-o", str(self.library), "-lm", "-lpthread"], check=True)

    def _compiled_with(self, path: str) -> Path | None:
        """The C file that is compiled for a source; None for one of Python."""
        if path.endswith(".py"):
            return None
        return self.folder / path if path.endswith(".c") else self.sources / "isa" / f"{self.isa}.c"

    @contextlib.contextmanager
    def mutated(self, path: str, text: str) -> Iterator[bool]:
        """What depends on that source is built with this text of it, and then as it was; False
        where the compiler refuses it."""
        compiled, built = self._compiled_with(path), True
        if compiled is None:
            files = [self.folder / "lib" / path]
        else:
            files = [self.folder / path, self._object_of(compiled), self.library]
        before = {file: file.read_bytes() for file in files}
        files[0].write_text(text)
        if compiled is not None:
            built = self._compile(compiled, self._object_of(compiled))
            if built:
                self._link()
        yield built
        for file, content in before.items():
            file.write_bytes(content)

    def replays(self) -> bool:
        """Whether some thousand calls do what they did the first time."""
        command = [sys.executable, "-m", "mutation.replay", str(self.folder / "calls"), self.isa]
        return status_of(command, self.environment, OF_CALLS) == 0

    def is_the_same_code(self, path: str) -> bool:
        """Whether a mutant of C, optimised, is the machine code that its source becomes."""
        compiled = self._compiled_with(path)
        return compiled is not None and self._optimized(compiled) == self.unmutated[compiled]

    def _optimized(self, source: Path) -> bytes:
        to = self.folder / "optimized.o"
        self._compile(source, to, "-O1")
        return to.read_bytes()
