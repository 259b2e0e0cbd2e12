"""The program of the guide that is there to be copied."""

import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import fastembed as fe

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_program_of_two_ranks_over_gloo(tmp_path):
    pytest.importorskip("torch")
    (program,) = re.findall(r"\n    import sys\n.*?destroy_process_group\(\)\n", PAGE.read_text(), flags=re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "ranks.py").write_text(textwrap.dedent(program).replace("29511", str(port)))
    command = [sys.executable, tmp_path / "ranks.py"]
    ranks = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    outputs = [rank.communicate(timeout=600)[0].split() for rank in ranks]
    layer = fe.Embedding(1000, 16, dtype="float64", rng=0)
    optimizer = fe.optim.Adagrad(layer, lr=0.1)
    for _ in range(3):
        ids = np.array([[0, 7], [500, 7], [1, 7], [501, 7]])
        layer.backward(layer(ids), optimizer=optimizer)
    assert outputs == [["0", "500", str(layer.weight[7, 0])], ["1", "500", str(layer.weight[7, 0])]]
