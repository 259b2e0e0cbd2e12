"""The optimisers over PyTorch against PyTorch's own: numbers, schedules, states, copies."""

import copy
import inspect
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402
from torch_draws.programs import N_ROWS, NAMES, WIDTH, Program, assert_close, ids_of, pair, train  # noqa: E402

import fastembed as fe  # noqa: E402
import fastembed.adapters.torch as ft  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
torch.sparse.check_sparse_tensor_invariants.disable()  # said explicitly, PyTorch does not warn that it is off

each = pytest.mark.parametrize("name", NAMES)

OPTIONS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    "Adagrad": {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.01, "initial_accumulator_value": 0.1},
    "Adam": {"lr": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.95)},
    "AdamW": {"lr": 0.05, "weight_decay": 0.1},
    "SparseAdam": {"lr": 0.05, "betas": (0.8, 0.95)},
}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("is_bag", [False, True])
@each
def test_a_hundred_steps_give_the_numbers_of_pytorch(name, is_bag, generator):
    ours, theirs = pair(name, OPTIONS[name], is_bag)
    for step in range(100):
        ids = ids_of(generator)
        losses = []
        for program in (ours, theirs):
            program.zero_grad()
            losses.append(program.backward(ids))
            program.step()
        assert losses[0] == pytest.approx(losses[1], rel=1e-11), step
    assert ours.table.weight.grad.is_sparse  # no dense gradient was made
    assert_close(ours, theirs)


@each
def test_signatures_defaults_and_classes_are_those_of_pytorch(name):
    ours, theirs = getattr(ft.optim, name), getattr(torch.optim, name)
    assert issubclass(ours, theirs)
    assert inspect.signature(ours) == inspect.signature(theirs)
    a, b = (of([nn.Parameter(torch.ones(2, 2))]) for of in (ours, theirs))
    assert a.defaults == b.defaults
    assert repr(a) == repr(b)
    with pytest.raises(ValueError, match="Invalid learning rate"):
        ours([nn.Parameter(torch.ones(2, 2))], lr=-1.0)


@each
def test_rows_outside_the_batch_are_left_pending_and_reading_brings_them_up_to_date(name, generator):
    ours, theirs = pair(name, OPTIONS[name])
    train((ours, theirs), generator, 5)
    table = ours.table._parameters["weight"]
    held = table.detach().clone()
    assert torch.equal(held, ours.table.weight.detach()) == (name == "SparseAdam")  # which moves no other rows
    assert_close(ours, theirs)


@each
def test_schedules_change_the_steps_to_come(name, generator):
    ours, theirs = pair(name, OPTIONS[name])
    schedules = [
        torch.optim.lr_scheduler.SequentialLR(
            program.opt,
            [
                torch.optim.lr_scheduler.LinearLR(program.opt, 0.1, total_iters=5),
                torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(program.opt, 7, eta_min=1e-4),
            ],
            milestones=[5],
        )
        for program in (ours, theirs)
    ]
    for _ in range(40):
        train((ours, theirs), generator, 1)
        for schedule in schedules:
            schedule.step()
    assert_close(ours, theirs)
    again = Program(ft, ft.optim, name, OPTIONS[name])
    again.opt.load_state_dict(ours.opt.state_dict())
    assert again.opt.param_groups[0]["initial_lr"] == OPTIONS[name]["lr"]
    assert again.opt.param_groups[0]["lr"] == theirs.opt.param_groups[0]["lr"]


@pytest.mark.parametrize("set_to_none", [True, False])
@each
def test_gradients_accumulate_and_are_clipped(name, set_to_none, generator):
    ours, theirs = pair(name, OPTIONS[name])
    for step in range(30):
        for program in (ours, theirs):
            program.zero_grad(set_to_none)
        for _ in range(step % 3 if set_to_none else step % 3 + 1):  # in some steps there is no gradient
            ids = ids_of(generator)
            for program in (ours, theirs):
                program.backward(ids)
        norm = ft.optim.clip_grad_norm_(ours.parameters(), 0.05, norm_type=(2.0, float("inf"), 1.0)[step % 3])
        dense = [p.grad.to_dense() for p in theirs.parameters() if p.grad is not None]
        expected = nn.utils.get_total_norm(dense, (2.0, float("inf"), 1.0)[step % 3])
        assert norm == pytest.approx(expected.item(), rel=1e-12)
        for p in theirs.parameters():
            if p.grad is not None:
                p.grad *= min(1.0, 0.05 / (expected.item() + 1e-6))
        ours.step()
        theirs.step()
    assert_close(ours, theirs)
    if name == "SparseAdam":
        return
    counts = [program.opt.state[program.table._parameters["weight"]].get("step") for program in (ours, theirs)]
    assert counts[0] == counts[1]


