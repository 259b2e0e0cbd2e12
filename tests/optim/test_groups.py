"""Options of groups, learning rates at their limits, and options that change in a run."""

import copy
import operator
import pickle

import numpy as np
import pytest
from common import DTYPES, lists, same_bits
from optimizers import MAKE, batches, like_of, resumed_by_copy, resumed_by_pickle, snapshot, train

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference


def test_groups_have_options_of_their_own():
    a, b = fe.Embedding(4, 2, dtype="float64", rng=0), fe.Embedding(4, 2, dtype="float64", rng=0)
    opt = fe.optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5, "weight_decay": 0.1}], lr=0.1)
    before = a.weight.copy()
    for layer in (a, b):
        layer.backward(np.ones((1, 2)), [1])
    opt.step()
    assert np.allclose(a.weight[1], before[1] - 0.1)
    assert np.allclose(b.weight[1], before[1] - 0.5 * (1 + 0.1 * before[1]))
    assert np.allclose(b.weight[2], before[2] * (1 - 0.5 * 0.1))
    opt.param_groups[1]["lr"] = 0.0
    b_before = b.weight.copy()
    opt.step()
    assert same_bits(b.weight, b_before)
    opt.param_groups[0]["lr"] = -1.0
    a_before = a.weight.copy()
    with pytest.raises(ValueError, match="lr must be from"):
        opt.step()
    assert same_bits(a.weight, a_before)
    with pytest.raises(KeyError, match="momentun"):
        fe.optim.SGD([{"params": [a], "momentun": 0.9}])


def test_every_group_has_every_option():
    """`param_groups` is what a schedule reads and writes in PyTorch, for options given or not."""
    a, b, c = (fe.Embedding(4, 2, dtype="float64", rng=0) for _ in range(3))
    opt = fe.optim.Adam([{"params": a}, {"params": b, "lr": 0.5}, {"params": c}], lr=0.1, betas=(0.8, 0.9))
    groups = opt.param_groups
    assert [group["lr"] for group in groups] == [0.1, 0.5, 0.1]
    assert all(group["betas"] == (0.8, 0.9) and group["weight_decay"] == 0.0 for group in groups)
    for group in groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * 2
    assert ([group["lr"] for group in groups], opt.lr) == ([0.2, 1.0, 0.2], 0.2)
    opt.lr = 0.3
    assert ([group["lr"] for group in groups], opt.lr) == ([0.3, 1.0, 0.3], 0.3)
    groups[2]["lr"] = 0.4
    assert opt.lr == 0.3
    again = fe.optim.Adam([{"params": x, **y} for x, y in ((copy.copy(a), {}), (copy.deepcopy(b), {"lr": 9.0}))], lr=7.0)
    with pytest.raises(ValueError, match="groups of the state must be a list of 2"):
        again.load_state_dict(opt.state_dict())
    other = [fe.Embedding(4, 2, dtype="float64", rng=0) for _ in range(3)]
    again = fe.optim.Adam([{"params": other[0], "lr": 5.0}, {"params": other[1]}, {"params": other[2]}])
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert [group["lr"] for group in again.param_groups] == [0.3, 1.0, 0.4]
    copied = copy.deepcopy(opt)
    copied.lr = 0.6
    assert [group["lr"] for group in copied.param_groups] == [0.6, 1.0, 0.6]
    assert [group["lr"] for group in groups] == [0.3, 1.0, 0.4]
    groups[0]["lr"] = "fast"
    with pytest.raises(TypeError, match="lr must be a number, got 'fast'"):
        opt.step()
    with pytest.raises(AttributeError, match="no option learning_rate"):
        opt.learning_rate  # noqa: B018


