"""A chain of convolutions on a volume on disk in one pass: resumable, in bounded memory."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import integer
from ..backend import Backend
from ..convert import stamp, watch
from ..convert.errors import ConvertError
from ..convert.files import Entry, Reader, chosen_format, open_file
from ..convert.files.npy import NAME
from ..convert.files.zarr import CHUNK
from ..convert.output import check_target, remove, take_name
from ..dtypes import numpy_dtype
from ..errors import ConvSpecError, ShapeError
from ..problem import Problem
from ..spec import ConvSpec
from ..tiles import Tiles
from . import journal as journals
from . import sizing, storage
from .chain import Layer, as_chain, problems, read_arrays, read_chain
from .crew import Crew
from .journal import Journal
from .sizing import Costs, Plan, in_words
from .worker import Order, Task

#: Called with (tiles done, all tiles, what was done last).
Progress = Callable[[int, int, str], None]
#: What a run may use that is not told otherwise.
MEMORY = "1GB"
#: What the parent takes, which holds no data, and what a worker's own bytes are rounded up to.
PARENT, STEADY = 2**27, 2**26


@dataclass(frozen=True)
class Applied:
    """What a run did.

    Attributes:
        shape, dtype, layout: of the written array, axes in the file's order.
        tiles: how many there are.
        resumed: how many of them an earlier run had finished.
        tile: size of a tile, axes as in ``shape``.
        read: bytes that were read of the volume's array, those of earlier runs counted.
        memory: the most bytes that a worker had in memory.
        engine: name and version.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: str
    tiles: int
    resumed: int
    tile: tuple[int, ...]
    read: int
    memory: int
    engine: str


def apply(
    chain: ConvSpec | Layer | Sequence[Any] | str | Path,
    weights: str | Path | Mapping[str, Any],
    volume: str | Path,
    out: str | Path,
    *,
    engine: str | Backend = "numpy",
    memory: int | str = MEMORY,
    jobs: int = 1,
    tile: Sequence[int] | int | None = None,
    dtype: str | None = None,
    source_layout: str | None = None,
    target_layout: str | None = None,
    name: str | None = None,
    fill: bool = False,
    force: bool = False,
    restart: bool = False,
    format: str | None = None,
    progress: Progress | None = None,
) -> Applied:
    """Run a chain of convolutions over a volume on disk.

    The result is made tile by tile beside ``out``, as ``out.part``, with a journal of what is done,
    and takes its name when it is whole. A run that was stopped, however, goes on where it was when
    it is called again; what it gives is the same bit for bit.

    Args:
        chain: a spec, a list of :class:`Layer`, or the path of a JSON file that describes them.
        weights: a file with the arrays that the layers name, or arrays by name.
        volume: ``.npy``, ``.zarr``, ``.nii``, ``.h5`` or ``.safetensors``; ``.nii.gz``, too, but
            it is unpacked anew for each tile.
        out: ``.npy``, ``.zarr``, ``.nii`` or ``.nii.gz``.
        engine: the backend that computes, or its name.
        memory: most bytes of all processes together, as ``"1GB"``. It decides the tiles.
        jobs: how many processes compute.
        tile: size of a tile on each spatial axis of the last spec, or one for all; default: what
            ``memory`` allows.
        dtype: element type to compute in and to write; default: that of the weights, if it holds
            every number of the volume.
        source_layout: axes of the volume, as ``"DHW"``; N and C may be left out where they are 1.
            Default: as the file says, or as its shape leaves no choice.
        target_layout: axes of the result; default: as the volume has them.
        name: which array, where the volume's file holds several.
        fill: chunks that the volume's zarr store lacks are its fill value, and no damage.
        force: overwrite ``out``.
        restart: begin anew where an earlier run of something else was stopped.
        format: format of ``out``; default: what its name says.
        progress: called after each tile with (tiles done, all tiles, what).

    Raises:
        LayoutError, ShapeError, DTypeError: chain, weights and volume do not fit.
        UnsupportedError: the engine cannot compute a layer.
        ConvSpecError: ``memory`` is too little; the message says what is the least.
        ConvertError: a file cannot be read or written; of a tile, the message names it.
    """
    volume, out = Path(volume), Path(out)
    layers = read_chain(chain) if isinstance(chain, (str, Path)) else as_chain(chain)
    arrays, computed = read_arrays(layers, weights, dtype)
    before = watch.state(volume)
    for path in (volume, chain, weights):
        if not isinstance(path, (str, Path)) or not Path(path).exists() or not out.exists():
            continue
        if out.samefile(path):
            raise ConvertError(f"{out}: is read as well; write to another name.")
    check_target(out, (), force=force)
    with open_file(volume) as reader:
        spec = layers[0].spec
        source = storage.source(
            reader,
            spec.layout,
            spec.in_channels,
            letters=source_layout,
            name=name,
            fill=fill,
        )
        storage.check_types(source.dtype, computed, told=dtype is not None)
        steps = problems(layers, source.shape)
        if 0 in steps[-1].output_shape:
            raise ShapeError(f"{volume}: has shape {source.shape}; there is nothing to compute.")
        letters = storage.target_letters(
            target_layout, steps[-1].output_layout, steps[-1].out_channels, source
        )
        target = _target(out, format, reader, source, steps, letters, computed)
    run = _Run(layers, arrays, steps, source, target, engine, computed)
    journal = Journal(out.with_name(f"{out.name}.part.journal"))
    try:
        made_of = run.made_of(journals.of_volume(volume, before))
        wanted = None if tile is None else _tile(steps[-1], tile)
        limit = sizing.bytes_of(memory)
        done = run.carry_out(journal, made_of, wanted, limit, jobs, restart, progress)
        watch.check(volume, before)
        _finish(run.target, out, journal)
    finally:
        journal.close()
    return done


