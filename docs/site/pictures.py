"""Draws the pictures of the site with the package itself.

A page has a picture where it says ``<!-- picture NAME: what it shows -->``.
"""

import numpy as np

import fastembed as fe
from fastembed import training


def sums(emb, names):
    """The three lines: the rows of the letter 'e', of position 2, and their sum."""
    from matplotlib.figure import Figure

    token_id, pos_id = names.index("e"), 2
    tok_emb, pos_emb = emb.wte[token_id], emb.wpe[pos_id]
    shown = np.stack([tok_emb, pos_emb, emb(token_id, pos_id)])
    figure = Figure(figsize=(7, 2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-np.abs(shown).max(), vmax=np.abs(shown).max(), aspect="auto")
    axes.set_yticks(range(3), ["tok_emb = wte[4]", "pos_emb = wpe[2]", "x = tok_emb + pos_emb"])
    axes.set_xlabel("column")
    figure.colorbar(image)
    return figure


def draw(folder):
    """Draw each picture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    run = training.Run(training.Options(steps=1000))  # microgpt's own
    for _ in run.train(1000):
        pass
    emb, names = run.model.emb, [run.tokenizer.name(i) for i in range(run.tokenizer.vocab_size)]
    for name, picture in {
        "sum": sums(emb, names),
        "letters": fe.plots.rows(emb, names=names),
        "positions": fe.plots.positions(emb, table="wpe"),
    }.items():
        fe.plots.save(picture, folder / f"{name}.png")
