"""Copies between two orders of axes, compiled by numba, which this module needs.

Squares of 8 x 8 elements are transposed in vector registers, and read and written as whole vectors:
what is left is the memory's own time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

#: Elements of a vector.
WIDTH = 8
#: Elements of a tile, and at most along the input's contiguous axis: of 1024 to 8192 and 64 to 256
#: the fastest in most shapes, by little.
TILE, LONG = 4096, 128

# ---- moves of a few elements from an address to a flat array ----


def _ends(context: Any, builder: Any, kind: Any, out: Any, x: Any) -> tuple[Any, Any]:
    """Pointers to the elements of the output, an array, and of the input, an address."""
    data = context.make_array(kind)(context, builder, out).data
    return data, builder.inttoptr(x, context.get_data_type(kind.dtype).as_pointer())


def _load(builder: Any, kind: Any, data: Any, at: Any, count: int) -> Any:
    vector = ir.VectorType(ir.IntType(kind.dtype.bitwidth), count).as_pointer()
    loaded = builder.load(builder.bitcast(builder.gep(data, [at]), vector))
    loaded.align = kind.dtype.bitwidth // 8
    return loaded


def _store(builder: Any, kind: Any, data: Any, at: Any, value: Any) -> None:
    where = builder.bitcast(builder.gep(data, [at]), value.type.as_pointer())
    builder.store(value, where).align = kind.dtype.bitwidth // 8


def _mixed(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """Elements of two vectors, numbered through, as one vector."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(a, b, mask)