def test_two_optimisers_take_turns_on_one_layer():
    rng = np.random.default_rng(0)
    layer = fe.Embedding(6, 3, dtype="float64", rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist())
    opts = [MAKE[name](layer) for name in ("Adam", "SGD")]
    like_opts = [like_of(opt, like, "float64") for opt in opts]
    for k, (ids, dout) in enumerate(batches(rng, 20, 6, (2,), 3)):
        layer.backward(dout, ids, optimizer=opts[k // 3 % 2])
        like.backward(*lists(dout, ids), optimizer=like_opts[k // 3 % 2])
    assert same_bits(layer.weight, np.array(like.weight))


TOO_LARGE = [
    ("SGD", "float32", {"lr": 1e38}, 1e10),
    ("Adagrad", "float32", {"lr": 1e38}, 1e10),
    ("RowWiseAdagrad", "float32", {"lr": 1e38, "weight_decay": 0.1}, 4.0),
    ("SparseAdam", "float16", {"lr": 2e38}, 10.0),
    ("Adam", "float32", {"lr": 1e38}, 1.0),  # over 1 - beta1
    ("AdamW", "float32", {"lr": 1e30, "weight_decay": 1e10}, 1.0),
    ("SGD", "float64", {"lr": 1e38}, 1e300),
]


@pytest.mark.parametrize(("name", "dtype", "options", "factor"), TOO_LARGE)
def test_a_learning_rate_that_is_infinite_in_the_dtype_is_refused(name, dtype, options, factor):
    """Times a gradient of zero it is NaN, in rows that no batch has touched."""
    layer = fe.Embedding(4, 2, dtype=dtype, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype=dtype)
    factors = [1.0, factor, 0.5, 0.0]
    opt, like_opt = (
        getattr(of, name)(item, **options, lr_multipliers=factors) for of, item in ((fe.optim, layer), (reference.optim, like))
    )
    before = snapshot(layer, opt)
    text = r"the learning rate of step 1 must be from 0\.0 to .*e\+(38|308), got .*"
    with pytest.raises(ValueError, match=text) as error:
        layer.backward(np.ones((1, 2)), [2], optimizer=opt)
    like.backward([[1.0, 1.0]], [2])
    with pytest.raises(ValueError, match=text) as like_error:
        like_opt.step()
    assert str(error.value) == str(like_error.value)
    assert snapshot(layer, opt) == before
    assert like.weight == layer.weight.tolist()
    opt.lr_multipliers = None
    opt.lr = 0.1 if name != "AdamW" else 1e-12
    train(layer, opt, [([2], np.ones((1, 2), layer.weight.dtype if dtype != "float16" else "f4"))])


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam", "AdamW"])
def test_the_largest_learning_rates_agree_with_the_reference(name):
    rng = np.random.default_rng(0)
    layer = fe.Embedding(6, 3, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype="float32")
    factors = [1.0, 0.0, 3.4, 3.4, 1e-3, 1.0]
    opt, like_opt = (
        getattr(of, name)(item, lr=1e37, lr_multipliers=factors, dtype="float32")
        if of is reference.optim
        else getattr(of, name)(item, lr=1e37, lr_multipliers=factors)
        for of, item in ((fe.optim, layer), (reference.optim, like))
    )
    with np.errstate(all="ignore"):
        for ids, dout in batches(rng, 12, 6, (2,), 3, "float32"):
            layer.backward(dout, ids, optimizer=opt)
            like.backward(*lists(dout, ids), optimizer=like_opt)
    assert same_bits(layer.weight, np.array(like.weight, "float32"))


CHANGES = {
    "SGD": {"momentum": (0.0, 0.5, 0.9), "nesterov": (True, False), "weight_decay": (0.0, 0.01), "dampening": (0.0, 0.4)},
    "Adagrad": {"lr_decay": (0.0, 0.1), "eps": (1e-10, 1e-3), "weight_decay": (0.0, 0.01)},
    "Adam": {"betas": ((0.9, 0.999), (0.0, 0.5), (0.5, 0.0)), "eps": (1e-30, 1e-3), "weight_decay": (0.0, 0.01)},
    "AdamW": {"betas": ((0.9, 0.999), (0.99, 0.1)), "eps": (1e-30, 1e-3), "weight_decay": (0.0, 0.5)},
}
for _changes in CHANGES.values():
    _changes["maximize"] = (False, True)


@pytest.mark.slow_on_reference
@pytest.mark.parametrize("masters", [False, True])
@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "bfloat16"])
@pytest.mark.parametrize("name", list(CHANGES))
def test_options_tables_and_owners_that_change_in_mid_run(name, dtype, masters):
    """Pending updates have the options of their steps, through changes of size and of owner."""
    rng = np.random.default_rng(len(name) + masters)
    layer = fe.Embedding(7, 5, dtype=dtype, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype=dtype)
    opt = getattr(fe.optim, name)(layer, master_rows=masters)
    like_opt = getattr(reference.optim, name)(like, master_rows=masters)
    for step in range(60):
        changed = {"lr": float(rng.choice([0.0, 1e-38, 1e-3, 0.1, 30.0]))}
        option = list(CHANGES[name])[rng.integers(len(CHANGES[name]))]
        changed[option] = CHANGES[name][option][rng.integers(len(CHANGES[name][option]))]
        for key, value in changed.items():
            opt.param_groups[0][key] = value
            setattr(like_opt, key, value)
            assert getattr(opt, key) == value
        n = len(layer.weight) if step % 20 != 13 else int(rng.integers(3, 9))
        if n != len(layer.weight):
            layer.resize(n)
            like.resize(n)
        if step % 20 == 7:
            layer, opt = (resumed_by_pickle, resumed_by_copy)[step % 3 == 0](layer, opt, name)
        ((ids, dout),) = batches(rng, 1, n, (2,), 5, "float64" if dtype == "float64" else "float32")
        train(layer, opt, [(ids, dout)], fused=step % 3 != 0)
        like.backward(*lists(dout, ids), optimizer=like_opt)
    assert same_bits(layer.weight, np.array(like.weight).astype(layer.dtype))


def test_names_typed_wrong_are_errors():
    opt = fe.optim.Adam(fe.Embedding(3, 2, rng=0))
    known = "Adam has no option learning_rate; it has lr, betas, eps, weight_decay, maximize, trainable_rows, lr_multipliers"
    with pytest.raises(AttributeError, match=known):
        opt.learning_rate = 0.1
    with pytest.raises(AttributeError, match=known):
        opt.learning_rate  # noqa: B018
    with pytest.raises(AttributeError, match="SGD has no option betas; it has lr, momentum"):
        fe.optim.SGD(fe.Embedding(3, 2)).betas = (0.9, 0.99)
    opt.lr, opt.trainable_rows = 0.5, [1]
    assert (opt.lr, opt.trainable_rows) == (0.5, (1,))


def test_items_are_fixed():
    opt = fe.optim.SGD(fe.Embedding(2, 1), lr=0.1)
    for change in (lambda: opt.items.append(fe.Embedding(2, 1)), opt.items.clear):
        with pytest.raises(TypeError, match="keeps the groups and items that it was made with"):
            change()


def test_groups_are_fixed():
    a, b = fe.Embedding(3, 2, rng=0), fe.Embedding(3, 2, rng=0)
    opt = fe.optim.Adam([{"params": a}])
    for fixed, new in ((opt.param_groups, {"params": b}), (opt.param_groups[0]["params"], b)):
        for change in (
            lambda of=fixed, x=new: of.append(x),
            lambda of=fixed, x=new: of.extend([x]),
            lambda of=fixed, x=new: operator.iadd(of, [x]),
            lambda of=fixed, x=new: operator.setitem(of, 0, x),
            lambda of=fixed: of.pop(),
            lambda of=fixed: of.sort(key=id),
            lambda of=fixed: operator.imul(of, 2),
        ):
            with pytest.raises(TypeError, match="an optimiser keeps the groups and items that it was made with: make one of all"):
                change()
    assert (opt.items, len(opt.param_groups), opt.param_groups[0]["params"]) == ([a], 1, [a])
    for name in ("param_groups", "items"):
        with pytest.raises(AttributeError, match="param_groups and items are fixed"):
            setattr(opt, name, [])
    for again in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert again.param_groups[0]["lr"] == 1e-3
        again.lr = 0.5
        assert again.param_groups[0]["lr"] == again._options_of(0)["lr"] == 0.5


def test_arrays_are_no_items():
    layer = fe.Embedding(3, 2, rng=0)
    for given in (layer.parameters(), [layer.weight], [{"params": layer.parameters()}]):
        with pytest.raises(TypeError, match=r"item 0 must be .* ndarray: give the layer, not its parameters\(\), or Parameter"):
            fe.optim.Adam(given)
    with pytest.raises(TypeError, match=r"item 0 must be a layer or a Parameter, got str: give the layer"):
        fe.optim.Adam(layer.state_dict())
    of_torch = type("Parameter", (), {"__module__": "torch.nn.parameter"})()
    for given, what in (([of_torch], "item 0 must be a layer or a Parameter"), (of_torch, "expected a layer")):
        with pytest.raises(TypeError, match=rf"{what}.* got Parameter of PyTorch: fastembed\.adapters\.torch\.optim"):
            fe.optim.Adam(given)


def test_a_group_has_no_other_options():
    layer = fe.Embedding(3, 2, rng=0)
    group = fe.optim.Adam(layer).param_groups[0]
    for write in (
        lambda: group.__setitem__("typo", 1),
        lambda: group.update(lr=1.0, typo=1),
        lambda: group.setdefault("typo", 1),
        lambda: group.__ior__({"typo": 1}),
    ):
        with pytest.raises(KeyError, match="a parameter group has no option typo; it has lr, betas, eps"):
            write()
    group |= {"lr": 0.5, "trainable_rows": [1]}
    assert (group["lr"], group["trainable_rows"], group.setdefault("eps")) == (0.5, [1], 1e-8)
    again = pickle.loads(pickle.dumps(group))
    with pytest.raises(KeyError, match="typo"):
        again["typo"] = 1


def test_a_group_is_updated_wholly_or_not_at_all():
    group = fe.optim.Adam(fe.Embedding(3, 2, rng=0)).param_groups[0]
    before, other = dict(group), [fe.Embedding(3, 2, rng=0)]
    for write in (group.update, group.__ior__):
        with pytest.raises(KeyError, match="a parameter group has no option bogus"):
            write({"lr": 0.5, "bogus": 1})
        with pytest.raises(TypeError, match="params of a parameter group are fixed: make an optimiser of all layers"):
            write({"lr": 0.5, "params": other})
    with pytest.raises(TypeError, match="params of a parameter group are fixed"):
        group["params"] = other
    assert dict(group) == before
    group |= group


def test_a_group_keeps_its_params_and_options():
    layer = fe.Embedding(3, 2, rng=0)
    opt = fe.optim.SGD([{"params": layer, "trainable_rows": [1]}])
    group = opt.param_groups[0]
    before = dict(group)
    for remove in (
        lambda: group.__delitem__("lr"),
        lambda: group.__delitem__("params"),
        lambda: group.pop("momentum"),
        lambda: group.pop("lr", None),
        group.popitem,
        group.clear,
    ):
        with pytest.raises(TypeError, match=r"a parameter group keeps its params and lr, momentum, .* cannot be removed"):
            remove()
    assert dict(group) == before
    group["initial_lr"] = 0.5
    assert (group.pop("initial_lr"), group.pop("initial_lr", 3), group.pop("trainable_rows")) == (0.5, 3, (1,))
    for remove in (group.pop, group.__delitem__):
        with pytest.raises(KeyError, match="initial_lr"):
            remove("initial_lr")
    layer.backward(np.ones((1, 2)), [2], optimizer=opt)
    assert opt.step_counts == [1]


@pytest.mark.parametrize("value", [True, np.True_])
def test_a_boolean_is_no_learning_rate(value):
    layer = fe.Embedding(3, 2, rng=0)
    text = "must be a number, got (np.)?True"
    with pytest.raises(TypeError, match=f"lr {text}"):
        fe.optim.Adam(layer, lr=value)
    opt = fe.optim.SGD(layer)
    with pytest.raises(TypeError, match=f"momentum {text}"):
        opt.momentum = value
    for given, name in ((value, "lr"), (lambda step: value, r"lr\(0\)")):
        opt.param_groups[0]["lr"] = given
        before = layer.weight.tobytes()
        with pytest.raises(TypeError, match=f"{name} {text}"):
            layer.backward(np.ones((1, 2)), [2], optimizer=opt)
        assert layer.weight.tobytes() == before


def test_an_empty_state():
    layer = fe.Embedding(3, 2, rng=0)
    with pytest.raises(KeyError, match=r"missing names \['weight'\]; expected \['weight'\]"):
        layer.load_state_dict({})
    with pytest.raises(KeyError, match=r"missing names \['groups', 'items', 'lr', .*\]; expected"):
        fe.optim.SGD(layer, lr=1.0).load_state_dict({})
