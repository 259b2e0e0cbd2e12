from typing import Any

from numpy.typing import NDArray

from ._updates import LazyTable

Array = NDArray[Any]

class Commit:
    def add_step(
        self,
        table: LazyTable,
        step: Array,
        is_recorded: bool,
        rows: Array,
        order: Array | None,
        factors: Array | None,
        by_frequency: bool,
        grads: Array,
    ) -> None: ...
    def add_gradients(
        self,
        table: Array,
        rows: Array,
        order: Array | None,
        factors: Array | None,
        by_frequency: bool,
        grads: Array,
    ) -> None: ...
    def add_copy(self, target: Array, source: Array) -> None: ...
    def add_counts(self, counts: Array, rows: Array) -> None: ...
    def set_attribute(self, owner: object, name: str, value: object) -> None: ...
    def set_item(self, container: Any, key: Any, value: object) -> None: ...
    def run(self) -> None: ...
