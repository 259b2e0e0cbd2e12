"""Pairs of programs for the optimisers over PyTorch: fastembed's classes, and PyTorch's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import fastembed.adapters.torch as ft

NAMES = ("SGD", "Adagrad", "Adam", "AdamW", "SparseAdam")
N_ROWS, WIDTH = 30, 5


class Program:
    """A model of one table and a head, in float64, and its optimisers."""

    def __init__(
        self, modules: Any, optimizers: Any, name: str, options: dict[str, Any], is_bag: bool = False, is_sparse: bool = False
    ) -> None:
        torch.manual_seed(0)
        layer = modules.EmbeddingBag if is_bag else modules.Embedding
        takes_sparse_alone = name == "SparseAdam"  # the others take dense ones with every option, sparse ones with a few
        self.table = layer(N_ROWS, WIDTH, sparse=is_sparse or takes_sparse_alone, dtype=torch.float64)
        self.head = nn.Linear(WIDTH, 3, dtype=torch.float64)
        kind = getattr(optimizers, name)
        if takes_sparse_alone:
            self.opts = [kind(self.table.parameters(), **options), torch.optim.SGD(self.head.parameters(), lr=0.01)]
        else:
            self.opts = [kind([*self.table.parameters(), *self.head.parameters()], **options)]
        self.opt = self.opts[0]

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(ids)).square().mean()

    def backward(self, ids: torch.Tensor) -> float:
        loss = self.loss(ids)
        loss.backward()
        return loss.item()

    def step(self) -> None:
        for opt in self.opts:
            opt.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for opt in self.opts:
            opt.zero_grad(set_to_none=set_to_none)

    def parameters(self) -> list[torch.Tensor]:
        return [*self.table.parameters(), *self.head.parameters()]


def pair(name: str, options: dict[str, Any], is_bag: bool = False, is_sparse: bool = False) -> tuple[Program, Program]:
    return Program(ft, ft.optim, name, options, is_bag, is_sparse), Program(nn, torch.optim, name, options, is_bag, is_sparse)


def ids_of(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Ids of which the first rows are more likely."""
    return (torch.rand(shape or (3, 4), generator=generator) ** 2 * N_ROWS).long()


def assert_close(ours: Program, theirs: Program) -> None:
    """The parameters are those of PyTorch, up to its own rounding."""
    pairs = ((ours.table.weight, theirs.table.weight), (ours.head.weight, theirs.head.weight), (ours.head.bias, theirs.head.bias))
    for a, b in pairs:
        difference = (a.detach() - b.detach()).abs().max()
        assert difference <= 1e-12 * b.detach().abs().max(), difference


def train(programs: Any, generator: torch.Generator, n_steps: int) -> None:
    """Steps of all programs with the same ids."""
    for _ in range(n_steps):
        ids = ids_of(generator)
        for program in programs:
            program.zero_grad()
            program.backward(ids)
            program.step()
