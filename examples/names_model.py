"""A small GPT learns names: the embedding layer in a whole model, trained exactly as microgpt's.

The number is the mean loss over the last 100 steps; guessing letters at random gives 3.3.
"""

import argparse

from fastembed.training import Options, Run


def main(steps: int = 1000) -> float:
    run = Run(Options(steps=steps))
    losses = list(run.train(steps))
    print("names that it makes up:", *(run.model.sample(run.tokenizer, run.rng) for _ in range(8)))
    near = run.model.emb.nearest(run.tokenizer.id_of("a"), 4, exclude_queries=True)
    print("letters that are used like a:", *map(run.tokenizer.name, near.ids.tolist()))
    loss = sum(losses[-100:]) / len(losses[-100:])
    print(f"mean loss over the last 100 of {steps} steps: {loss:.2f}")
    return loss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    main(parser.parse_args().steps)
