"""A plugin for a pytest of thinc's own tests: they see the adapter under thinc's names."""

import thinc.api
import thinc.backends
import thinc.layers

from fastembed.adapters.thinc import Embed, FastEmbedOps, HashEmbed


def pytest_configure():
    """Before the tests are imported; not by an import of this module."""
    for module in (thinc.api, thinc.backends):
        module.NumpyOps = FastEmbedOps
    for module in (thinc.api, thinc.layers):
        module.Embed, module.HashEmbed = Embed, HashEmbed
    thinc.api.registry.layers("Embed.v1", func=Embed)
    thinc.api.registry.layers("HashEmbed.v1", func=HashEmbed)


def pytest_runtest_setup():
    thinc.api.set_current_ops(FastEmbedOps())
