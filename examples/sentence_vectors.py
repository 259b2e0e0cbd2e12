"""Sentence vectors without a network: tokens by `tokenizers`, the mean of their rows, length 1.

Rows are random directions, shorter for tokens that are in many documents. They are saved in a
folder as model2vec's static models are. The number is how often the first half of a document finds
its second half among all documents; guessing gives 0.01. The vectors are those of NumPy and, if it
is installed, of model2vec, whose time is then shown too.
"""

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np
from text import documents
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import fastembed as fe


def trained_tokenizer(texts, vocab_size):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=["<unk>"], show_progress=False)
    )
    return tokenizer


def save(folder, table, tokenizer):
    """The files of a static model in model2vec's form."""
    fe.checkpoint.save(f"{folder}/model.safetensors", {"embeddings": table})
    tokenizer.save(f"{folder}/tokenizer.json")
    Path(folder, "config.json").write_text('{"normalize": true, "max_length": null}')


def compare(encoders, texts):
    """The time of each, in turns."""
    seconds = {name: [] for name in encoders}
    for _ in range(5):
        for name, encode in encoders.items():
            began = time.perf_counter()
            encode(texts)
            seconds[name].append(time.perf_counter() - began)
    for name, taken in seconds.items():
        print(f"{name}: {len(texts) / np.median(taken):,.0f} texts a second")


def main(vocab_size: int = 4000) -> float:
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in documents() if len(text.split()) >= 60]
    firsts, seconds = zip(*halves, strict=True)
    tokenizer = trained_tokenizer([*firsts, *seconds], vocab_size)
    seen = np.zeros(tokenizer.get_vocab_size())
    for encoding in tokenizer.encode_batch([*firsts, *seconds]):
        seen[np.unique(encoding.ids)] += 1
    rarity = np.log(2 * len(halves) / np.maximum(seen, 1))
    table = (np.random.default_rng(0).normal(size=(len(seen), 256)) * rarity[:, None]).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        save(folder, table, tokenizer)
        encoder = fe.SentenceEncoder.from_folder(folder)
        of_first, of_second = encoder.encode(firsts), encoder.encode(seconds)
        ids = tokenizer.encode(firsts[0][:500]).ids
        mean = table[[i for i in ids if i != tokenizer.token_to_id("<unk>")]].mean(axis=0)
        np.testing.assert_allclose(encoder.encode(firsts[0][:500]), mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-6)
        encoders = {"fastembed": encoder.encode}
        if importlib.util.find_spec("model2vec"):
            from model2vec import StaticModel

            encoders["model2vec"] = StaticModel.from_pretrained(folder, force_download=False).encode
            np.testing.assert_allclose(encoders["model2vec"](firsts), of_first, rtol=1e-4, atol=1e-6)
    compare(encoders, [text[:120] for text in (*firsts, *seconds)])
    found = float(((of_first @ of_second.T).argmax(axis=1) == np.arange(len(halves))).mean())
    print(f"{found:.0%} of {len(halves)} documents find their second half")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab-size", type=int, default=4000)
    main(parser.parse_args().vocab_size)
