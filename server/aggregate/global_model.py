"""A run's global model: the adapter and the server optimiser's velocity, in durable files and as blobs for devices."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import InitVar, dataclass, field
from pathlib import Path

from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.core.model.base_shift import shift_of
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import GlobalAdapter
from fedcore.server.aggregate.adapter_blobs import blob_ids, store_adapter, store_rings, with_deltas, with_step
from fedcore.server.aggregate.global_file import ADAPTER, VELOCITY, drop_older, map_global, write_global
from fedcore.server.process.allocator import trim
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import read_handout

LARGE_BYTES = 8 << 20  # of an adapter; for a smaller one, a second thread and a trim cost more time than they save
ROUNDS_KEPT = 2  # rounds with blobs that stay: a device may still fetch those of the round before


@dataclass(slots=True, kw_only=True)
class GlobalModel:
    """The global model after the last counted round. Use from one thread at a time."""

    spec: AdapterSpec
    ranks: tuple[int, ...]  # strategy.ranks: rank blocks end there
    downlink: str  # training.downlink
    blobs: BlobStore
    folder: Path  # of the files
    round_index: InitVar[int]  # of the adapter that a run begins or goes on with
    tensors: Tensors  # in memory after `advance`; after `keep`, views of the file of `adapter`
    adapter: GlobalAdapter = field(init=False)
    digest: str = ""  # of the file of `adapter`; empty for the untrained adapter, which the seed gives again
    velocity: Tensors | None = None  # of the strategy's server optimiser: views of the file beside the adapter's
    velocity_digest: str = ""  # of that file
    large_bytes: int = LARGE_BYTES
    _recent: list[GlobalAdapter] = field(default_factory=list)
    _ring_adapters: list[GlobalAdapter] = field(default_factory=list)  # of recent rounds, with blocks in rings

    def __post_init__(self, round_index: int) -> None:
        self.adapter = self._stored(round_index)
        self._recent.append(self.adapter)

    def advance(self, tensors: Tensors, velocity: Tensors | None) -> None:
        """Replace adapter and velocity, in memory; `keep` then makes them durable."""
        self.tensors, self.velocity = tensors, velocity

    def keep(self, number: int, step: Tensors) -> None:
        """Write the adapter after round `number` to its durable file and as blobs, and read it from the file from now.

        `step` is what the round added to the base shift.
        """
        if self.velocity is not None:
            self.velocity_digest = write_global(self.folder, self.velocity, number, kind=VELOCITY)
            self.velocity = map_global(self.folder, number, kind=VELOCITY)
        if 4 * self.spec.num_values() < self.large_bytes:
            self.adapter = self._advanced(number, step)
            self.digest = write_global(self.folder, self.tensors, number)
            self.tensors = map_global(self.folder, number)
        else:
            with ThreadPoolExecutor(1, thread_name_prefix="disk") as disk:
                saving = disk.submit(write_global, self.folder, self.tensors, number)
                self.adapter = self._advanced(number, step)
                self.digest = saving.result()
            self.tensors = map_global(self.folder, number)
            trim()
        self._recent.append(self.adapter)

    def files(self) -> tuple[tuple[str, str], ...]:
        """Return name and hash of the last counted round's files: the adapter's, and the velocity's if there is one."""
        names = [(ADAPTER, self.digest), *([(VELOCITY, self.velocity_digest)] if self.velocity is not None else ())]
        return tuple((f"{kind}-{self.adapter.round}", digest) for kind, digest in names)

    def drop_older_files(self) -> None:
        """Delete the files that a resumed run would not read."""
        drop_older(self.folder, self.adapter.round)

    def as_downloaded(self) -> Tensors:
        """Return the adapter as devices read it: rounded, if training.downlink rounds it."""
        if self.downlink != "bf16":
            return self.tensors
        return read_handout(self.blobs, self.adapter.rank_blocks, self.adapter.head) | shift_of(self.tensors)

    def in_rings(self, rings: Sequence[KeepSet]) -> GlobalAdapter:
        """Return the adapter as devices of a round fetch it, with its blocks in rings if there are any."""
        if not rings:
            return self.adapter
        adapter = store_rings(
            self.blobs, self.spec, self.tensors, self.adapter, rings, ranks=self.ranks, downlink=self.downlink
        )
        if self._ring_adapters:
            adapter = self._with_deltas(adapter, self._ring_adapters[-1])
        self._ring_adapters.append(adapter)
        return adapter

    @property
    def needed(self) -> set[str]:
        """Ids of all blobs that devices of recent rounds may fetch."""
        return set[str]().union(*map(blob_ids, (*self._recent, *self._ring_adapters)))

    def retire(self, pinned_blobs: set[str]) -> set[str]:
        """Forget adapters that no device fetches any more; return their blobs, some of which may be `needed`.

        An adapter with a blob in `pinned_blobs` stays until the blob is no longer there.
        """
        old, recent = self._recent[:-ROUNDS_KEPT], self._recent[-ROUNDS_KEPT:]
        waiting = [adapter for adapter in old if blob_ids(adapter) & pinned_blobs]
        gone = [*(adapter for adapter in old if not blob_ids(adapter) & pinned_blobs), *self._ring_adapters[:-1]]
        self._recent, self._ring_adapters = [*waiting, *recent], self._ring_adapters[-1:]
        return set[str]().union(*map(blob_ids, gone))

    def _stored(self, number: int) -> GlobalAdapter:
        return store_adapter(self.blobs, self.spec, self.tensors, number, ranks=self.ranks, downlink=self.downlink)

    def _advanced(self, number: int, step: Tensors) -> GlobalAdapter:
        adapter = with_step(self.blobs, self._stored(number), self.adapter, step)
        return self._with_deltas(adapter, self.adapter)

    def _with_deltas(self, adapter: GlobalAdapter, before: GlobalAdapter) -> GlobalAdapter:
        return with_deltas(self.blobs, adapter, before) if self.downlink == "delta" else adapter