def test_what_clipping_finds_in_gradients_that_are_not_finite():
    layer = ft.Embedding(4, 2, sparse=True)
    layer(torch.tensor([1])).backward(torch.tensor([[float("inf"), 0.0]]))
    with pytest.raises(RuntimeError, match="non-finite"):
        ft.optim.clip_grad_norm_(layer.parameters(), 1.0, error_if_nonfinite=True)
    assert ft.optim.clip_grad_norm_(layer.weight, 1.0).isinf()


@each
def test_states_go_both_ways(name, generator):
    """In the middle of a run PyTorch's optimiser takes over, and fastembed's again."""
    ours, theirs = pair(name, OPTIONS[name])
    train((ours, theirs), generator, 20)
    other_ours, other_theirs = pair(name, OPTIONS[name])
    for source, target in ((ours, other_theirs), (theirs, other_ours)):
        for part in ("table", "head"):
            getattr(target, part).load_state_dict(getattr(source, part).state_dict())
        for own, new in zip(source.opts, target.opts, strict=True):
            saved = io.BytesIO()
            torch.save(own.state_dict(), saved)
            saved.seek(0)
            new.load_state_dict(torch.load(saved, weights_only=True))
    state, their_state = ours.opt.state_dict(), theirs.opt.state_dict()
    assert state["param_groups"] == their_state["param_groups"]
    assert state["state"].keys() == their_state["state"].keys()
    for number, of_parameter in state["state"].items():
        for kind, value in their_state["state"][number].items():
            assert type(of_parameter[kind]) is type(value)
            torch.testing.assert_close(of_parameter[kind], value, rtol=1e-11, atol=1e-14)
    train((ours, theirs, other_ours, other_theirs), generator, 20)
    for a, b in ((ours, theirs), (other_ours, theirs), (other_theirs, ours)):
        assert_close(a, b)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda program: pickle.loads(pickle.dumps(program))])
@each
def test_copies_go_on_alike_and_apart(name, copied, generator):
    ours, theirs = pair(name, OPTIONS[name])
    train((ours, theirs), generator, 15)
    twin = copied(ours)
    train((ours, theirs), generator, 15)
    assert_close(ours, theirs)
    generator.manual_seed(0)
    ids_of(generator, 15, 3, 4)
    train((twin,), generator, 15)
    assert torch.equal(twin.table.weight, ours.table.weight)
    assert twin.table.weight.grad.is_sparse


@each
def test_groups_are_added_and_have_options_of_their_own(name, generator):
    programs = []
    for modules, optimizers in ((ft, ft.optim), (nn, torch.optim)):
        torch.manual_seed(1)
        program = Program(modules, optimizers, name, OPTIONS[name])
        program.more = modules.Embedding(N_ROWS, WIDTH, sparse=name == "SparseAdam", dtype=torch.float64)
        program.opt.add_param_group({"params": program.more.parameters(), "lr": 0.3})
        programs.append(program)
    for step in range(20):
        ids = ids_of(generator)
        for program in programs:
            program.zero_grad()
            x = program.table(ids) + (program.more(ids) if step % 2 else 0)
            program.head(x).square().mean().backward()
            program.step()
    assert_close(*programs)
    torch.testing.assert_close(programs[0].more.weight, programs[1].more.weight, rtol=1e-12, atol=1e-14)


@each
def test_closures_and_hooks_run_once(name, generator):
    ours, theirs = pair(name, OPTIONS[name])
    ids, calls = ids_of(generator), []
    for program in (ours, theirs):
        program.opt.register_step_pre_hook(lambda *_: calls.append("before"))
        program.opt.register_step_post_hook(lambda *_: calls.append("after"))

        def closure(program=program):
            calls.append("closure")
            program.zero_grad()
            loss = program.loss(ids)
            loss.backward()
            return loss

        for _ in range(3):
            assert program.opt.step(closure).item() > 0
        assert calls == ["before", "closure", "after"] * 3
        calls.clear()
    assert_close(ours, theirs)


