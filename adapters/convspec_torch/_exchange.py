"""Messages between processes that autograd knows of: each has a way back for the gradient.

A message is a flat tensor. :class:`Start` sends and :class:`Finish` waits, so that work may go on
in between. Backwards their roles are exchanged: the gradient of what came is sent off in
``Finish.backward``, and waited for in ``Start.backward``; autograd runs what was recorded later
first, hence all that lies in between, in between. All these maps are linear, and the backward of
each is made of them again, so that gradients can be differentiated too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd import Function

from convspec.errors import ConvSpecError

Box = tuple[tuple[int, int], ...]
HALOS, GREETING = 1, 2


class Exchange:
    """One round of messages.

    Args:
        sends: ranks, of the whole world, that get a message.
        receives: ranks that send one, and how many elements it has.
        timeout: seconds to wait for a rank; None for the process group's own.
    """

    def __init__(
        self, sends: Sequence[int], receives: dict[int, int], timeout: float | None
    ) -> None:
        self.sends = tuple(sends)
        self.receives = receives
        self.timeout = timeout
        #: The messages under way backwards.
        self.back: Exchange | None = None
        self._arriving: list[torch.Tensor] = []
        self._outgoing: tuple[torch.Tensor, ...] = ()
        self._works: list[tuple[int, Any]] = []

    def start(self, outgoing: Sequence[torch.Tensor], like: torch.Tensor, tag: int = HALOS) -> None:
        """Send a tensor to each of ``sends``; what comes has the type and device of ``like``."""
        # They live here until they have arrived.
        self._outgoing = tuple(tensor.detach().contiguous() for tensor in outgoing)
        self._arriving = [like.new_empty(count) for count in self.receives.values()]
        ops = [
            (rank, dist.P2POp(dist.irecv, tensor, rank, tag=tag))
            for rank, tensor in zip(self.receives, self._arriving, strict=True)
        ]
        ops += [
            (rank, dist.P2POp(dist.isend, tensor, rank, tag=tag))
            for rank, tensor in zip(self.sends, self._outgoing, strict=True)
        ]
        ranks = [rank for rank, _ in ops]
        try:
            works = dist.batch_isend_irecv([op for _, op in ops]) if ops else []
        except RuntimeError as error:
            raise _silent(ranks, self.timeout, error) from error
        # Some backends make one of all.
        self._works = list(zip(ranks, works, strict=len(works) != 1))

    def finish(self) -> list[torch.Tensor]:
        """What has come, in the order of ``receives``; every message of ours has left, too."""
        wait = None if self.timeout is None else timedelta(seconds=self.timeout)
        for rank, work in self._works:
            try:
                work.wait() if wait is None else work.wait(wait)
            except RuntimeError as error:
                ranks = [rank] if len(self._works) > 1 else [*self.receives, *self.sends]
                raise _silent(ranks, self.timeout, error) from error
        arrived = self._arriving
        self._works, self._arriving, self._outgoing = [], [], ()
        return arrived

    def reverse(self, sizes: Sequence[int]) -> Exchange:
        """The same messages the other way; ``sizes`` are those of what this one sent."""
        return Exchange(
            tuple(self.receives), dict(zip(self.sends, sizes, strict=True)), self.timeout
        )


def _silent(ranks: Sequence[int], timeout: float | None, error: Exception) -> ConvSpecError:
    who = f"rank {ranks[0]}" if len(set(ranks)) == 1 else f"one of the ranks {sorted(set(ranks))}"
    within = "" if timeout is None else f" within {timeout:g} s"
    first = f"{error}".strip().split("\n")[0][:200]
    told: ConvSpecError = ConvSpecError(
        f"mesh: {who} did not answer{within}; it has died, hangs, or computes something else.\n"
        f"  {first}"
    )
    return told


# ---- for autograd ----


class Start(Function):  # type: ignore[misc]  # torch's types are not looked at here
    """(anchor, outgoing...) -> token. Token and anchor are zeros that tie the graph together."""

    @staticmethod
    def forward(ctx: Any, exchange: Exchange, anchor: Any, *outgoing: Any) -> Any:
        ctx.exchange = exchange
        ctx.sizes = [tensor.numel() for tensor in outgoing]
        exchange.start(outgoing, anchor)
        return anchor.new_zeros(())

    @staticmethod
    def backward(ctx: Any, token: Any) -> Any:
        back = ctx.exchange.back
        ctx.exchange.back = None
        return None, *Finish.apply(back, token)


class Finish(Function):  # type: ignore[misc]
    """Token -> (token, arrived...)."""

    @staticmethod
    def forward(ctx: Any, exchange: Exchange, token: Any) -> Any:
        ctx.exchange = exchange
        ctx.sizes = [tensor.numel() for tensor in exchange._outgoing]
        return (token.new_zeros(()), *exchange.finish())

    @staticmethod
    def backward(ctx: Any, token: Any, *gradients: Any) -> Any:
        ctx.exchange.back = ctx.exchange.reverse(ctx.sizes)
        return None, Start.apply(ctx.exchange.back, token, *gradients)


class Attach(Function):  # type: ignore[misc]
    """(y, token) -> y, so that whoever has no message to read still sends the gradients of others'.

    Every process then takes part in the way back, whatever it computes.
    """

    @staticmethod
    def forward(ctx: Any, y: Any, token: Any) -> Any:
        ctx.mark_dirty(y)  # itself and no view, so that what follows may work in place
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient, gradient.reshape(-1)[:0].sum()


class Cut(Function):  # type: ignore[misc]
    """x -> boxes of it, one for each; backwards their sum, in one array rather than one each."""

    @staticmethod
    def forward(ctx: Any, x: Any, boxes: Sequence[Box]) -> Any:
        ctx.shape, ctx.boxes = x.shape, boxes
        return tuple(x[_index(box)].view_as(x[_index(box)]) for box in boxes)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return Paste.apply(ctx.shape, ctx.boxes, *gradients), None


class Paste(Function):  # type: ignore[misc]
    """The transpose of :class:`Cut`."""

    @staticmethod
    def forward(ctx: Any, shape: Sequence[int], boxes: Sequence[Box], *parts: Any) -> Any:
        ctx.boxes = boxes
        whole = parts[0].new_zeros(shape)
        for box, part in zip(boxes, parts, strict=True):
            whole[_index(box)] += part
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return None, None, *Cut.apply(gradient, ctx.boxes)


class Shared(Function):  # type: ignore[misc]
    """An array that all processes have; backwards the sum of their gradients, on each of them."""

    @staticmethod
    def forward(ctx: Any, array: Any, groups: Sequence[Any]) -> Any:
        ctx.groups = groups
        return array.view_as(array)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return Total.apply(gradient, ctx.groups), None


class Total(Function):  # type: ignore[misc]
    """The sum over all processes, which each of them has; what is made of it counts once."""

    @staticmethod
    def forward(ctx: Any, array: Any, groups: Sequence[Any]) -> Any:
        total = array.clone(memory_format=torch.contiguous_format)
        for group in groups:
            dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient, None


def _index(box: Box) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)
