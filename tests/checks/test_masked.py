"""Masked arrays are refused wherever an array is taken: their masks would be ignored."""

import numpy as np
import pytest

import fastembed as fe

pytestmark = pytest.mark.on_reference

ROWS = np.ma.array(np.ones((3, 2), "f4"), mask=[[0, 1], [0, 0], [0, 0]])
IDS = np.ma.array([0, 1], mask=[0, 1])
FLAT = np.ma.array([1.0, 2.0], mask=[0, 1])
NUMBERS = np.ma.array([1, 2, 3], mask=[0, 1, 0])
NAMES = np.ma.array(["a", "b"], mask=[0, 1])
ONE = np.ma.array(1, mask=True)


def layer(**options):
    return fe.Embedding(3, 2, rng=0, **options)


def positions():
    return fe.TokenPositionEmbedding(3, 4, 2, rng=0)


def step_with_gradient():
    parameter = fe.Parameter(np.ones(2))
    parameter.grad = FLAT
    fe.optim.SGD([parameter]).step()


def norm_of_rows():
    of = layer()
    of.backward(np.ones((1, 2), "f4"), [0])
    gradient = of.grads()["weight"]
    gradient.rows = np.ma.array(gradient.rows, mask=True)
    gradient.norm()


def load_state():
    optimizer = fe.optim.Adam(layer())
    state = optimizer.state_dict()
    state["items"][0]["exp_avg"] = {"weight": ROWS}
    optimizer.load_state_dict(state)


def load_torch_state():
    state = {"state": {0: {"step": 1, "exp_avg": ROWS, "exp_avg_sq": ROWS}}, "param_groups": [{"params": [0]}]}
    fe.optim.Adam(layer()).load_torch_state_dict(state)


USES = {
    "gather a table": lambda: fe.gather(ROWS, [0]),
    "gather ids": lambda: fe.gather(np.ones((3, 2)), IDS),
    "gather lists": lambda: fe.gather(np.ones((3, 2)), [IDS, IDS]),
    "gather masked": lambda: fe.gather(np.ones((3, 2)), [0, np.ma.masked]),
    "scatter_add values": lambda: fe.scatter_add(np.ones((3, 2), "f4"), [0, 1, 2], ROWS),
    "scatter_add to": lambda: fe.scatter_add(ROWS, [0], np.ones((1, 2), "f4")),
    "look up": lambda: layer()(IDS),
    "from_pretrained": lambda: fe.Embedding.from_pretrained(ROWS),
    "backward": lambda: layer().backward(ROWS, [0, 1, 2]),
    "set_rows": lambda: layer().set_rows([0, 1, 2], ROWS),
    "set_rows ids": lambda: layer().set_rows(IDS, 1.0),
    "load_state_dict": lambda: layer().load_state_dict({"weight": ROWS}),
    "resize": lambda: layer().resize(6, new_rows=ROWS),
    "nearest": lambda: layer().nearest(ROWS, 1),
    "nearest k": lambda: layer().nearest([0], ONE),
    "bag": lambda: fe.EmbeddingBag(3, 2, rng=0)(IDS.reshape(1, 2)),
    "offsets": lambda: fe.EmbeddingBag(3, 2, rng=0)([0, 1, 2], IDS),
    "weights": lambda: fe.EmbeddingBag(3, 2, mode="sum", rng=0)([[0, 1]], per_sample_weights=FLAT.reshape(1, 2)),
    "from_coo": lambda: fe.RowGrad.from_coo(FLAT, ([0, 1], [0, 1]), (3, 2)),
    "from_coo rows": lambda: fe.RowGrad.from_coo([1.0, 2.0], (IDS, [0, 1]), (3, 2)),
    "from_coo columns": lambda: fe.RowGrad.from_coo([1.0, 2.0], ([0, 1], IDS), (3, 2)),
    "Parameter": lambda: fe.Parameter(FLAT),
    "Parameter of lists": lambda: fe.Parameter([FLAT]),
    "trainable_rows": lambda: fe.optim.SGD(layer(trainable_rows=IDS)).step(),
    "lr_multipliers": lambda: fe.optim.SGD(layer(), lr_multipliers=NUMBERS.astype(float)).step(),
    "statistics": lambda: fe.table_statistics(ROWS),
    "lookups": lambda: fe.table_statistics(np.ones((3, 2)), NUMBERS),
    "hash_ids": lambda: fe.hash_ids(IDS, 10),
    "hashed names": lambda: fe.HashEmbedding(10, 2, rng=0, hash=len)(NAMES),
    "hashed objects": lambda: fe.HashEmbedding(10, 2, rng=0, hash=len)(NAMES.astype(object)),
    "vocabulary": lambda: fe.Vocabulary(NAMES),
    "vocabulary ids": lambda: fe.Vocabulary(["a", "b"]).ids(NAMES),
    "quantized": lambda: fe.QuantizedEmbedding.from_float(ROWS),
    "lengths": lambda: positions()([[0, 1]], lengths=ONE.reshape(1)),
    "mask": lambda: positions()([[0, 1]], mask=np.ma.array([[True, False]], mask=[[1, 0]])),
    "position ids": lambda: positions()([[0, 1]], IDS.reshape(1, 2)),
    "padding_idx": lambda: layer(padding_idx=ONE),
    "rows of a table": lambda: fe.Embedding(ONE, 2, rng=0),
    "seed": lambda: fe.Embedding(3, 2, rng=IDS),
    "gradient of a parameter": step_with_gradient,
    "rows of a gradient": norm_of_rows,
    "state": load_state,
    "state of PyTorch": load_torch_state,
}


@pytest.mark.parametrize("use", USES)
def test_masked_arrays(use):
    with pytest.raises(TypeError, match="mask"):
        USES[use]()