def _tile(problem: Problem, tile: Any) -> tuple[int, ...]:
    """A size for each axis of the last ``output_layout``; N is one at a time, C whole."""
    given = tile if isinstance(tile, (list, tuple)) else [tile] * problem.rank
    if len(given) != problem.rank:
        raise ShapeError(
            f"tile: expected a size for each spatial axis ({problem.spatial}), got {tile}."
        )
    sizes = {
        c: integer(f"tile ({c})", n, minimum=1) for c, n in zip(problem.spatial, given, strict=True)
    }
    sizes |= {"N": 1, "C": problem.out_channels}
    full = zip(problem.output_layout, problem.output_shape, strict=True)
    return tuple(min(sizes[c], max(n, 1)) for c, n in full)


def _target(
    out: Path,
    format: str | None,
    reader: Reader,
    source: storage.Source,
    steps: Sequence[Problem],
    letters: str,
    dtype: str,
) -> storage.Target:
    format = chosen_format(out, format)
    if format not in storage.WRITTEN:
        raise ConvertError(
            f"{out}: {format} files cannot be written in parts; write .zarr, .npy or .nii."
        )
    last = steps[-1]
    sizes = dict(zip(last.output_layout, last.output_shape, strict=True))
    entry = Entry(tuple(sizes[c] for c in letters), numpy_dtype(dtype))
    said = {"layout": letters, "sizes": {c: sizes[c] for c in letters}}
    options: dict[str, Any] = {}
    if format == "nifti":
        options["compressed"] = out.name.lower().endswith(".gz")
        options["affine"] = storage.affine(reader, source, steps, letters)
    part = out.with_name(f"{out.name}.part")
    text = stamp.to_text({"arrays": {NAME: said}})
    return storage.Target(part, format, entry, letters, last.output_layout, text, options)


