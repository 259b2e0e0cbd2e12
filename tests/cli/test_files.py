"""No command destroys a file of the user."""

import json
import os
import resource
import shutil

import pytest
from running import run, status_of

from fastembed import checkpoint
from fastembed.cli.outputs import OutputFile, is_same
from fastembed.cli.streams import UsageError
from fastembed.microgpt import GPT

LONG = "n" * 252


def contents(folder):
    """All files by name, with what is in them; temporary files would be among them."""
    regular = {path.name: path for path in folder.iterdir() if not path.is_symlink()}
    return {name: path.read_bytes() if path.is_file() else os.listdir(path) for name, path in regular.items()}


@pytest.fixture
def crowded(folder):
    """The folder, with more files for outputs and backups to meet."""
    for name in ("model.safetensors", "model.safetensors.bak", "losses", LONG):
        (folder / name).write_text("mine")
    (folder / "moved").write_bytes((folder / "text").read_bytes())
    shutil.copy("model", "protected")
    (folder / "protected").chmod(0o444)
    for name in ("with_bak", "with_folder", "with_link"):
        shutil.copy("model", name)
    (folder / "with_bak.bak").write_text("mine")
    (folder / "with_folder.bak").mkdir()
    (folder / "with_link.bak").symlink_to("losses")
    shutil.copy("model", "again")
    shutil.copy("model", "again.bak")
    (folder / "loop").symlink_to("loop")
    return folder


