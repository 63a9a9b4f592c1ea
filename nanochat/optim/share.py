"""What each rank owns of a parameter: gradients are reduced to it, state lives only there, updates leave from it.

Parameters themselves stay whole on every rank: stage 2 of ZeRO (Rajbhandari et al., 2020). Reductions and
gathers are asynchronous: each gives back a function that waits for it.

Shapes: I items of one shape: the numbers of one parameter (item shape ()), or matrices of one shape (M, N).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor


class Share:
    """Equal items, cut over the ranks in order: ``per_rank`` each, the last ranks fewer or none."""

    def __init__(self, params: list[Tensor], item_shape: tuple[int, ...]) -> None:
        self.params, self.item_shape = params, item_shape
        ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.rank, self.world_size = ranks
        self.items = sum(param.numel() for param in params) // math.prod(item_shape)
        self.per_rank = -(-self.items // self.world_size)
        start = min(self.rank * self.per_rank, self.items)
        self.mine = slice(start, min(start + self.per_rank, self.items))
        # Then its own memory is the buffer that is sent from and gathered into.
        self._in_place = (
            len(params) == 1 and params[0].is_contiguous() and self.items % self.world_size == 0
        )

    def reduce(self) -> Callable[[], Tensor]:
        """Start to average gradients over ranks; the result is this rank's items. A missing one is zero."""
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
        whole_I = self._as_items(grads)
        if self.world_size == 1:
            return lambda: whole_I
        padded = self._padded(whole_I, self.per_rank * self.world_size)
        received = padded.new_empty(self.per_rank, *self.item_shape)
        work = dist.reduce_scatter_tensor(received, padded, async_op=True)

        def wait() -> Tensor:
            work.wait()
            return received[: self.mine.stop - self.mine.start].div_(self.world_size)

        return wait

    def owned(self) -> Tensor:
        """This rank's items of the parameters, to be updated in place and then sent by ``gather``."""
        if len(self.params) == 1:
            return self._as_items(self.params)[self.mine]
        mine = self.params[self.mine]
        return torch.stack(mine) if mine else self.params[0].new_empty(0, *self.item_shape)

    def gather(self, owned: Tensor) -> Callable[[], None]:
        """Start to send the updated items; when the result has been called, every rank's parameters are new."""
        if self.world_size == 1:
            return lambda: self._write(owned)
        padded = self._padded(owned, self.per_rank)
        size = self.per_rank * self.world_size
        whole = self._as_items(self.params) if self._in_place else owned.new_empty(size, *self.item_shape)
        work = dist.all_gather_into_tensor(whole, padded, async_op=True)

        def wait() -> None:
            work.wait()
            self._write(whole[: self.items])

        return wait

    def collect(self, owned: Tensor) -> Tensor | None:
        """State of all items: the live tensor if there is one rank, else on the CPU of rank 0 only."""
        if self.world_size == 1:
            return owned
        padded = self._padded(owned, self.per_rank)
        pieces = [torch.empty_like(padded) for _ in range(self.world_size)] if self.rank == 0 else None
        dist.gather(padded, pieces)
        return torch.cat([piece.cpu() for piece in pieces])[: self.items] if pieces else None

    def shaped(self, whole: Tensor | None) -> Tensor | None:
        """State of all numbers of one parameter in the shape of the parameter; any other as it is."""
        per_number = whole is not None and not self.item_shape and whole.dim() == 1
        return whole.view_as(self.params[0]) if per_number else whole

    def _as_items(self, tensors: list[Tensor]) -> Tensor:
        return tensors[0].reshape(-1, *self.item_shape) if len(tensors) == 1 else torch.stack(tensors)

    def _padded(self, items: Tensor, count: int) -> Tensor:
        if items.size(0) == count:
            return items.contiguous()
        padded = items.new_zeros(count, *items.shape[1:])
        padded[: items.size(0)] = items
        return padded

    def _write(self, whole_I: Tensor) -> None:
        if not self._in_place:
            new = [whole_I.view_as(self.params[0])] if len(self.params) == 1 else whole_I.unbind(0)
            torch._foreach_copy_(self.params, list(new))