@pytest.mark.parametrize("first", [0, 1])
def test_a_tied_head_goes_on_working(first, generator):
    """A module of PyTorch reads the weight as it is in memory: then nothing is left pending."""
    programs = []
    for modules, optimizers in ((ft, ft.optim), (nn, torch.optim)):
        torch.manual_seed(2)
        table = modules.Embedding(N_ROWS, WIDTH, dtype=torch.float64)
        head = nn.Linear(WIDTH, N_ROWS, bias=False, dtype=torch.float64)
        head.weight = table.weight
        programs.append((table, head, optimizers.AdamW(table.parameters(), lr=0.05)))
    for step in range(first, 40):
        ids = ids_of(generator)
        losses = []
        for table, head, opt in programs:
            opt.zero_grad()
            x = table(ids)
            # tied in two steps of three: a gradient of rows and a dense one are added by autograd
            loss = head(x).square().mean() if step % 3 else x.square().mean()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-11), step
    torch.testing.assert_close(programs[0][0].weight, programs[1][0].weight, rtol=1e-12, atol=1e-14)


def test_amsgrad_is_left_to_pytorch(generator):
    ours, theirs = pair("AdamW", {"lr": 0.05, "amsgrad": True})
    train((ours, theirs), generator, 10)
    assert_close(ours, theirs)
    assert not ours.table.weight.grad.is_sparse
    ours.table.sparse = True  # a gradient of rows all the same
    train((ours, theirs), generator, 10)
    assert_close(ours, theirs)
    for program in (ours, theirs):
        program.opt.param_groups[0]["amsgrad"] = False
    train((ours, theirs), generator, 10)
    assert_close(ours, theirs)


def test_options_that_change_in_mid_run(generator):
    """Momentum that begins later, other decays, amsgrad with row-sparse gradients."""
    ours, theirs = pair("SGD", {"lr": 0.1, "dampening": 0.5})
    for changed in (
        {"momentum": 0.9},
        {"weight_decay": 0.1},
        {"momentum": 0.0},
        {"momentum": 0.5, "lr": 0.2},
        {"maximize": True},
    ):
        train((ours, theirs), generator, 7)
        for program in (ours, theirs):
            program.opt.param_groups[0].update(changed)
    train((ours, theirs), generator, 7)
    assert_close(ours, theirs)
    ours, theirs = pair("Adam", {"lr": 0.1})
    for changed in ({"decoupled_weight_decay": True, "weight_decay": 0.1}, {"eps": 0.0}, {"eps": 1e-4, "betas": (0.5, 0.6)}):
        train((ours, theirs), generator, 7)
        for program in (ours, theirs):
            program.opt.param_groups[0].update(changed)
    train((ours, theirs), generator, 7)
    assert_close(ours, theirs)


def test_rates_may_be_tensors(generator):
    ours, theirs = pair("AdamW", {"lr": torch.tensor(0.05, dtype=torch.float64), "betas": (0.5, 0.9)})
    train((ours, theirs), generator, 5)
    ours.opt.param_groups[0]["lr"].fill_(0.01), theirs.opt.param_groups[0]["lr"].fill_(0.01)
    train((ours, theirs), generator, 5)
    assert_close(ours, theirs)


def test_momentum_of_sparse_gradients_in_a_state_of_pytorch(generator):
    """PyTorch's SGD keeps the momentum of sparse gradients as a sparse tensor."""
    ours, theirs = pair("SGD", {"lr": 0.1, "momentum": 0.9})
    theirs.table.sparse = True
    train((theirs,), generator, 3)
    ours.table.load_state_dict(theirs.table.state_dict())
    ours.head.load_state_dict(theirs.head.state_dict())
    state = copy.deepcopy(theirs.opt.state_dict())
    assert state["state"][0]["momentum_buffer"].is_sparse
    ours.opt.load_state_dict(state)
    train((ours, theirs), generator, 5)
    assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_others_are_taken_in_their_order(dtype):
    """Unsorted indices with repetitions, whatever the flag says; and nothing is left pending."""
    weight = nn.Parameter(torch.ones(6, 2, dtype=dtype))
    opt = ft.optim.SGD([weight], lr=1.0, momentum=0.5)
    values = torch.tensor([[1e8, 1.0], [3.0, 1.0], [-1e8, 1.0], [1.0, 1.0]], dtype=dtype)
    weight.grad = torch.sparse_coo_tensor([[4, 1, 4, 4]], values, (6, 2), is_coalesced=True, check_invariants=False)
    table = fe.Embedding.from_pretrained(weight.detach().numpy().copy())
    table.backward(values.numpy(), [4, 1, 4, 4])
    fe.optim.SGD(table, lr=1.0, momentum=0.5).step()
    opt.step()
    assert weight.tolist() == table.weight.tolist()
    before = weight.detach().clone()
    weight.grad = torch.sparse_coo_tensor([[0]], torch.zeros(1, 2, dtype=dtype), (6, 2))
    opt.step()
    assert weight[4, 1] == before[4, 1] - 0.5 * 3
    grad = torch.sparse_coo_tensor([[4, 1, 4, 4]], values, (6, 2), is_coalesced=True, check_invariants=False)
    assert ft.optim.merged(grad)._indices().tolist() == [[1, 4]]
    assert ft.optim.merged(grad)._values().tolist() == table.grads()["weight"].rows.tolist()


