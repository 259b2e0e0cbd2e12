"""A copy of the package in a folder of its own, in which one source is replaced by its mutant."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

from written_list import ROOT

from .mutate import Mutation

FLAGS = ["-std=gnu11", "-O1", "-w", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-g0", "-fPIC"]
LIMIT = 120  # seconds of one compilation


class Build:
    """All sources are compiled once. Bodies of kernels are mutated in one instruction set: the
    tests run each of them."""

    def __init__(self, folder: Path, isa: str) -> None:
        self.folder, self.isa = folder, isa
        self.sources, self.objects, self.package = folder / "src_c", folder / "objects", folder / "lib" / "fastembed"
        shutil.rmtree(folder, ignore_errors=True)
        self.objects.mkdir(parents=True)
        shutil.copytree(ROOT / "src_c", self.sources)
        shutil.copytree(ROOT / "fastembed", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        self.library = self.package / "_kernels" / f"_core{suffix}"
        generated = ROOT / "build" / "cython" / "fastembed" / "_kernels" / "_core.c"
        self._compile(generated, self.objects / "_core.o")
        for source in [*self.sources.glob("*.c"), *self.sources.glob("isa/*.c"), *self.sources.glob("disk/*.c")]:
            self._compile(source, self._object_of(source))
        self._link()

    def _object_of(self, source: Path) -> Path:
        return self.objects / f"{source.stem}.o"

    def _compile(self, source: Path, to: Path) -> bool:
        import numpy as np

        include = [f"-I{path}" for path in (self.sources, np.get_include(), sysconfig.get_path("include"))]
        command = ["gcc", *FLAGS, *include, "-c", str(source), "-o", str(to)]
        return subprocess.run(command, capture_output=True, timeout=LIMIT, check=False).returncode == 0

    def _link(self) -> None:
        objects = [str(path) for path in sorted(self.objects.glob("*.o"))]
        subprocess.run(["gcc", "-shared", *objects, "-o", str(self.library), "-lm", "-lpthread"], check=True)

    def put(self, mutation: Mutation | None, path: str, text: str) -> str:
        """Write a source and build what depends on it: "built", "refused" by the compiler, or
        "same" machine code as before."""
        if path.endswith(".py"):
            (self.folder / "lib" / path).write_text(text)
            return "built"
        (self.folder / path).write_text(text)
        source = self.folder / path if path.endswith(".c") else self.sources / "isa" / f"{self.isa}.c"
        to = self._object_of(source)
        before = to.read_bytes()
        if not self._compile(source, to):
            to.write_bytes(before)
            return "refused"
        if mutation is not None and to.read_bytes() == before:
            return "same"
        self._link()
        return "built"
