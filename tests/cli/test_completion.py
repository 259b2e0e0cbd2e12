"""What a shell completes by argcomplete, which asks the parser of the program."""

import os
import subprocess
import sys
import types

import pytest

from fastembed import cli


def test_argcomplete_gets_the_arguments_of_all_commands(monkeypatch):
    """It looks at them before a command is chosen, and so before they would be added."""
    seen = []
    monkeypatch.setitem(sys.modules, "argcomplete", types.SimpleNamespace(autocomplete=seen.append))
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    (program,) = seen
    (commands,) = (action for action in program._actions if action.choices)
    assert {*commands.choices} == {*cli._COMMANDS}
    options = {name: command.format_help() for name, command in commands.choices.items()}
    assert "--kind" in options["plot"]
    assert "--peers" in options["bench"]
    assert "remove" in options["shared"]


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("fastembed neigh", ["neighbors"]),
        ("fastembed train --stop", ["--stop-at"]),
        ("fastembed plot --kind los", ["losses"]),
        ("fastembed shared rem", ["remove"]),
        ("fastembed convert a b --to parq", ["parquet"]),
        ("fastembed info wo", ["words.txt"]),
    ],
)
def test_a_line_is_completed(line, completed, tmp_path):
    pytest.importorskip("argcomplete")
    (tmp_path / "words.txt").write_text("")
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    names = tmp_path / "completed"
    program = "import sys; from fastembed import cli; sys.argv[0] = 'fastembed'; cli.main()"
    environment = {**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(names)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=False)
    assert [name.strip() for name in names.read_text().split("\n")] == completed
