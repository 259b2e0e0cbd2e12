"""What a small table of n-grams brings to the names model: microgpt's GPT, with and without one.

python examples/ngram_names.py [--steps 3000]

The table's rows of the last two and of the last three letters are added to the embedding of a
letter, and trained with the model. Both models begin with the same weights and see the same names;
their loss is that of names that were held back.
"""

import argparse
import random

import numpy as np

import fastembed as fe
from fastembed.microgpt.model import GPT, Tokenizer, read_documents

BLOCK_SIZE, N_EMBD, N_HELD = 16, 16, 500


class WithMemory:
    """An embedding layer, to whose vectors the rows of a letter's n-grams are added."""

    def __init__(self, emb, memory):
        self.emb, self.memory, self.block_size = emb, memory, emb.block_size

    def __call__(self, token_ids):
        return self.emb(token_ids) + self.memory(token_ids)

    def backward(self, dout):
        self.emb.backward(dout)
        self.memory.backward(dout)


def new_memory(vocab_size, pad_id):
    """Two heads each for two and for three letters, a quarter of the columns each."""
    hash = fe.NgramHash.engram(0, layers=[0], vocab_sizes=[800, 8000], n_heads=2, pad_id=pad_id, vocab_size=vocab_size)
    return fe.NgramEmbedding.random(hash, N_EMBD // hash.width, dtype="float64", std=0.02, rng=0)


def held_out_loss(model, documents):
    """The mean of -log p of each next letter of some names."""
    losses = []
    for tokens in documents:
        scores = model.logits(tokens[:-1])
        scores -= scores.max(-1, keepdims=True)
        picked = scores[np.arange(len(scores)), tokens[1:]]
        losses += (np.log(np.exp(scores).sum(-1)) - picked).tolist()
    return float(np.mean(losses))


def train(n_steps, with_memory, seed=42):
    """The loss of a model of names after so many steps, one name each."""
    rng = random.Random(seed)
    names = read_documents()
    rng.shuffle(names)
    tokenizer = Tokenizer("".join(names))
    documents = [tokenizer.encode(name, BLOCK_SIZE + 1) for name in names]
    held, rest = documents[:N_HELD], documents[N_HELD:]
    model = GPT(tokenizer.vocab_size, BLOCK_SIZE, N_EMBD, 4, 1, dtype="float64", rng=rng)
    optimizers = [fe.optim.Adam([model.emb, *model.weights.values()], lr=0.01, betas=(0.85, 0.99))]
    if with_memory:
        memory = new_memory(tokenizer.vocab_size, pad_id=tokenizer.bos)
        model.emb = WithMemory(model.emb, memory)
        optimizers.append(fe.optim.SparseAdam([memory], lr=0.01))
    for step in range(n_steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model.loss(rest[step % len(rest)])
        for optimizer in optimizers:
            optimizer.lr = 0.01 * (1 - step / n_steps)
            optimizer.step()
    return held_out_loss(model, held)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=3000)
    n_steps = parser.parse_args().steps
    without, with_memory = train(n_steps, False), train(n_steps, True)
    print(f"{N_HELD} names held back, after {n_steps} steps: loss {without:.3f}, with n-grams {with_memory:.3f}")


if __name__ == "__main__":
    main()