NAMES_OF_TEXT = ("text", "./text", "text.symlink", "text.hard")
NAMES_OF_MODEL = ("model", "model.symlink", "model.hard")
REFUSED = [
    *((f"{name} --losses {other}", "FILE and --losses are the same") for name in NAMES_OF_TEXT for other in NAMES_OF_TEXT),
    *((f"text --out {name}", "FILE and --out are the same file") for name in NAMES_OF_TEXT),
    *((f"--resume model --losses {name}", "--resume and --losses are the same file") for name in NAMES_OF_MODEL),
    *((f"--resume model --out {name}", "the text of --resume and --out are the same") for name in NAMES_OF_TEXT),
    *((f"--resume model --losses {name}", "the text of --resume and --losses are the same") for name in NAMES_OF_TEXT),
    ("moved --resume model --out text", "the text of --resume and --out are the same file"),
    ("moved --resume model --losses moved", "FILE and --losses are the same file"),
    ("text --out new --losses ./new", "--out and --losses are the same file"),
    ("text --out losses --losses losses", "--out and --losses are the same file"),
    ("--resume model --lr 0.5 --losses losses", "--lr 0.5 contradicts model, which has 0.01"),
    ("--resume model --steps 7 --losses losses", "--steps 7 contradicts model, which has 8"),
    ("--resume missing --losses losses --out losses", "missing: No such file or directory"),
    ("text --out with_folder", "would be kept as with_folder.bak, which is there and not a regular file"),
    ("text --out with_link", "would be kept as with_link.bak, which is there and not a regular file"),
    ("text --out loop", "cannot write loop: it is a link that leads to itself"),
    ("text --out new/", "new/ is a folder"),
    (f"text --out {'n' * 256}", "File name too long"),
]
REFUSED_WITH_FORCE = [
    ("--resume again.bak --out again", "again would be kept as again.bak, which is --resume"),
    ("with_bak.bak --out with_bak", "with_bak would be kept as with_bak.bak, which is FILE"),
    ("text --out with_bak --losses with_bak.bak", "with_bak would be kept as with_bak.bak, which is --losses"),
    ("--resume model --stop-at 3 --losses losses", "--stop-at must be between the steps taken, 4, and --steps 8"),
    ("missing --losses losses", "missing: No such file or directory"),
    ("text --n-embd 5 --losses losses", "n_embd must be a multiple of n_head"),
    ("text --lr 1e20 --steps 50 --out with_bak --losses losses", "the learning rate 1e+20 may be too large"),
    (f"text --out {LONG}", "File name too long"),  # that of the backup
]
REFUSED_WITHOUT_FORCE = [
    ("text", "model.safetensors is there already: name another file, or give --force"),
    ("--resume model", "model.safetensors is there already"),
    ("text --out new --losses losses", "--losses: losses is there already"),
    ("--resume model --out losses", "--out: losses is there already"),
    ("--resume protected --out protected", "protected is write-protected"),
    ("--resume with_bak --out with_bak", "with_bak.bak, which is there and no checkpoint"),
]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        *REFUSED,
        *((f"{arguments} --force", text) for arguments, text in REFUSED + REFUSED_WITH_FORCE),
        *REFUSED_WITHOUT_FORCE,
    ],
)
def test_what_would_lose_a_file_is_refused(crowded, capsys, arguments, text):
    before = contents(crowded)
    assert status_of(["train", *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert text in shown.err
    assert (shown.err + shown.out).count("\n") == 1 + ("documents" in shown.out)
    assert contents(crowded) == before


def test_the_files_of_the_benchmarks_are_protected_too(crowded, capsys):
    before = contents(crowded)
    for arguments, text in (
        ("--json losses", "--json: losses is there already"),
        ("--json text.symlink", "--json: text.symlink is there already"),
        ("--json new/where --force", "--json: cannot write new/where"),
        ("--plot losses --force", "--plot must name a .png file"),
    ):
        assert status_of(["bench", "one-token", "--quick", *arguments.split()]) == 2
        assert text in capsys.readouterr().err
    assert contents(crowded) == before
    assert status_of(["bench", "one-token", "--quick", "--peers", "python", "--json", "losses", "--force"]) == 0
    assert json.loads((crowded / "losses").read_text())["quick"]
    assert (crowded / "losses.bak").read_text() == "mine"


def test_force_replaces_and_keeps_one_backup(crowded):
    before = contents(crowded)
    for n_steps in (2, 3):
        old = (crowded / "model.safetensors").read_bytes()
        assert status_of(f"train text --steps {n_steps} --losses losses --force".split()) == 0
        assert checkpoint.load("model.safetensors")[1]["step"] == n_steps
        assert len((crowded / "losses").read_text().split()) == n_steps
        assert (crowded / "model.safetensors.bak").read_bytes() == old
    after = contents(crowded)
    assert after.keys() - before.keys() == {"losses.bak"}
    assert {name for name in before if before[name] != after[name]} == {"model.safetensors", "model.safetensors.bak", "losses"}


@pytest.mark.parametrize("name", NAMES_OF_MODEL)
def test_a_checkpoint_that_is_resumed_may_be_replaced(folder, capsys, name):
    before = contents(folder)
    assert status_of(f"train --resume model --out {name} --stop-at 6".split()) == 0
    assert f"{name} was there: the old file is {folder}/" in capsys.readouterr().out
    backup = f"{name.removesuffix('.symlink')}.bak"  # beside the file that the link leads to
    assert (folder / name).is_symlink() == name.endswith(".symlink")
    assert checkpoint.load(name)[1]["step"] == 6
    assert (folder / backup).read_bytes() == before["model"]
    assert (folder / "model.hard").read_bytes() == before["model"] or name == "model.hard"
    step_6 = (folder / name).read_bytes()
    assert status_of(f"train --resume {name} --out {name}".split()) == 0
    assert (folder / backup).read_bytes() == step_6
    assert contents(folder).keys() - before.keys() == {backup}


def test_a_backup_can_be_resumed(folder):
    os.rename("model", "model.bak")
    old = (folder / "model.bak").read_bytes()
    assert status_of(["train", "--resume", "model.bak", "--out", "model"]) == 0
    assert (folder / "model.bak").read_bytes() == old


def test_what_comes_meanwhile_is_kept(folder):
    file, path = OutputFile("--out", "out"), folder / "out"
    path.write_text("first of somebody else")
    file.write(lambda path: path.write_text("ours"))
    assert (path.read_text(), (folder / "out.bak").read_text()) == ("ours", "first of somebody else")
    file.write(lambda path: path.write_text("ours again"))
    path.write_text("second of somebody else")
    file.write(lambda path: path.write_text("and again"))
    assert (path.read_text(), (folder / "out.bak1").read_text()) == ("and again", "second of somebody else")
    assert file.kept == [folder / "out.bak", folder / "out.bak1"]


def test_a_failed_write_leaves_the_old_file_and_its_backup(crowded):
    def fail(path):
        path.write_text("half")
        raise OSError(28, "No space left on device", str(path))

    file, before = OutputFile("--out", "again", force=True), contents(crowded)
    with pytest.raises(OSError, match=r"^cannot write again: No space left on device$"):
        file.write(fail)
    assert contents(crowded) == before


def test_a_full_disk_is_found_before_the_first_step(folder):
    before = contents(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        result = run("train", "text", "--out", "new", "--steps", 100_000_000, cwd=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.returncode == 2
    assert "error: cannot write new: File too large" in result.stderr
    assert contents(folder) == before


@pytest.mark.parametrize("losses", ["lost/losses", "losses"])
def test_work_whose_folder_is_gone_is_saved_elsewhere(folder, monkeypatch, capsys, losses):
    def loss_and_removal(model, tokens, loss=GPT.loss):
        shutil.rmtree("lost", ignore_errors=True)
        return loss(model, tokens)

    (folder / "lost").mkdir()
    (folder / "temporary").mkdir()
    monkeypatch.setattr(GPT, "loss", loss_and_removal)
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    assert status_of(["train", "text", "--steps", "3", "--out", "lost/new", "--losses", losses]) == 2
    (rescued,) = (folder / "temporary").iterdir()
    shown = capsys.readouterr().err
    assert f"error: cannot write lost/new: no folder {folder}/lost that can be written; " in shown
    assert shown.endswith(f"checkpoint and losses are in {rescued}\n")
    assert checkpoint.load(rescued / "model.safetensors")[1]["step"] == 3
    assert len((rescued / "losses.txt").read_text().split()) == 3
    assert (folder / "losses").exists() == (losses == "losses")


def test_a_file_that_only_its_owner_may_replace(folder, monkeypatch):
    before = contents(folder)
    folder.chmod(0o1777)
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(UsageError, match="model belongs to another user"):
            OutputFile("--out", "model", force=True)
    assert contents(folder) == before
    OutputFile("--out", "model", force=True)


def test_a_link_of_a_folder_hides_no_file(folder):
    (folder / "there").mkdir()
    (folder / "here").symlink_to("there")
    assert is_same("here/new", "there/new")
    assert not is_same("here/new", "there/other")
    with pytest.raises(UsageError, match="no folder"):
        OutputFile("--out", "nowhere/new")


def test_names_that_are_not_utf_8(folder):
    name = os.fsdecode(b"\xff\x1b[31m")
    os.rename("text", name)
    assert status_of(["train", name, "--steps", "3", "--stop-at", "2", "--out", f"{name}.out"]) == 0
    result = run("train", "--resume", f"{name}.out", "--out", f"{name}.out", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert r"checkpoint: \udcff\x1b[31m.out" in result.stdout
    assert checkpoint.load(f"{name}.out")[1]["step"] == 3
    assert status_of(["train", name, "--out", name, "--force"]) == 2
