"""A recommender: the mean of the rows of what a user chose, times the row of another item.

Users have tastes that the model does not see. It learns from pairs of a history and an item, chosen
or not. The number is the AUC on users that it has not seen; guessing gives 0.5.
"""

import argparse

import numpy as np

import fastembed as fe

N_ITEMS, LENGTH, WIDTH = 500, 12, 16


def draw(rng, n_users, tastes):
    """Histories as a batch of bags, an item for each, and whether it was chosen."""
    users = rng.normal(size=(n_users, tastes.shape[1]))
    utilities = users @ tastes.T + rng.gumbel(size=(n_users, len(tastes)))
    ranked = np.argsort(-utilities, axis=1)
    chosen = ranked[:, : LENGTH + 1]
    is_chosen = rng.random(n_users) < 0.5
    items = np.where(is_chosen, chosen[:, LENGTH], rng.integers(0, len(tastes), n_users))
    return chosen[:, :LENGTH], items, is_chosen.astype(np.float32)


def auc(scores, labels):
    """The probability that a chosen item has a higher score than one that was not."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    n_chosen = int(labels.sum())
    return (ranks[labels == 1].sum() - n_chosen * (n_chosen + 1) / 2) / (n_chosen * (len(labels) - n_chosen))


def main(steps: int = 600) -> float:
    rng = np.random.default_rng(0)
    tastes = 1.5 * rng.normal(size=(N_ITEMS, 4))
    histories = fe.EmbeddingBag(N_ITEMS, WIDTH, mode="mean", std=0.1, rng=1)
    candidates = fe.Embedding(N_ITEMS, WIDTH, std=0.1, rng=2)
    optimizer = fe.optim.Adam([histories, candidates], lr=0.01)
    for step in range(steps):
        history, item, label = draw(rng, 128, tastes)
        of_user, of_item = histories(history), candidates(item)
        loss, dscores = fe.losses.binary_cross_entropy((of_user * of_item).sum(axis=1), label)
        optimizer.zero_grad()
        histories.backward(dscores[:, None] * of_item)
        candidates.backward(dscores[:, None] * of_user)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:4d}: loss {loss:.3f}")
    history, item, label = draw(rng, 2000, tastes)
    found = auc((histories(history) * candidates(item)).sum(axis=1), label)
    print(f"AUC on 2,000 users that it has not seen: {found:.3f}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    main(parser.parse_args().steps)
