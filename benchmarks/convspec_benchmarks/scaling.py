"""Weak scaling of a split volume over processes of torch.distributed, one thread each.

    python -m convspec_benchmarks.scaling --json result.json

Each process holds a slab of the volume, so that the work grows with them. In turn are timed: one
process alone on its slab; all of them at once, each by itself (what the machine's memory and the
neighbours take); all together by ``ShardedConv``. What is sent is counted and compared with the
plan's prediction.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from convspec import ConvSpec

from .running import about_the_machine
from .timing import ratio

#: Of the slab of one process.
DEPTH, HEIGHT, WIDTH, CHANNELS = 32, 48, 48, 16


def main() -> None:
    parser = argparse.ArgumentParser(prog="convspec_benchmarks.scaling", description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15, help="turns (15)")
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    parsed = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            context.Process(
                target=worker, args=(rank, parsed.processes, f"{folder}/store", parsed, results)
            )
            for rank in range(parsed.processes)
        ]
        for process in workers:
            process.start()
        report = {"about": about_the_machine(), "rows": results.get(timeout=600)}
        for process in workers:
            process.join()
    for row in report["rows"]:
        print(show(row))
    if parsed.json:
        Path(parsed.json).write_text(json.dumps(report, indent=1) + "\n")


def show(row: dict[str, Any]) -> str:
    """A row in words."""
    ratios = {
        name: "{:.2f} [{:.2f}, {:.2f}]".format(*row[name])
        for name in ("together_of_alone", "apart_of_alone", "together_of_apart")
    }
    return (
        f"{row['passes']}: one process {1e3 * row['alone']:.1f} ms; {row['processes']} at once, "
        f"each by itself, {ratios['apart_of_alone']} times that; together "
        f"{ratios['together_of_alone']} times, {ratios['together_of_apart']} times apart; sent "
        f"{row['sent_bytes']} bytes, predicted {row['halo_bytes']}"
    )


def worker(rank: int, count: int, store: str, parsed: argparse.Namespace, results: Any) -> None:
    """One process; the first reports."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    from convspec_torch.distributed import ShardedConv

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    spec = ConvSpec(CHANNELS, CHANNELS, 3, padding="same", layout="NCDHW")
    x = torch.ones(1, CHANNELS, DEPTH, HEIGHT, WIDTH)
    w = torch.ones(spec.weight_shape)
    conv = ShardedConv(spec, x.shape, init_device_mesh("cpu", (count,)), "D")
    sent = _count_sent(dist)
    rows = []
    for passes, leaves in (("forward", []), ("gradients", [x, w])):
        for leaf in leaves:
            leaf.requires_grad_()
        run = {
            "alone": _run(spec, x, w, leaves) if rank == 0 else _idle,
            "apart": _run(spec, x, w, leaves),
            "together": _run(conv, x, w, leaves),
        }
        samples: dict[str, list[float]] = {name: [] for name in run}
        for turn in range(parsed.repeats + 2):
            for name in list(run) if turn % 2 else list(run)[::-1]:
                dist.barrier()
                sent.clear()
                start = time.perf_counter()
                run[name]()
                seconds = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
                if name == "together":
                    bytes_sent = torch.tensor([sum(sent)])
                dist.all_reduce(seconds, dist.ReduceOp.MAX)  # the slowest process counts
                if turn > 1:
                    samples[name].append(float(seconds))
        ways = 2 if leaves else 1  # the gradients of the halos go back
        predicted = torch.tensor([ways * conv.halo_bytes])
        dist.all_reduce(predicted)
        dist.all_reduce(bytes_sent)
        rows.append(
            {
                "passes": passes,
                "processes": count,
                "spec": spec.to_dict(),
                "shard": list(x.shape),
                **{name: median(found) for name, found in samples.items()},
                "together_of_alone": ratio(samples["together"], samples["alone"]),
                "apart_of_alone": ratio(samples["apart"], samples["alone"]),
                "together_of_apart": ratio(samples["together"], samples["apart"]),
                "sent_bytes": int(bytes_sent),
                "halo_bytes": int(predicted),
                "samples": samples,
            }
        )
    if rank == 0:
        results.put(rows)
    dist.barrier()
    dist.destroy_process_group()


def _run(convolve: Any, x: Any, w: Any, leaves: list[Any]) -> Callable[[], None]:
    def run() -> None:
        y = convolve(x, w)
        if leaves:
            for leaf in leaves:
                leaf.grad = None
            y.backward(y.detach())

    return run


def _idle() -> None:
    pass


def _count_sent(dist: Any) -> list[int]:
    """A list that the sizes of all point-to-point messages from here on are put into."""
    sent: list[int] = []
    send = dist.batch_isend_irecv

    def counted(ops: list[Any]) -> Any:
        sent.extend(op.tensor.nbytes for op in ops if op.op is dist.isend)
        return send(ops)

    dist.batch_isend_irecv = counted
    return sent


if __name__ == "__main__":
    main()
