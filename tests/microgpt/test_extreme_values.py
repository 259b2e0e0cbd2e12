"""The names model at its limits: temperatures, texts that are none, errors that raise."""

import random

import numpy as np
import pytest
from common import same_bits

from fastembed.microgpt import GPT, Tokenizer, model, read_documents
from fastembed.training import Options, Run

pytestmark = pytest.mark.on_reference
CHARACTERS = "abcde"


def small_model(dtype="float64", seed=0):
    return GPT(len(CHARACTERS) + 1, 6, 4, 2, 1, dtype=dtype, rng=random.Random(seed))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-320, 1e-46, 1e-45, 1e-39, 1e-30])
def test_a_temperature_near_0_gives_the_best_tokens(dtype, temperature):
    for seed in range(20):
        gpt, tokenizer = small_model(dtype, seed), Tokenizer(CHARACTERS)
        tokens = [tokenizer.bos]
        while len(tokens) <= 6:
            tokens.append(int(gpt.logits(tokens)[-1].argmax()))
            if tokens[-1] == tokenizer.bos:
                tokens.pop()
                break
        best = "".join(map(tokenizer.name, tokens[1:]))
        assert gpt.sample(tokenizer, random.Random(seed), temperature) == best


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_high_temperature_draws_from_all_tokens(dtype):
    gpt, rng = small_model(dtype), random.Random(0)
    drawn = "".join(gpt.sample(Tokenizer(CHARACTERS), rng, 1.7e308) for _ in range(100))
    assert set(drawn) == set(CHARACTERS)


def test_what_cannot_be_sampled_leaves_the_mode_as_it_was():
    class Stopped(random.Random):
        def choices(self, *arguments, **options):
            raise KeyboardInterrupt

    gpt, tokenizer = small_model(), Tokenizer(CHARACTERS)
    for is_training in (True, False):
        gpt.emb.train(is_training)
        with pytest.raises(KeyboardInterrupt):
            gpt.sample(tokenizer, Stopped())
        assert gpt.emb.training == is_training
        for temperature in (-1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="temperature must be from"):
                gpt.sample(tokenizer, random.Random(0), temperature)
    gpt.emb.wte[:] = np.nan
    with pytest.raises(ValueError, match="the scores of the token after 1 tokens are not finite"):
        gpt.sample(tokenizer, random.Random(0))
    assert gpt.emb.training is False


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_floating_point_errors_that_raise_change_nothing(dtype):
    options = Options(steps=4, dtype=dtype, n_layer=2)
    losses = list(Run(options).train(4))
    run = Run(options)
    with np.errstate(all="raise"):
        assert list(run.train(4)) == losses
        run.model.sample(run.tokenizer, random.Random(0), 1e-320)
        logits = run.model.logits([0, 1])
    assert same_bits(logits, run.model.logits([0, 1]))


def test_parameters_are_copied_all_or_none():
    source, target = small_model(seed=1), small_model(seed=2)
    before = {name: array.copy() for name, array in target.state_dict().items()}
    state = source.state_dict()
    last = list(state)[-1]
    for bad, error in (
        ({name: state[name] for name in list(state)[:-1]}, KeyError),
        ({**state, last: state[last][:-1]}, ValueError),
        ({**state, last: state[last][:1]}, ValueError),
        ({**state, last: state[last].astype("c16")}, TypeError),
    ):
        with pytest.raises(error, match=last):
            target.load_state_dict(bad)
        assert all(same_bits(array, before[name]) for name, array in target.state_dict().items())
    target.load_state_dict(state)
    assert all(same_bits(array, state[name]) for name, array in target.state_dict().items())


def test_files_that_hold_no_text(tmp_path, monkeypatch):
    path = tmp_path / "text"
    for content, text in (
        ("a\nb\nc\n".encode("utf-16-le"), "there is a NUL character in line 1, as in UTF-16"),
        (b"first\nsecond\0\n", "there is a NUL character in line 2"),
        ("a\nb\n".encode("utf-16"), "'utf-8' codec can't decode"),
        ("a\nb\n".encode("utf-32-be"), "there is a NUL character in line 1"),
        (b"", "holds no text"),
        (b"\xef\xbb\xbf \n\r\n\t\n", "holds no text"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=text):
            read_documents(str(path))
    path.write_text("\ufeffab\r\ncd\refg", encoding="utf-8")
    assert read_documents(str(path)) == ["ab", "cd", "efg"]
    monkeypatch.setattr(model, "MAX_TEXT", 5)
    with pytest.raises(ValueError, match="it has more than 5 characters"):
        read_documents(str(path))


def test_an_unknown_token_is_named_and_not_all_that_are_known():
    tokenizer = Tokenizer(map(chr, range(0x4E00, 0x9000)))
    with pytest.raises(ValueError, match=r"token '\?' is not one of the 16897 tokens: '一', '丁', '丂' and 16894 more"):
        tokenizer.id_of("?")
    with pytest.raises(ValueError, match="is not one of") as raised:
        tokenizer.id_of("x" * 1_000_000)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("steps", 10**4000, "steps must be from 1 to 100000000, got <an integer of 13288 bits>"),
        ("seed", -(10**4000), "seed must be within 64 bits, got <an integer of 13288 bits>"),
        ("n_layer", -1, "n_layer must be from 0 to 100000000, got -1"),
        ("lr", "x" * 1_000_000, "lr must be a number, got 'xxx"),
        ("dtype", "x" * 1_000_000, "dtype must be one of float64, float32; got 'xxx"),
        ("dtype", "float16", "dtype must be one of float64, float32; got 'float16'"),
        ("dtype", np.float32, "dtype must be one of float64, float32; got <class"),
    ],
)
def test_options_are_checked_and_messages_bounded(option, value, text):
    with pytest.raises((ValueError, TypeError), match=text) as raised:
        Options(**{option: value})
    assert len(str(raised.value)) < 200
