"""One of two ranks that train a model with DistributedDataParallel, as one process would."""

import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

import fastembed.adapters.torch as ft


def model_of(embedding, bag, sparse):
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = embedding(50, 8, sparse=sparse)
            self.bags = bag(50, 8, mode="sum", sparse=sparse)
            self.head = nn.Linear(8, 1)

        def forward(self, ids):
            return self.head(self.tokens(ids).mean(dim=1) + self.bags(ids))

    return Model()


def train(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for ids in batches:
        optimizer.zero_grad()
        model(ids).square().mean().backward()
        optimizer.step()


def main(rank: int, meeting: str, sparse: bool) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    ft.functional.SMALL = -1
    model, expected = (model_of(*kinds, sparse) for kinds in ((ft.Embedding, ft.EmbeddingBag), (nn.Embedding, nn.EmbeddingBag)))
    batches = torch.randint(0, 50, (5, 6, 7), generator=torch.Generator().manual_seed(1))
    train(nn.parallel.DistributedDataParallel(model), batches[:, 3 * rank : 3 * rank + 3])
    train(expected, batches)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "sparse")