def test_row_wise_adagrad_is_the_one_of_fastembed(generator):
    weight = torch.randn(N_ROWS, WIDTH, dtype=torch.float64, generator=generator)
    bias = torch.randn(WIDTH, dtype=torch.float64, generator=generator)
    layer, like = ft.Embedding.from_pretrained(weight.clone(), freeze=False), fe.Embedding.from_pretrained(weight.numpy().copy())
    shift, like_shift = nn.Parameter(bias.clone()), fe.Parameter(bias.numpy().copy())
    opt = ft.optim.RowWiseAdagrad([{"params": layer.parameters()}, {"params": [shift], "lr": 0.5}], lr=0.1, weight_decay=0.1)
    like_opt = fe.optim.RowWiseAdagrad([{"params": like}, {"params": like_shift, "lr": 0.5}], lr=0.1, weight_decay=0.1)
    for step in range(20):
        ids = ids_of(generator)
        opt.zero_grad()
        (layer(ids) + shift).square().sum().backward()
        dout = 2 * (like(ids.numpy()) + like_shift.data)
        like.backward(dout, ids.numpy())
        like_shift.grad = shift.grad.numpy()  # a sum, whose order is PyTorch's
        opt.step()
        like_opt.step()
        like_opt.zero_grad()
        if step == 9:
            opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    torch.testing.assert_close(layer.weight.detach(), torch.from_numpy(like.weight), rtol=1e-12, atol=1e-14)
    assert shift.tolist() == like_shift.data.tolist()
    assert opt.state_dict()["state"][0]["sum"].shape == (N_ROWS,)
    with pytest.raises(TypeError, match=r"float32 or float64 on the CPU, got torch\.float16"):
        ft.optim.RowWiseAdagrad([nn.Parameter(torch.ones(2, 2, dtype=torch.float16))])


def test_what_the_layer_has_saved_must_not_change_before_its_backward(generator):
    """As in PyTorch: a step between a call that needs the table and its backward is an error."""
    bag = ft.EmbeddingBag(5, 3, mode="max")
    opt = ft.optim.SGD(bag.parameters(), lr=0.1)
    first, second = (bag(torch.tensor([[1, 2], [0, 4]])).sum() for _ in range(2))
    first.backward()
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        second.backward()


@each
def test_tables_whose_memory_is_replaced(name, generator):
    ours, theirs = pair(name, OPTIONS[name])
    train((ours, theirs), generator, 5)
    for program in (ours, theirs):
        program.table.weight.data = program.table.weight.data * 0.5
    train((ours, theirs), generator, 5)
    assert_close(ours, theirs)
    with torch.no_grad():
        for program in (ours, theirs):
            program.table.weight.mul_(0.5)
    train((ours, theirs), generator, 5)
    assert_close(ours, theirs)


def test_a_gradient_scaler_unscales_the_gradients_of_rows(generator):
    ours, theirs = pair("AdamW", {"lr": 0.05, "fused": True})
    scalers = [torch.amp.GradScaler("cpu", init_scale=1024.0) for _ in range(2)]
    for step in range(10):
        ids = ids_of(generator)
        for program, scaler in zip((ours, theirs), scalers, strict=True):
            program.zero_grad()
            scaler.scale(program.loss(ids) * (float("inf") if step == 4 else 1.0)).backward()
            scaler.step(program.opt)
            scaler.update()
    assert scalers[0].get_scale() == scalers[1].get_scale() == 512.0
    assert_close(ours, theirs)