@dataclass
class _Run:
    """One run, all of its inputs read and checked."""

    layers: Sequence[Layer]
    arrays: Sequence[Any]
    steps: Sequence[Problem]
    source: storage.Source
    target: storage.Target
    engine: str | Backend
    dtype: str

    def made_of(self, volume: str) -> dict[str, str]:
        """What decides the result, in parts that can be told apart."""
        chain = json.dumps([layer.to_value() for layer in self.layers])
        target = self.target
        how = (self.source.name, self.source.letters, self.source.fill, self.dtype)
        result = (target.format, target.letters, target.entry.shape)
        return {
            "the chain": hashlib.sha256(chain.encode()).hexdigest(),
            "the weights": journals.of_weights(self.arrays),
            "the volume": volume,
            "dtype, layouts or format": repr((*how, *result)),
        }

    def carry_out(
        self,
        journal: Journal,
        made_of: dict[str, str],
        wanted: tuple[int, ...] | None,
        limit: int,
        jobs: int,
        restart: bool,
        progress: Progress | None,
    ) -> Applied:
        """Compute all tiles that are not done."""
        activations = [layer.activation for layer in self.layers]
        self._check_same(journal, made_of, wanted, restart)
        with Crew(integer("jobs", jobs, minimum=1), journal.descriptor) as crew:
            crew.load(
                Task(
                    self.steps,
                    self.arrays,
                    activations,
                    self.engine,
                    self.dtype,
                    self.source,
                    self.target,
                )
            )
            made_of = made_of | {"the engine": crew.version}
            self._check_same(journal, made_of, wanted, restart)
            plan = self._kept(journal, restart)
            room = _room(limit, jobs, crew)
            if plan is None:
                plan = self._plan(wanted, room, jobs, limit)
                self._begin(journal, made_of, plan)
            elif plan.bytes > room:
                raise ConvSpecError(
                    f"memory: {in_words(limit)} is too little for tiles as this run was begun "
                    f"with; they need {_whole(plan, room, limit, jobs)}.\n  Give that much, "
                    f"or fewer jobs, or begin anew with restart=True (--restart)."
                )
            cut = _cut(self.steps[-1], plan)
            resumed = self._check_done(journal, cut)
            try:
                for done in crew.run(self._orders(journal, cut, plan)):
                    journal.add(done.number, done.read)
                    if progress is not None:
                        name = self.target.path.name.removesuffix(".part")
                        progress(len(journal.done) - resumed, len(cut) - resumed, name)
            except ConvSpecError as error:
                raise type(error)(
                    f"{error}\n  {len(journal.done)} of {len(cut)} tiles are done; the same "
                    f"command goes on from there."
                ) from error
            return Applied(
                self.target.entry.shape,
                self.dtype,
                self.target.letters,
                len(cut),
                resumed,
                self._in_file(plan),
                sum(journal.done.values()),
                crew.memory,
                crew.version,
            )

    def _orders(self, journal: Journal, cut: Tiles, plan: Plan) -> Iterator[Order]:
        layout = self.steps[-1].output_layout
        for number in range(len(cut)):
            if number not in journal.done:
                box = cut[number].output
                place = f"tile {number} of {len(cut)} ({sizing.named(layout, box)})"
                yield Order(number, place, box, plan.workspace)

    def _in_file(self, plan: Plan) -> tuple[int, ...]:
        """The size of a tile, its axes as in the file."""
        sizes = dict(zip(self.steps[-1].output_layout, plan.tile, strict=True))
        return tuple(sizes[c] for c in self.target.letters)

    def _check_same(
        self,
        journal: Journal,
        made_of: dict[str, str],
        wanted: tuple[int, ...] | None,
        restart: bool,
    ) -> None:
        """A run that was stopped made the same.

        Raises:
            ConvertError: it did not; the message says what is different.
        """
        if journal.header is None or restart:
            return
        before = journal.header.get("made_of", {})
        other = [part for part, told in made_of.items() if before.get(part) != told]
        if wanted is not None and wanted != journals.plan_of(journal.header).tile:
            other.append("the tiles")
        if other:
            raise ConvertError(
                f"{self.target.path}: was begun with something else; since then {', '.join(other)} "
                f"changed.\n  Begin anew with restart=True (--restart), or write to another name."
            )

    def _kept(self, journal: Journal, restart: bool) -> Plan | None:
        """The plan of a run that was stopped, if this one can go on from there."""
        if journal.header is None or restart:
            return None
        try:
            self.target.reopen()
        except ConvertError:  # what was done is gone
            return None
        return journals.plan_of(journal.header)

    def _costs(self) -> Costs:
        read = numpy_dtype(self.source.dtype).itemsize
        return Costs(numpy_dtype(self.dtype).itemsize, read, self.source.beside)

    def _plan(self, wanted: tuple[int, ...] | None, room: int, jobs: int, limit: int) -> Plan:
        costs = self._costs()
        if wanted is not None:
            plan: Plan | None = sizing.plan_for(self.steps, wanted, costs, max(room, 1))
        else:
            plan = sizing.choose(self.steps, costs, room, at_least=jobs) if room > 0 else None
        if plan is None or plan.bytes > room:
            least = plan or sizing.smallest(self.steps, costs)
            what = "such a tile" if plan else "the smallest possible tile, one position,"
            raise ConvSpecError(
                f"memory: {in_words(limit)} is too little; {what} needs {in_words(least.bytes)}, "
                f"with {jobs + 1} processes and the engine {_whole(least, room, limit, jobs)} in "
                f"all.\n  Give at least that much" + (", or fewer jobs." if jobs > 1 else ".")
            )
        return plan

    def _begin(self, journal: Journal, made_of: dict[str, str], plan: Plan) -> None:
        """Make the file that the result is written to, and say so in the journal."""
        target = self.target
        journal.clear()
        for path in target.path.parent.glob(f"{glob.escape(target.path.name)}*"):
            if path != journal.path:
                remove(path)
        itemsize = target.entry.dtype.itemsize
        chunks = sizing.cuts(target.entry.shape, self._in_file(plan), itemsize, CHUNK)
        try:
            target.create(chunks)
        except OSError as error:
            remove(target.path)
            raise ConvertError(
                f"{target.path}: cannot be written: {error.strerror}; it needs "
                f"{in_words(target.entry.nbytes)}."
            ) from error
        journal.begin({"made_of": made_of, "plan": plan.__dict__})

    def _check_done(self, journal: Journal, cut: Tiles) -> int:
        """How many tiles are done; those whose data are not there are not."""
        if journal.done:
            writer = self.target.reopen()
            gone = {
                n
                for n in journal.done
                if n >= len(cut) or writer.lacks(NAME, self.target.index(cut[n].output))
            }
            for number in gone:
                del journal.done[number]
        return len(journal.done)


def _cut(problem: Problem, plan: Plan) -> Tiles:
    whole = (None if c == "C" else n for c, n in zip(problem.output_layout, plan.tile, strict=True))
    return Tiles(problem, tuple(whole))


def _room(limit: int, jobs: int, crew: Crew) -> int:
    """Bytes that one worker has for a tile."""
    # What is resident varies a little from run to run; the plan shall not.
    base = -(-crew.memory // STEADY) * STEADY
    return (limit - PARENT) // jobs - base


def _whole(plan: Plan, room: int, limit: int, jobs: int) -> str:
    """What all processes need together, in words."""
    return in_words(limit - (room - plan.bytes) * jobs)


def _finish(target: storage.Target, out: Path, journal: Journal) -> None:
    """The result is whole: it takes its name."""
    try:
        target.reopen().finish()
        take_name(target.path, out)
    except OSError as error:
        raise ConvertError(
            f"{out}: cannot be written: {error.strerror}.\n  All tiles are done, in {target.path}; "
            f"the same command goes on from there."
        ) from error
    journal.clear()
    remove(target.path)  # what had the name before, if it was a folder
