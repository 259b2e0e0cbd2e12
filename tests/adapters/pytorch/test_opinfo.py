"""PyTorch's own samples of embedding and embedding_bag, its tests of the modules, and N draws of
arguments in short."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
samples = pytest.importorskip(
    "torch.testing._internal.common_methods_invocations", reason="PyTorch's own tests cannot be imported", exc_type=Exception
)

import torch.nn.functional as F  # noqa: E402
from torch.testing._internal import common_nn  # noqa: E402
from torch_draws import compare  # noqa: E402

import fastembed.adapters.torch as ft  # noqa: E402
from fastembed.adapters.torch import functional  # noqa: E402

OPERATORS = {op.name: op for op in samples.op_db if op.name in ("nn.functional.embedding", "nn.functional.embedding_bag")}


def outcome(function, sample, dtype):
    """Result and gradients, computed in that dtype; the samples are of the order (weight, ids)."""

    def leaf(tensor):
        return tensor.detach().to(dtype, copy=True).requires_grad_(tensor.requires_grad)

    weight, options = leaf(sample.input), dict(sample.kwargs)
    if "max_norm" in options and dtype is not sample.input.dtype:  # what is written into the table is rounded
        scaled = sample.input.detach().clone()
        torch.embedding_renorm_(scaled, sample.args[0], options.pop("max_norm"), options.pop("norm_type", 2.0))
        weight = scaled.to(dtype)
    weights = options.get("per_sample_weights")
    if weights is not None:
        options["per_sample_weights"] = weights = leaf(weights)
    result = function(sample.args[0], weight, **options)
    if result.requires_grad:
        result.backward(torch.linspace(-1, 1, result.numel()).reshape(result.shape).to(sample.input.dtype).to(dtype))
    grads = [tensor.grad.to_dense() for tensor in (weight, weights) if tensor is not None and tensor.grad is not None]
    return [value.to(sample.input.dtype) for value in (result.detach(), weight.detach(), *grads)]


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("name", list(OPERATORS))
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_pytorchs_samples(name, requires_grad, dtype):
    ours, theirs = (getattr(module, name.rpartition(".")[2]) for module in (functional, F))
    all_samples = list(OPERATORS[name].sample_inputs("cpu", dtype, requires_grad=requires_grad))
    assert len(all_samples) >= 3
    exact = torch.float64 if dtype is torch.float64 else torch.float32  # PyTorch's own sums of halves are rounded one by one
    for sample in all_samples:
        torch.testing.assert_close(outcome(ours, sample, dtype), outcome(theirs, sample, exact))


@pytest.mark.usefixtures("every_size")
def test_pytorchs_samples_of_errors():
    errors = list(OPERATORS["nn.functional.embedding"].error_inputs("cpu"))
    assert errors
    for error in errors:
        with pytest.raises(error.error_type, match=error.error_regex):
            functional.embedding(error.sample_input.args[0], error.sample_input.input, **error.sample_input.kwargs)


MODULES = [
    case
    for case in (*common_nn.module_tests, *common_nn.get_new_module_tests())
    if (case.get("module_name") or case.get("fullname", "")).startswith("Embedding")
]


@pytest.mark.parametrize("case", MODULES, ids=lambda case: case.get("desc") or case.get("fullname"))
def test_pytorchs_tests_of_the_modules(case):
    construct = case.get("constructor") or getattr(torch.nn, case.get("module_name", ""))
    theirs = construct(*case.get("constructor_args", ()))
    ours = ft.convert(copy.deepcopy(theirs))
    assert isinstance(ours, ft.Embedding | ft.EmbeddingBag)
    ids = case["input_fn"]()
    results = [module(*ids) if isinstance(ids, tuple) else module(ids) for module in (ours, theirs)]
    torch.testing.assert_close(*results)
    for result in results:
        result.backward(torch.linspace(-1, 1, result.numel()).reshape(result.shape))
    grads = [module.weight.grad for module in (ours, theirs)]
    assert len({grad.is_sparse for grad in grads}) == 1
    torch.testing.assert_close(*(grad.to_dense() for grad in grads))


def test_three_hundred_draws():
    assert 10 < sum(compare.check(7, case) for case in range(300)) < 100


def test_a_wrong_answer_is_found(monkeypatch):
    monkeypatch.setattr(functional.ops, "look_up", lambda weight, ids: weight.detach()[ids.long()] + 1)
    with pytest.raises(AssertionError, match="result"):
        [compare.check(7, case) for case in range(300)]
