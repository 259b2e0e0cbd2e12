"""Shareable: layers whose table other processes look rows up in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .files.saving import Saving

if TYPE_CHECKING:
    from .._typing import DTypeLike
    from ..io.shared.publisher import Publisher
    from ..tables.attached import AttachedTable


class Shareable(Saving):
    """A layer with one table, ``weight``, that can be shared."""

    def share(self, name: str | os.PathLike[str], *, replace: bool = False, permissions: int = 0o600) -> Publisher:
        """Copy the table into shared memory, where other processes look rows up.

        From now on the rows that a step, ``set_rows`` or another call of the layer has changed are
        published there when it returns, each of them whole. Rows with pending updates (Adam and
        others, docs/training.md) are published as they are when they take them, at the latest by
        `flush`. The table stays there until it is removed, also when this process ends.

        Parameters
        ----------
        name : str or path-like
            A name for shared memory, of at most 200 letters, digits and ``. _ -``; or the path of a
            file, with a ``/`` in it. A file on a disk is no checkpoint: it is not flushed.
        replace : bool
            Whether a table that is shared by that name may be replaced, when the process that
            shared it has ended or stopped sharing. Who reads it changes over.
        permissions : int
            Of the file: ``0o640`` lets users of the same group read it.

        Returns
        -------
        Publisher
            With ``publish()``, ``close()`` and ``remove()``; it need not be kept. Sharing ends with
            the layer.

        Raises
        ------
        FileExistsError
            There is a table of that name, and ``replace`` is False.
        BlockingIOError
            A process that is running shares it.
        OSError
            There is no space in the shared memory.
        ValueError, TypeError
            The name is invalid; the layer is shared already; or the table of that name has rows of
            another length or dtype.

        Examples
        --------
        >>> import os, fastembed as fe
        >>> layer = fe.Embedding(100, 8, rng=0)
        >>> with layer.share(f"words-{os.getpid()}") as shared:
        ...     shared.remove()
        """
        from ..io.shared.publisher import Publisher

        with self.lock:
            known = self.storage.publisher
            if isinstance(known, Publisher) and not known.is_closed:
                raise ValueError(f"the layer is shared already, as {known.path}")
            publisher = Publisher(self, "weight", name, permissions)
            self.storage.publisher = publisher
            try:
                publisher.begin(replace)
            except BaseException:
                if publisher.is_closed:
                    self.storage.publisher = known
                raise
        return publisher

    @staticmethod
    def attach(
        name: str | os.PathLike[str],
        *,
        num_embeddings: int | None = None,
        embedding_dim: int | None = None,
        dtype: DTypeLike | None = None,
        bounds: str = "raise",
    ) -> AttachedTable:
        """The table that another process shares, for look-ups. See `fastembed.AttachedTable`."""
        from ..tables.attached import AttachedTable

        return AttachedTable(name, num_embeddings=num_embeddings, embedding_dim=embedding_dim, dtype=dtype, bounds=bounds)
