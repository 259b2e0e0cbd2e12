"""A pytest plugin: thinc's own tests see the adapter's Ops and layers under thinc's names."""

import thinc.api
import thinc.backends
import thinc.layers

from fastembed.adapters.thinc import Embed, FastEmbedOps, HashEmbed

for module in (thinc.api, thinc.backends):
    module.NumpyOps = FastEmbedOps
for module in (thinc.api, thinc.layers):
    module.Embed, module.HashEmbed = Embed, HashEmbed
thinc.api.registry.layers("Embed.v1", func=Embed)
thinc.api.registry.layers("HashEmbed.v1", func=HashEmbed)


def pytest_runtest_setup():
    thinc.api.set_current_ops(FastEmbedOps())
