"""Standard streams that are closed, full or unread, and text that a terminal must not get raw."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from running import run, status_of

from fastembed import checkpoint
from fastembed._messages import printable
from fastembed.cli.streams import MAX_LINE
from fastembed.io import checkpoint as io_checkpoint

COMMAND = f"{sys.executable} -m fastembed"
TRAIN = f"{COMMAND} train text --steps 300 --out new"


def in_shell(folder, command):
    """A line for bash; its status is that of the first command in a pipe."""
    line = ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.uninstrumented
@pytest.mark.parametrize(
    ("redirection", "status"),
    [
        (">&-", 1),
        ("2>&-", 0),
        ("<&-", 0),
        ("<&- >&- 2>&-", 1),
        ("2>/dev/full", 0),
        (">/dev/full", 1),
        (">/dev/full 2>&1", 1),
        ("--quiet >&-", 0),
    ],
)  # fmt: skip
def test_training_is_saved_whatever_the_streams_are(folder, redirection, status):
    result = in_shell(folder, f"{TRAIN} {redirection}")
    assert result.returncode == status
    assert checkpoint.load(folder / "new")[1]["step"] == 300
    assert "Traceback" not in result.stderr
    if redirection == ">/dev/full":
        assert "standard output cannot be written: [Errno 28] No space left on device; at step 300 of 300" in result.stderr
    if redirection == ">&-":
        assert "standard output cannot be written: it is closed; at step 300 of 300" in result.stderr


@pytest.mark.uninstrumented
def test_training_that_nobody_reads_is_saved(folder):
    result = in_shell(folder, f"{TRAIN} | true")
    assert result.returncode == 141
    assert checkpoint.load(folder / "new")[1]["step"] == 300
    assert result.stderr.splitlines()[-1].endswith("Broken pipe; at step 300 of 300; checkpoint: new")
    result = in_shell(folder, f"{TRAIN}2 2>&1 >/dev/null | true")  # the progress alone
    assert result.returncode == 0
    assert checkpoint.load(folder / "new2")[1]["step"] == 300


@pytest.mark.uninstrumented
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("sample model --samples 1000000000 | head -1", 141),
        ("neighbors model >/dev/full", 1),
        ("neighbors model >&-", 1),
        ("info >&-", 1),
        ("info model --json >&-", 1),
        ("sample model >&-", 1),
        ("bench --list >&-", 1),
        ("info model | true", 141),
        ("info missing 2>&-", 2),
        ("info missing 2>/dev/full", 2),
        ("train --steps 0 2>&-", 2),
        ("--help >/dev/full", 1),
        ("--version >/dev/full", 1),
        ("bench --list >/dev/full", 1),
    ],
)
def test_commands_end_when_their_output_cannot_be_written(folder, command, status):
    result = in_shell(folder, f"{COMMAND} {command}")
    assert result.returncode == status
    assert result.stderr.count("\n") == (status == 1)
    assert len(result.stdout) < 100


@pytest.mark.uninstrumented
def test_help_and_wrong_arguments_with_a_closed_output(folder):
    for command, status in (("--version", 1), ("info --help", 1), ("--quiet", 2)):
        result = in_shell(folder, f"{COMMAND} {command} >&-")
        assert result.returncode == status
        assert ("standard output cannot be written: it is closed" in result.stderr) is (status == 1)


@pytest.mark.uninstrumented
def test_no_file_gets_the_number_of_a_closed_stream(folder):
    script = (
        "from fastembed import cli; cli.main(['info']); file = open('number', 'w'); file.write(f'{file.fileno()}'); file.close()"
    )
    assert in_shell(folder, f'{sys.executable} -c "{script}" <&- >&- 2>&-').returncode == 0
    assert int((folder / "number").read_text()) > 2


def test_printable_text():
    harmless = "naïve 日本語\u3000\xa0 \\x1b a\u200db 🙂"
    assert printable(harmless) == harmless
    assert printable("\x1b[2J\r\b\t\n\0\x7f\x9b\u2028\u202e\ufeff\ud800") == (
        r"\x1b[2J\r\x08\t\n\x00\x7f\x9b\u2028\u202e\ufeff\ud800"
    )


def test_control_characters_are_escaped_everywhere(folder, capsys):
    (folder / "odd").write_text("\x1b[31ma\x9b2J\u202eb\r\x07c\n" * 3, encoding="utf-8")
    for command in (
        ["train", "odd", "--steps", "9", "--out", "out\x1b"],
        ["sample", "out\x1b"],
        ["neighbors", "out\x1b"],
        ["neighbors", "out\x1b", "\x1b"],
        ["info", "out\x1b"],
    ):
        assert status_of(command) == 0
        shown = capsys.readouterr().out
        assert r"\x1b" in shown or r"\u001b" in shown
        assert shown == shown.translate({ord(c): None for c in "\x1b\x9b\u202e\r\x07"})
    for command in (["train", "no\x1b"], ["info", "out\x1b", "\x1b"], ["neighbors", "out\x1b", "\x9b\x1b"], ["\x1b"]):
        assert status_of(command) == 2
        shown = capsys.readouterr().err
        assert r"\x1b" in shown
        assert shown.isascii()
        assert "\x1b" not in shown


def test_tokens_of_a_crafted_checkpoint(folder, capsys):
    tensors, description = checkpoint.load("model")
    for characters in (["a", "b", "c", "\x1b[2J"], ["", "a", "b", "c"], ["a", "b", "c", 5], "abcd", ["d", "c", "b", "a"]):
        checkpoint.save("crafted", tensors, description | {"characters": characters})
        expected = 0 if characters == "abcd" else 2
        for command in ("sample", "neighbors"):
            assert status_of([command, "crafted"]) == expected
            assert expected == 0 or "crafted does not describe a training run" in capsys.readouterr().err
    checkpoint.save("crafted", tensors, description | {"characters": ["\n", "\x1b", "a", "\ud800"]})
    assert status_of(["sample", "crafted", "--samples", "50"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 50 == shown.count("sample ")
    assert all(escape in shown for escape in (r"\n", r"\x1b", r"\ud800"))


def test_messages_are_bounded(folder, capsys):
    long = "x" * 100_000
    (folder / "wide").write_text("".join(map(chr, range(0x4E00, 0x9000))))
    assert status_of(["train", "wide", "--steps", "1", "--samples", "1", "--n-embd", "4", "--out", "wide.out"]) == 0
    checkpoint.save("names", {f"{long}{n}": np.zeros(2) for n in range(5)}, {long: long})
    capsys.readouterr()
    for command in (
        ["neighbors", "wide.out", "?"],
        ["neighbors", "wide.out", long],
        ["train", "--steps", long],
        ["train", "--steps", "9" * 5000],
        ["train", "--seed", "9" * 4000],
        ["train", "--lr", long],
        ["train", "--dtype", long],
        ["train", long],
        ["train", "--out", long],
        ["train", "--resume", long],
        ["train", "--resume", "model", "--n-embd", "9" * 4000],
        ["train", "text", "--stop-at", "9" * 4000],
        ["train", "text", long],
        ["sample", "names"],
        ["bench", long],
        ["bench", "--peers", long],
        ["bench", "--threads", "1" * 5000],
        ["bench", "--plot", long],
        [long],
    ):
        assert status_of(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert len(line) <= MAX_LINE, command
    assert status_of(["info", "names"]) == 0
    assert all(len(line) < 200 for line in capsys.readouterr().out.splitlines())


def test_progress_and_output_of_a_plain_run_are_whole(folder):
    result = run("train", "text", "--steps", 100, cwd=folder)
    assert (result.returncode, result.stdout.count("\nsample ")) == (0, 20)
    assert result.stderr.startswith("step   100 / 100  loss ")


@pytest.mark.parametrize(("action", "status"), [("always", 0), ("error", 2)])
def test_warnings_are_lines_too(folder, capsys, monkeypatch, action, status):
    def warning(path, progress):
        warnings.warn(f"{path} is \x1b odd", UserWarning, stacklevel=1)
        return {}, None

    monkeypatch.setattr(io_checkpoint, "statistics", warning)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        assert status_of(["info", "model"]) == status
    start = "fastembed: " if status == 0 else "fastembed info: error: "
    assert capsys.readouterr().err == rf"{start}model is \x1b odd" + "\n"
