"""Calls of the command line, in a process of their own and in this one."""

import os
import subprocess
import sys

from fastembed import cli


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fastembed", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def status_of(arguments):
    """The exit status of a call in this process, which takes no start of Python."""
    try:
        return cli.main(list(arguments))
    except SystemExit as left:
        return left.code
