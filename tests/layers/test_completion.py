"""What completion and reprs show: what users use, the groups of optimisers, where a table lies."""

import importlib

import numpy as np
import pytest

import fastembed as fe

pytestmark = pytest.mark.on_reference

INTERNAL = {
    "lock", "storage", "tables", "optimizers", "updating", "up_to_date", "batches", "moved_tables", "add_scaled", "reading",
    "gradient_of",
}  # fmt: skip


def test_the_package_shows_its_public_names():
    public = [name for name in dir(fe) if not name.startswith("_")]
    assert set(public) == {*fe.__all__, *fe._MODULES} - {"__version__"}
    assert all(getattr(fe, name) is not None for name in public if name not in ("distributed", "plots"))


@pytest.mark.parametrize(
    "made", [fe.Embedding(3, 2), fe.EmbeddingBag(3, 2), fe.TokenPositionEmbedding(3, 2, 2), fe.Parameter(np.ones(2))]
)
def test_layers_show_what_users_use(made):
    names = dir(made)
    assert not INTERNAL & set(names)
    assert not [name for name in names if name.startswith("_") and not name.startswith("__")]
    assert {"zero_grad", "trainable_rows"} <= set(names)
    if not isinstance(made, fe.Parameter):
        assert {"backward", "save", "nearest", "state_dict", "vocabulary", "resize", "training"} <= set(names)
    assert all(hasattr(made, name) for name in names if name != "__abstractmethods__")


@pytest.mark.parametrize("name", ["adapters.sklearn", *fe._MODULES])
def test_modules_show_their_public_names(name):
    try:
        module = importlib.import_module(f"fastembed.{name}")
    except ImportError as error:
        pytest.skip(str(error))
    assert dir(module) == sorted(module.__all__)


def test_tables_for_look_ups_show_what_users_use():
    table = fe.QuantizedEmbedding.from_float(np.ones((3, 2)))
    assert {"nearest", "bag", "vocabulary", "save", "packed"} <= set(dir(table))
    assert not {"output", "rows_in_place", "call"} & set(dir(table))
    assert [name for name in dir(fe.Vocabulary()) if name[0] != "_"] == ["ids", "names", "unk"]
    assert repr(fe.Vocabulary(["a"])) == "Vocabulary(1 name)"


def test_what_layers_give_shows_what_users_use():
    layer = fe.Embedding(3, 2, rng=0)
    hash = fe.NgramHash([3, 5], [[7, 11]], vocab_size=100, fill=0)
    for made, shown, hidden in (
        (layer.grads()["weight"], {"ids", "rows", "norm", "clip_", "to_coo"}, {"parts", "checked", "accumulate"}),
        (layer.build_index(), {"rebuild", "nbytes"}, {"update", "mark", "candidates"}),
        (hash, {"next_history", "n_rows", "from_config"}, {"arguments"}),
        (fe.Parameter(np.ones(2)), {"data", "grad"}, {"checked_grad"}),
    ):
        assert shown <= set(dir(made))
        assert not hidden & set(dir(made))


def test_only_a_layer_with_one_table_is_an_array(tmp_path):
    layer = fe.Embedding(3, 2, rng=0)
    assert np.asarray(layer) is layer.weight
    with pytest.raises(TypeError, match=r"TokenPositionEmbedding is several arrays, wte, wpe: layer\.wte is one of them"):
        np.asarray(fe.TokenPositionEmbedding(3, 2, 2))
    with pytest.raises(TypeError, match=r"rows of this QuantizedEmbedding: dequantize\(\) returns one"):
        np.asarray(fe.QuantizedEmbedding.from_float(layer))
    np.save(tmp_path / "rows.npy", layer.weight)
    with fe.DiskTable(tmp_path / "rows.npy") as table, pytest.raises(TypeError, match="rows of this DiskTable: a call with all"):
        np.asarray(table)
    assert repr(table).endswith("dtype='float32', closed)")


def test_optimizers_show_their_options_and_groups():
    a, b = fe.Embedding(3, 2), fe.Embedding(3, 2)
    opt = fe.optim.SGD([{"params": a}, {"params": b, "lr": 0.5}], lr=0.1)
    assert {"lr", "momentum", "step", "zero_grad", "param_groups", "state_dict", "trainable_rows"} <= set(dir(opt))
    assert not {"scalars", "rule", "add_resized", "_state", "train_together"} & set(dir(opt))
    assert repr(opt).startswith("SGD(2 items, lr=0.1, momentum=0.0,")
    assert repr(opt).endswith("maximize=False, groups=[{}, {'lr': 0.5}])")
    assert repr(fe.optim.SGD([a])).startswith("SGD(1 item, lr=")
    assert "groups" not in repr(fe.optim.SGD([a]))


def test_mapped_tables_show_their_file(tmp_path):
    path = tmp_path / "table.npy"
    np.save(path, np.ones((3, 2)))
    for kind in (fe.Embedding, fe.EmbeddingBag):
        with kind.open(path, "r+") as layer:
            shown = repr(layer)
            assert shown.endswith(f"path={str(path)!r}, mode='r+')")
        assert repr(layer) == f"{shown[:-1]}, closed)"
    assert "path" not in repr(fe.Embedding(3, 2))
