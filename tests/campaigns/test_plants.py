"""Each sanitizer, called as the Makefile calls it, sees a fault that was planted for it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plants import leaks

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "plants" / "plants.c"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="the sanitizers are those of gcc on Linux"),
    pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="another sanitizer is loaded already"),
]


def commands_of(target):
    """The commands of a target of the Makefile, on one line each; those before the last build."""
    found = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [line for line in found.replace("\\\n", " ").splitlines() if "FLAGS=" in line or "PYTHONMALLOC=" in line]


def run_plant(folder, target, plant):
    """Build the plants with the flags of a target, and call one in its surroundings."""
    *builds, run = commands_of(target)
    flags = re.search(r'CFLAGS="([^"]*)"', builds[0])[1].split() if builds else ["-g", "-O1"]
    (folder / "src_c").mkdir(exist_ok=True)
    source, library = folder / "src_c" / "plants.c", folder / "plants.so"
    shutil.copy(SOURCE, source)
    subprocess.run(["gcc", *flags, "-fPIC", "-shared", str(source), "-o", str(library), "-lpthread"], check=True)
    surroundings = re.split(r"\S*bin/(?:pytest|python) ", run)[0].replace(str(ROOT / "build"), str(folder))
    surroundings = surroundings.replace("log_path=build/leaks", f"log_path={folder}")
    script = f"import ctypes; ctypes.CDLL({str(library)!r}).{plant}()"
    command = f'{surroundings} {sys.executable} -c "{script}"'
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def has(library):
    """Whether gcc has a library of a sanitizer."""
    found = subprocess.run(["gcc", f"-print-file-name={library}"], capture_output=True, text=True, check=True).stdout
    return os.path.isabs(found.strip())


@pytest.mark.parametrize(
    ("target", "plant", "library", "says"),
    [
        ("sanitize-address", "overflow", "libasan.so", "heap-buffer-overflow"),
        ("sanitize-address", "undefined", "libubsan.so", "signed integer overflow"),
        ("sanitize-thread", "race", "libtsan.so", "data race"),
    ],
)
def test_a_sanitizer_sees_its_plant(tmp_path, target, plant, library, says):
    if not has(library):
        pytest.skip(f"gcc has no {library}")
    assert run_plant(tmp_path, target, "nothing").returncode == 0
    found = run_plant(tmp_path, target, plant)
    assert found.returncode != 0
    assert says in found.stderr


def test_the_leak_sanitizer_sees_its_plant(tmp_path):
    if not has("libasan.so"):
        pytest.skip("gcc has no libasan.so")
    for plant, is_seen in (("nothing", False), ("leak", True)):
        found = run_plant(tmp_path, "sanitize-leak", plant)
        assert found.returncode == 0, found.stderr  # reports fail later, if they name src_c/
        folder = tmp_path / plant
        folder.mkdir()
        for path in tmp_path.glob("report*"):
            path.rename(folder / path.name)
        assert bool(leaks.ours(folder)) == is_seen
        assert subprocess.run([sys.executable, leaks.__file__, str(folder)], check=False).returncode == is_seen


@pytest.mark.long
def test_valgrind_sees_its_plant(tmp_path):
    if not shutil.which("valgrind"):
        pytest.skip("there is no valgrind")
    assert run_plant(tmp_path, "valgrind", "nothing").returncode == 0
    assert run_plant(tmp_path, "valgrind", "overflow").returncode == 9
