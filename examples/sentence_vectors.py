"""Sentence vectors without a network: tokens by `tokenizers`, the mean of their rows, length 1.

Rows are random directions, shorter for tokens that are in many documents. The number is how often
the first half of a document finds its second half among all documents; guessing gives 0.01. The
vectors are those of NumPy.
"""

import argparse
import time

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


def main(vocab_size: int = 4000) -> float:
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in documents() if len(text.split()) >= 60]
    firsts, seconds = zip(*halves, strict=True)
    tokenizer = trained_tokenizer([*firsts, *seconds], vocab_size)
    seen = np.zeros(tokenizer.get_vocab_size())
    for encoding in tokenizer.encode_batch([*firsts, *seconds]):
        seen[np.unique(encoding.ids)] += 1
    rarity = np.log(2 * len(halves) / np.maximum(seen, 1))
    table = np.random.default_rng(0).normal(size=(len(seen), 256)) * rarity[:, None]
    bag = fe.EmbeddingBag.from_pretrained(table.astype(np.float32), mode="mean").eval()
    encoder = fe.SentenceEncoder(tokenizer, bag)
    began = time.perf_counter()
    of_first, of_second = encoder.encode(firsts), encoder.encode(seconds)
    seconds_taken = time.perf_counter() - began
    rows = bag.weight[tokenizer.encode(firsts[0]).ids]
    np.testing.assert_allclose(of_first[0], rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0)), rtol=1e-4, atol=1e-6)
    found = float(((of_first @ of_second.T).argmax(axis=1) == np.arange(len(halves))).mean())
    print(f"{2 * len(halves)} texts in {seconds_taken:.2f} s; {found:.0%} of {len(halves)} documents find their second half")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab-size", type=int, default=4000)
    main(parser.parse_args().vocab_size)
