"""What tests of searches share: the metrics, and layers of given tables."""

import pytest

import fastembed as fe

METRICS = ("cosine", "dot", "l2")

each_metric = pytest.mark.parametrize("metric", METRICS)


def layer_of(table):
    return fe.Embedding.from_pretrained(table)
