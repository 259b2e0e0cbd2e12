"""A folder with a text, and a checkpoint of a run on it that is at step 4 of 8."""

import os

import pytest
from running import status_of


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    """It is the working folder; each file has a symbolic link, a hard link and a backup."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("abc\nbcd\ncab\n")
    assert status_of(["train", "text", "--steps", "8", "--stop-at", "4", "--out", "model", "--n-embd", "4", "--n-head", "2"]) == 0
    for name in ("text", "model"):
        (tmp_path / f"{name}.symlink").symlink_to(name)
        os.link(name, f"{name}.hard")
    capsys.readouterr()
    return tmp_path
