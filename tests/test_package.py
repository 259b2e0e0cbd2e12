"""What is shipped: an sdist that builds, a wheel that holds what is needed and nothing else."""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import fastembed
from fastembed import _version, microgpt

ROOT = Path(__file__).parents[1]
COMPILED = {path.stem for path in ROOT.glob("fastembed/_kernels/*.pyx")}


def checked_run(*command, **options):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def pip_for(environment, *arguments, **options):
    """The pip of this Python for an environment without one, which takes seconds to install."""
    return checked_run(sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "--quiet", *arguments, **options)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The files that git tracks or would, without what a build made."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the git checkout, to tell sources from what a build made")
    folder = tmp_path_factory.mktemp("source")
    names = checked_run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in names:
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """A Python that has what pyproject.toml says that the build needs, and nothing else."""
    folder = tmp_path_factory.mktemp("builder")
    venv.create(folder)
    with open(ROOT / "pyproject.toml", "rb") as file:
        needed = tomllib.load(file)["build-system"]["requires"]
    pip_for(folder, "install", "--no-compile", *needed)
    return folder / "bin" / "python"


def built_sdist(source, builder, folder):
    script = "from setuptools import build_meta; import sys; print(build_meta.build_sdist(sys.argv[1]))"
    checked_run(builder, "-c", script, folder, cwd=source)
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs Linux's list of locks")
def test_builds_in_one_folder_wait_for_each_other(source, builder):
    """As `make docs` and `make wheel` at once: both write build/cython."""
    fcntl = pytest.importorskip("fcntl")
    (source / "build").mkdir(exist_ok=True)
    with open(source / "build" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        inode = os.fstat(lock.fileno()).st_ino
        with subprocess.Popen([builder, "setup.py", "--name"], cwd=source, stdout=subprocess.PIPE) as other:
            while not any("->" in line and f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines()):
                assert other.poll() is None, "it did not wait"
                time.sleep(0.05)
            other.kill()


@pytest.fixture(scope="module")
def wheel(source, builder, tmp_path_factory):
    """The wheel that is built from the sdist, where nothing is but what the build needs.

    Without optimisation, which takes most of the time: the modules in this folder have it.
    """
    folder = tmp_path_factory.mktemp("dist")
    sdist = built_sdist(source, builder, folder)
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    for source in ("src_c/functions.h", *(f"fastembed/_kernels/{name}.pyx" for name in COMPILED)):
        assert any(name.endswith(source) for name in names), source
    assert not any(name.endswith((".so", *(f"{module}.c" for module in (*COMPILED, "_cyutility")))) for name in names)
    plain = os.environ | {"CFLAGS": "-O0"}
    pip_for(builder.parents[1], "wheel", "--no-build-isolation", "--no-deps", "-w", folder, sdist, env=plain)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        size = sum(info.file_size for info in archive.infolist() if not info.filename.endswith(".so"))
    tops = {name.split("/")[0] for name in names}
    assert tops == {"fastembed", f"microgpt_fastembed-{fastembed.__version__}.dist-info"}
    assert {"fastembed/py.typed", "fastembed/data/names.txt", "fastembed/data/NOTICE.md"} <= names
    assert {f"fastembed/_kernels/{module}.pyi" for module in COMPILED} <= names
    assert {Path(name).name.split(".")[0] for name in names if name.endswith(".so")} == COMPILED | {"_cyutility"}
    assert not any(name.endswith((".pyx", ".pxd", ".c", ".h")) for name in names)
    modules = [path for path in ROOT.glob("fastembed/_kernels/*.so") if path.name.split(".")[0] in COMPILED | {"_cyutility"}]
    size += sum(path.stat().st_size for path in modules)
    assert size <= 3_650_000  # not stripped; the README says 3.6 MB


def test_an_sdist_of_the_same_files_has_the_same_bytes(source, builder, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "*.egg-info"), copy_function=shutil.copyfile)
    one, other = (built_sdist(folder, builder, tmp_path / name) for name, folder in (("one", source), ("other", copy)))
    with tarfile.open(one) as archive:
        assert {(entry.mtime, entry.uid, entry.uname) for entry in archive} == {(1700000000, 0, "")}
    assert one.read_bytes() == other.read_bytes()


def test_a_wheel_has_a_bill_of_materials():
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "release" / "sbom.py")
    sbom = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sbom)
    metadata = importlib.metadata.metadata("microgpt-fastembed")
    document = sbom._document(metadata)
    assert document["metadata"]["component"]["version"] == fastembed.__version__
    assert [part["name"] for part in document["components"]] == ["numpy"]


def test_the_citation_has_the_version():
    assert f"\nversion: {fastembed.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_wheel_works_where_nothing_else_is(wheel, tmp_path):
    environment = tmp_path / "env"
    venv.create(environment)
    pip_for(environment, "install", "--no-compile", wheel)
    output = checked_run(environment / "bin" / "fastembed", "train", "--steps", 3, "--samples", 2, cwd=tmp_path)
    assert "32033 documents, 27 tokens" in output
    script = "import fastembed as fe; print(fe.__file__, fe.gather([[1.0], [2.0]], [1, 0]).tolist())"
    output = checked_run(environment / "bin" / "python", "-c", script, cwd=tmp_path)
    assert output.startswith(str(environment))
    assert output.endswith("[[2.0], [1.0]]\n")


def test_no_extension_names_a_folder_of_the_build_machine(wheel, tmp_path):
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("readelf is not installed")
    with zipfile.ZipFile(wheel) as archive:
        for name in (name for name in archive.namelist() if name.endswith(".so")):
            dynamic = checked_run(readelf, "-d", archive.extract(name, tmp_path))
            assert "NEEDED" in dynamic
            assert "RPATH" not in dynamic
            assert "RUNPATH" not in dynamic


def test_an_unbuilt_source_folder_says_what_to_run(source, builder):
    command = [builder, "-c", "import fastembed"]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "ImportError: the C extension of fastembed is not built" in result.stderr
    assert "make build" in result.stderr
    assert "pip install -e ." in result.stderr


def test_the_namesake_is_warned_of(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    (site / "fastembed-0.7.4.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(site)
    with pytest.warns(RuntimeWarning, match=r"fastembed-0\.7\.4 is installed in .* cannot share an environment"):
        _version.warn_of_namesake()


def test_names_are_the_ones_they_were_taken_from():
    digest = hashlib.sha256("\n".join(microgpt.read_documents()).encode()).hexdigest()
    assert digest in (Path(fastembed.__file__).parent / "data" / "NOTICE.md").read_text()