@intrinsic  # type: ignore[untyped-decorator]
def _square(
    typing: Any,
    out: Any,
    to: Any,
    out_step: Any,
    stored: Any,
    x: Any,
    at: Any,
    x_step: Any,
    loaded: Any,
) -> Any:
    """Column i of 8 vectors as row i of the result.

    Only the first ``stored`` columns are wanted, and only the first ``loaded`` vectors are read.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, to, out_step, stored, x, at, x_step, loaded = arguments
        kind = signature.args[0]
        data, source = _ends(context, builder, kind, out, x)
        half = WIDTH // 2
        parts = []
        for i in range(1, WIDTH + 1):
            right = builder.add(at, ir.Constant(at.type, half))
            parts.append([_load(builder, kind, source, start, half) for start in (at, right)])
            more = builder.icmp_signed("<", ir.Constant(loaded.type, i), loaded)
            at = builder.select(more, builder.add(at, x_step), at)  # or the last one again
        # Half of row i beside the same half of row i + 4: loads do what shuffles would have to.
        pairs = [(parts[i][n], parts[i + half][n]) for n in (0, 1) for i in range(half)]
        rows = [_mixed(builder, *pair, [*range(WIDTH)]) for pair in pairs]
        low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
        for _ in range(2):  # four vectors at a time are zipped twice, in both halves
            rows = [
                _mixed(builder, rows[i], rows[i + 2], lanes)
                for i in (0, 1, 4, 5)
                for lanes in (low, high)
            ]
        for i, row in enumerate(rows):
            wanted = builder.icmp_signed("<", ir.Constant(stored.type, i), stored)
            with builder.if_then(wanted, likely=True):
                _store(builder, kind, data, to, row)
            to = builder.add(to, out_step)
        return context.get_dummy_value()

    integers = (types.int64,) * 3
    return types.void(out, *integers, types.uint64, *integers), build


def _zip(count: int) -> Any:
    """Vectors as the columns of rows of ``count`` elements, 2 to 4, that lie end to end."""

    @intrinsic  # type: ignore[untyped-decorator]
    def zipped(typing: Any, out: Any, to: Any, x: Any, at: Any, x_step: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out, to, x, at, x_step = arguments
            kind = signature.args[0]
            data, source = _ends(context, builder, kind, out, x)
            rows = []
            for _ in range(count):
                rows.append(_load(builder, kind, source, at, WIDTH))
                at = builder.add(at, x_step)
            both = [*range(2 * WIDTH)]
            a = _mixed(builder, rows[0], rows[1], both)
            b = _mixed(builder, rows[-2], rows[-1], both)
            skipped = (4 - count) * WIDTH  # of b, which a has already
            lanes = [row * WIDTH + i for i in range(WIDTH) for row in range(count)]
            lanes = [n if n < 2 * WIDTH else n + skipped for n in lanes]
            _store(builder, kind, data, to, _mixed(builder, a, b, lanes))
            return context.get_dummy_value()

        return types.void(out, types.int64, types.uint64, types.int64, types.int64), build

    return zipped


def _unzip(count: int) -> Any:
    """Columns of rows of ``count`` elements that lie end to end, each as a vector."""

    @intrinsic  # type: ignore[untyped-decorator]
    def unzipped(typing: Any, out: Any, to: Any, out_step: Any, x: Any, at: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out, to, out_step, x, at = arguments
            kind = signature.args[0]
            data, source = _ends(context, builder, kind, out, x)
            rows = _load(builder, kind, source, at, count * WIDTH)
            for i in range(count):
                lanes = [*range(i, count * WIDTH, count)]
                _store(builder, kind, data, to, _mixed(builder, rows, rows, lanes))
                to = builder.add(to, out_step)
            return context.get_dummy_value()

        return types.void(out, types.int64, types.int64, types.uint64, types.int64), build

    return unzipped


def _move(count: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def moved(typing: Any, out: Any, to: Any, x: Any, at: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out, to, x, at = arguments
            kind = signature.args[0]
            data, source = _ends(context, builder, kind, out, x)
            _store(builder, kind, data, to, _load(builder, kind, source, at, count))
            return context.get_dummy_value()

        return types.void(out, types.int64, types.uint64, types.int64), build

    return moved


_vector, _single = _move(WIDTH), _move(1)
_zip2, _zip3, _zip4 = map(_zip, (2, 3, 4))
_unzip2, _unzip3, _unzip4 = map(_unzip, (2, 3, 4))

# ---- blocks ----


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def copy(
    out: Any, to: int, out_steps: Any, x: Any, at: int, x_steps: Any, end: int, lengths: Any
) -> None:
    """Copy a block of five axes; other threads run meanwhile.

    Args:
        out: flat array of unsigned integers.
        to: where in it the block begins.
        out_steps: how far apart neighbours lie on each axis there, in elements; 1 on the last.
        x: address of elements of the same type.
        at: where behind it the block begins, in elements.
        x_steps: how far apart neighbours lie there; 1 on the last axis or on the last but one.
        end: behind ``x``, where its memory ends.
        lengths: of the block.
    """
    n0, n1, n2, na, nb = lengths
    o0, o1, o2, oa, _ = out_steps
    s0, s1, s2, sa, sb = x_steps
    straight = sb == 1
    long, short = na, nb
    if not straight:
        short = min(nb, TILE // min(LONG, na))
        long = min(na, TILE // short)
    for a in range(0, na, long):
        for b in range(0, nb, short):
            for i in range(n0):
                for j in range(n1):
                    for k in range(n2):
                        o = to + i * o0 + j * o1 + k * o2 + a * oa + b
                        s = at + i * s0 + j * s1 + k * s2 + a * sa + b * sb
                        n, m = min(long, na - a), min(short, nb - b)
                        if straight:
                            _runs(out, o, oa, x, s, sa, n, m)
                        else:
                            _tile(out, o, oa, x, s, sb, end, n, m)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _runs(out: Any, to: int, oa: int, x: Any, at: int, sa: int, na: int, nb: int) -> None:
    """x[at + a * sa + b] to out[to + a * oa + b]."""
    for a in range(na):
        if nb >= WIDTH:
            for b in range(0, nb - WIDTH, WIDTH):
                _vector(out, to + a * oa + b, x, at + a * sa + b)
            b = nb - WIDTH  # the last vector overlaps the one before
            _vector(out, to + a * oa + b, x, at + a * sa + b)
        else:
            for b in range(nb):
                _single(out, to + a * oa + b, x, at + a * sa + b)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _tile(out: Any, to: int, oa: int, x: Any, at: int, sb: int, end: int, na: int, nb: int) -> None:
    """x[at + a + b * sb] to out[to + a * oa + b]."""
    if na >= WIDTH and nb >= WIDTH:
        # First along the side on which rows lie closer together, so that on the other, where they
        # may push each other out of the cache, eight of them are in the making.
        outer, inner = (na, nb) if oa >= sb else (nb, na)
        for i in range(0, outer, WIDTH):
            for j in range(0, inner, WIDTH):
                m, n = min(i, outer - WIDTH), min(j, inner - WIDTH)  # the last ones overlap
                a, b = (m, n) if oa >= sb else (n, m)
                _square(out, to + a * oa + b, oa, WIDTH, x, at + a + b * sb, sb, WIDTH)
        return
    if 2 <= nb == oa <= 4 and na >= WIDTH:  # colours, and the like
        for i in range(0, na, WIDTH):
            a = min(i, na - WIDTH)
            if nb == 2:
                _zip2(out, to + a * 2, x, at + a, sb)
            elif nb == 3:
                _zip3(out, to + a * 3, x, at + a, sb)
            else:
                _zip4(out, to + a * 4, x, at + a, sb)
        return
    if 2 <= na == sb <= 4 and nb >= WIDTH:
        for i in range(0, nb, WIDTH):
            b = min(i, nb - WIDTH)
            if na == 2:
                _unzip2(out, to + b, oa, x, at + b * 2)
            elif na == 3:
                _unzip3(out, to + b, oa, x, at + b * 3)
            else:
                _unzip4(out, to + b, oa, x, at + b * 4)
        return
    a0 = b0 = 0
    if nb == oa < WIDTH:
        # Each store reaches into the next row, which is stored after it.
        while a0 + WIDTH < na:
            _square(out, to + a0 * oa, oa, WIDTH, x, at + a0, sb, nb)
            a0 += WIDTH
    elif na < WIDTH:
        # More is loaded than is used, but nothing behind the array's end.
        while b0 + WIDTH <= nb and at + max(b0 * sb, (b0 + WIDTH - 1) * sb) + WIDTH <= end:
            _square(out, to + b0, oa, na, x, at + b0 * sb, sb, WIDTH)
            b0 += WIDTH
    for b in range(b0, nb):
        for a in range(a0, na):
            _single(out, to + a * oa + b, x, at + a + b * sb)
