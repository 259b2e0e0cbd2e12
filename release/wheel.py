"""Builds the sdist, and a wheel of it for any Linux with glibc 2.17 or newer, and checks both.

    python release/wheel.py FOLDER [PYTHON ...]

The C is compiled by the system's compiler and linked against the symbols of an old glibc, which
zig brings, so that no container is needed. Of the same commit the same bytes are built. With
interpreters given, each builds its wheel, installs it where nothing else is, and runs the tests of
the kernels and functions on it.
"""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from sbom import add_sbom

ROOT = Path(__file__).parents[1]
TAG = f"manylinux_2_17_{platform.machine()}"
TESTED = ("tests/kernels", "tests/functional", "tests/layers", "tests/optim")


def run(*command, **options):
    print("+", *(Path(str(part)).name for part in command), flush=True)
    subprocess.run([str(part) for part in command], check=True, **options)


def environment(folder, python, *needed):
    """The Python of a new virtual environment of an interpreter, with what is needed installed."""
    run(python, "-m", "venv", "--clear", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *needed)
    return folder / "bin" / "python"


def settings():
    """The environment of a build: the time of the commit, zig as the linker, patchelf."""
    time = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    linker = f"{sys.executable} -m ziglang cc -target {platform.machine()}-linux-gnu.2.17 -shared"
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": tools, "SOURCE_DATE_EPOCH": time.strip(), "LDSHARED": linker}


def build(folder, python):
    """The wheel that a Python builds from the sdist, renamed to what it runs on."""
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch)
        run(python, "-m", "build", "--outdir", built, ROOT, env=settings())
        (sdist,) = built.glob("*.tar.gz")
        sdist.replace(folder / sdist.name)
        (wheel,) = built.glob("*.whl")
        add_sbom(wheel)
        run(
            sys.executable,
            "-m",
            "auditwheel",
            "repair",
            "--strip",
            "--plat",
            TAG,
            "--wheel-dir",
            built / "repaired",
            wheel,
            env=settings(),
        )
        (repaired,) = (built / "repaired").glob("*.whl")
        return repaired.replace(folder / repaired.name)


def check(folder):
    """What others ask of an upload."""
    run(sys.executable, "-m", "twine", "check", "--strict", *folder.glob("*.*"))
    run(sys.executable, "-m", "check_wheel_contents", *folder.glob("*.whl"))


def test(wheel, python):
    """The tests, with the wheel installed and the source folder out of reach."""
    with tempfile.TemporaryDirectory() as scratch:
        python = environment(Path(scratch), python, f"{wheel}[test-kernels]")
        options = ["-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-m", "not long"]
        run(python, "-P", "-m", "pytest", *options, *(ROOT / name for name in TESTED), cwd=scratch)


def main(folder, *pythons):
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not pythons:
        build(folder, sys.executable)
    for python in pythons:
        with tempfile.TemporaryDirectory() as scratch:
            wheel = build(folder, environment(Path(scratch), python, "build"))
        test(wheel, python)
    check(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
