"""One of two ranks that train a model with DistributedDataParallel, as one process would."""

import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

import fastembed as fe
import fastembed.adapters.torch as ft
from fastembed import distributed

N_ROWS, WIDTH, N_IDS = 50, 8, 7


class Model(nn.Module):
    """A table, bags and a head; ``positions`` gives the rows of places, of a table of its own."""

    def __init__(self, of, sparse, positions):
        super().__init__()
        torch.manual_seed(0)
        self.tokens = of.Embedding(N_ROWS, WIDTH, sparse=sparse)
        self.bags = of.EmbeddingBag(N_ROWS, WIDTH, mode="sum", sparse=sparse)
        self.head = nn.Linear(WIDTH, 1)
        self.positions = positions

    def forward(self, ids):
        rows = self.tokens(ids) + self.positions(torch.arange(N_IDS).expand(ids.shape))
        return self.head(rows.mean(dim=1) + self.bags(ids))


class Replicated:
    """A table of `fastembed.distributed` beside the model, the same in both ranks."""

    def __init__(self):
        start = torch.linspace(-1, 1, N_IDS * WIDTH).reshape(N_IDS, WIDTH)
        self.table = distributed.ReplicatedEmbedding.from_pretrained(distributed.gloo(), start.numpy().copy())
        self.optimizer = fe.optim.SGD(self.table, lr=0.1)

    def __call__(self, ids):
        self.rows = torch.from_numpy(self.table(ids.numpy())).requires_grad_()
        return self.rows

    def step(self):
        """As DistributedDataParallel: with the mean of the gradients of both ranks."""
        self.table.backward(self.rows.grad.numpy() / dist.get_world_size(), optimizer=self.optimizer)

    def zero_grad(self):
        self.rows = None


class Table(nn.Embedding):
    """The same table in one process, and its optimiser."""

    def __init__(self):
        super().__init__(N_IDS, WIDTH, _weight=torch.linspace(-1, 1, N_IDS * WIDTH).reshape(N_IDS, WIDTH))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1)

    def step(self):
        self.optimizer.step()


def train(model, positions, optimizer, batches):
    for ids in batches:
        for part in (optimizer, positions):
            part.zero_grad()
        model(ids).square().mean().backward()
        for part in (optimizer, positions):
            part.step()


def main(rank: int, meeting: str, gradient: str, optimizers: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    torch.set_default_dtype(torch.float64)  # in which sums in another order are the same but for 1e-15
    ft.functional.SMALL, ft.optim.RowSteps._small, ft.optim.RowSteps._few = -1, 0, -1
    of = {"PyTorch's": torch.optim, "own": ft.optim}[optimizers]
    replicated, table = Replicated(), Table()
    model, expected = Model(ft, gradient == "sparse", replicated), Model(nn, False, table)
    parameters = [parameter for name, parameter in expected.named_parameters() if not name.startswith("positions")]
    batches = torch.randint(0, N_ROWS, (5, 6, N_IDS), generator=torch.Generator().manual_seed(1))
    own = slice(3 * rank, 3 * rank + 3)
    kind, options = ("SGD", {"lr": 0.1}) if of is torch.optim else ("AdamW", {"lr": 0.1, "eps": 1e-3})
    optimizer = getattr(of, kind)(model.parameters(), **options)
    train(nn.parallel.DistributedDataParallel(model), replicated, optimizer, batches[:, own])
    train(expected, table, getattr(torch.optim, kind)(parameters, **options), batches)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name])
    torch.testing.assert_close(torch.from_numpy(replicated.table.weight), table.weight.detach())
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
