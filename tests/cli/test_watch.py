"""``train`` as it is watched, prompts, and what programs read."""

import json
import re
import sys

import pytest
from running import status_of

from fastembed import checkpoint
from fastembed.cli.watch import program, sparkline


def train(*options):
    return status_of(["train", "text", "--steps", "40", "--n-embd", "4", "--n-head", "2", "--out", "new", *options])


def test_what_is_shown_of_a_run(folder, capsys):
    (folder / "text").write_text("abc\nbcdabcdabc\ncab\n")
    assert train("--samples", "2") == 0
    shown = capsys.readouterr()
    assert "3 documents, 5 tokens, " in shown.out
    assert "\n1 of them are cut to the block of 8 tokens; --block-size 11 holds the longest\n" in shown.out
    (line,) = re.findall(r"^loss: (.*)$", shown.out, re.M)
    assert len(line) == 40
    assert re.search(rf"try next:\n  {program()} sample new --prompt [abcd]{{2}}\n  {program()} plot new\n", shown.out)
    assert re.search(r"^step +40 / 40  loss \d\.\d+  \d+ steps/s  [abcd]+$", shown.err, re.M)
    assert train("--block-size", "11", "--force") == 0
    assert "cut to" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "orig_argv", "shown"),
    [
        (["-m"], [".venv/bin/python", "-m", "fastembed"], ".venv/bin/python -m fastembed"),
        (["/a b/bin/fastembed"], ["/a b/bin/python", "/a b/bin/fastembed"], "'/a b/bin/fastembed'"),
        (["bin/fastembed"], ["python", "bin/fastembed"], "fastembed"),
    ],
)
def test_commands_to_copy_begin_as_the_program_was_started(argv, orig_argv, shown, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "fastembed").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "bin")
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    assert program() == shown


def test_watching_changes_nothing_of_the_run(folder, capsys):
    assert train("--losses", "1") == 0
    capsys.readouterr()
    assert train("--losses", "2", "--quiet", "--force") == 0
    assert (folder / "1").read_text() == (folder / "2").read_text()
    quiet = capsys.readouterr()
    assert quiet.out == quiet.err == ""


def test_a_line_of_the_loss(monkeypatch):
    assert sparkline([3, 2, 1]) == "\u2588\u2585\u2581"
    assert sparkline([1]) == "\u2581"
    assert len(sparkline(range(1000))) == 60
    assert sparkline([0.0] * 59 + [1.0]) == "\u2581" * 59 + "\u2588"
    monkeypatch.setattr("sys.stdout", None)
    assert sparkline([3, 1]) == "#_"


def test_prompts(folder, capsys):
    assert status_of(["sample", "model", "--prompt", "ca", "--samples", "5"]) == 0
    assert re.findall(r"^sample +\d: ca", capsys.readouterr().out, re.M) == [f"sample  {k}: ca" for k in range(1, 6)]
    for prompt, text in (("cz", "character 'z' at position 1 of prompt is not one of"), ("a" * 8, "prompt must have fewer")):
        assert status_of(["sample", "model", "--prompt", prompt]) == 2
        assert text in capsys.readouterr().err


def test_json(folder, capsys):
    def read(*command):
        assert status_of(command) == 0
        return json.loads(capsys.readouterr().out)

    assert status_of(["sample", "model", "--samples", "3"]) == 0
    lines = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert read("sample", "model", "--samples", "3", "--json") == lines
    near = read("neighbors", "model", "--json", "-k", "2")
    assert list(near) == ["a", "b", "c", "d", "<BOS>"]
    assert all(len(pairs) == 2 and pairs[0][1] >= pairs[1][1] for pairs in near.values())
    assert read("info", "--json")["backend"] in ("c", "reference")
    found = read("info", "model", "--json")
    assert found["tensors"]["wte"]["rows"] == 5
    assert found["description"]["step"] == 4


def test_a_summary(folder, capsys):
    assert status_of(["info", "model", "--summary"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "wte: 5 x 4 F64, 20 numbers" in lines
    n = sum(tensor.size for name, tensor in checkpoint.load("model")[0].items() if "." not in name or name.startswith("layer"))
    assert lines[-1] == f"27 tensors: {n} parameters, {2 * n} numbers of an optimiser's state"
    assert status_of(["info", "model", "--summary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tensors"]["wpe"] == {"shape": [8, 4], "dtype": "F64"}


def test_progress_of_statistics(folder):
    seen = []
    checkpoint.statistics("model", progress=lambda *done: seen.append(done))
    n_all = sum(tensor.nbytes for tensor in checkpoint.load("model")[0].values())
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (n_all, n_all)


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_a_picture_of_a_run(folder, capsys, suffix):
    pytest.importorskip("matplotlib")
    path = f"x.{suffix}"
    assert train("--plot", path, "--stop-at", "3") == 0
    assert capsys.readouterr().out.endswith(f"picture: {path}\n")
    assert (folder / path).read_bytes()[:4] in (b"GIF8", b"\x89PNG")
    assert train("--plot", path, "--force", "--quiet") == 0
    assert (folder / f"{path}.bak").exists()
    for arguments, text in (
        (["--plot", "x.jpeg", "--force"], "--plot must name a .gif or .png or .svg or .pdf file, got 'x.jpeg'"),
        (["--plot", path, "--out", "newer"], f"{path} is there already"),
        (["--plot", "y.png", "--losses", "y.png", "--force"], "--losses and --plot are the same file"),
    ):
        assert train(*arguments) == 2
        assert text in capsys.readouterr().err
