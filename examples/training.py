"""Training written once: a denoiser learns the same numbers in PyTorch, TensorFlow and JAX.

Three convolutions, one of them transposed, learn to take noise out of an ECG (1-D), handwritten
digits (2-D) and an MRI volume (3-D). The model is defined once for every rank; each framework
starts from the same weights, differentiates by its own means, and runs 50 steps of the same
gradient descent. Stride 2 with "same" padding, forward and transposed, is what ports get wrong.

    python examples/training.py                     # needs scikit-learn, PyWavelets, nibabel
    python examples/training.py --frameworks torch jax --picture curves.png

*How far may the curves differ?* Rounding errors do not only add up over 50 steps: each step's error
is carried on by all later ones, so the limit is found by training, too. The same model learns in
float64, once exactly and several times with random errors as large as float32's: every convolution
and each of its gradients is a sum of n products and is off by the mean square
(n+1) u**2 (q + y**2), u = 2**-24, that bounds.py explains; tanh, each step's new weights and the
loss are off as well. (This is Monte Carlo arithmetic: Parker 1997, Monte Carlo Arithmetic:
exploiting randomness in floating-point arithmetic.) The root mean square of the deviations from
the exact curve, times the same factor as in bounds.py, is the limit for each step. tanh is smooth:
behind a ReLU an error may switch a gradient on, which no first-order bound allows for.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bounds import CHANCE, TANH, U
from convspec import ConvSpec
from convspec.demo import signals
from portable import Framework, Layer, available, drawn

STEPS = 50
#: How often the training with random errors is repeated for the limit.
SAMPLES = 6
#: The noise's standard deviation; the data's is 1.
NOISE = 0.5
WIDTH = 4

#: Weight and bias of each layer.
Parameters = dict[str, tuple[Any, Any]]
Loss = Callable[[Parameters, Any, Any], Any]
#: From parameters, noisy and clean signals to the loss and the next parameters.
Step = Callable[[Parameters, Any, Any], tuple[Any, Parameters]]


# ---- the model: once for every rank and framework -----------------------------------------------


def layers(rank: int, seed: int = 0) -> dict[str, Layer]:
    """The convolutions for signals with one channel and ``rank`` spatial axes of even sizes."""
    layout = {1: "NCW", 2: "NCHW", 3: "NCDHW"}[rank]
    specs = {
        "down": ConvSpec(1, WIDTH, 3, stride=2, padding="same", layout=layout),
        "middle": ConvSpec(WIDTH, WIDTH, 3, padding="same", layout=layout),
        "up": ConvSpec(WIDTH, 1, 3, stride=2, padding="same", layout=layout, transposed=True),
    }
    rng = np.random.default_rng(seed)
    return {name: drawn(spec, rng) for name, spec in specs.items()}


def network(net: Framework, x: Any) -> Any:
    """The signal without what the layers take for noise; the shape is that of ``x``."""
    y = net.tanh(net.conv("down", x))
    y = net.tanh(net.conv("middle", y))
    return x - net.conv("up", y)


def loss_of(net: Framework) -> Loss:
    """The mean squared error of the network, as a function of its parameters."""

    def loss(parameters: Parameters, noisy: Any, clean: Any) -> Any:
        own = copy.copy(net)
        own.layers = {
            name: replace(net.layers[name], weight=weight, bias=bias)
            for name, (weight, bias) in parameters.items()
        }
        off = net.functions.reshape(network(own, noisy) - clean, (-1,))
        return net.functions.tensordot(off, off, 1) / off.shape[0]

    return loss


def descend(parameters: Parameters, gradients: Parameters, rate: float) -> Parameters:
    """One step of gradient descent."""
    return {
        name: tuple(p - rate * g for p, g in zip(pair, gradients[name], strict=True))
        for name, pair in parameters.items()
    }


# ---- what differs: how each framework differentiates and compiles -------------------------------


def torch_step(loss: Loss, rate: float) -> Step:
    import torch

    def step(parameters: Parameters, noisy: Any, clean: Any) -> tuple[Any, Parameters]:
        gradients, value = torch.func.grad_and_value(loss)(parameters, noisy, clean)
        return value, descend(parameters, gradients, rate)

    return step


def tensorflow_step(loss: Loss, rate: float) -> Step:
    import tensorflow as tf

    def step(parameters: Parameters, noisy: Any, clean: Any) -> tuple[Any, Parameters]:
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            value = loss(parameters, noisy, clean)
        return value, descend(parameters, tape.gradient(value, parameters), rate)

    return tf.function(step)  # type: ignore[no-any-return]


def jax_step(loss: Loss, rate: float) -> Step:
    import jax

    def step(parameters: Parameters, noisy: Any, clean: Any) -> tuple[Any, Parameters]:
        value, gradients = jax.value_and_grad(loss)(parameters, noisy, clean)
        return value, descend(parameters, gradients, rate)

    return jax.jit(step)  # type: ignore[no-any-return]


STEP = {"torch": torch_step, "tensorflow": tensorflow_step, "jax": jax_step}


# ---- data ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Signals to learn from.

    Attributes:
        name: what they are.
        clean: float32 (N, C, spatial), channels first; mean 0, standard deviation 1.
        noisy: the same with noise.
        rate: of learning; a power of two, which multiplies without an error.
    """

    name: str
    clean: np.ndarray
    noisy: np.ndarray
    rate: float

    @property
    def rank(self) -> int:
        return self.clean.ndim - 2


def task(name: str, values: np.ndarray, rate: float, seed: int = 0) -> Task:
    """Signals (N, spatial) made into a task: one channel, even sizes, normalised, with noise."""
    values = values[:, None].astype(np.float64)
    clean = ((values - values.mean()) / values.std()).astype(np.float32)
    rng = np.random.default_rng(seed)
    noise = np.float32(NOISE) * rng.standard_normal(clean.shape, dtype=np.float32)
    return Task(name, clean, clean + noise, rate)


def blocks(volume: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """An array cut into blocks of ``size``, side by side, a rest left out: (N, *size)."""
    counts = [n // k for n, k in zip(volume.shape, size, strict=True)]
    whole = volume[tuple(slice(c * k) for c, k in zip(counts, size, strict=True))]
    split = whole.reshape([n for pair in zip(counts, size, strict=True) for n in pair])
    inner = range(1, split.ndim, 2)
    return np.moveaxis(split, inner, range(-len(size), 0)).reshape(-1, *size)


def ecg() -> Task:
    """2.8 seconds of an electrocardiogram (PyWavelets), in windows of 128 samples."""
    return task("ECG, 1-D", blocks(signals.ecg().values, (128,)), rate=1 / 8)


def digits() -> Task:
    """128 handwritten digits of 8 x 8 (scikit-learn)."""
    from sklearn.datasets import load_digits

    return task("digits, 2-D", load_digits().images[:128], rate=1 / 2)


def mri() -> Task:
    """The inner part of an MRI of a head (nibabel), in blocks of 8 x 16 x 16."""
    inner = signals.volume().values[:, 16:80, 16:112]
    return task("MRI, 3-D", blocks(inner, (8, 16, 16))[::6], rate=1 / 2)


TASKS = {"ecg": ecg, "digits": digits, "mri": mri}


# ---- training -----------------------------------------------------------------------------------


def train(name: str, work: Task, steps: int = STEPS) -> np.ndarray:
    """The loss before each step, float64 of the framework's float32."""
    net = Framework(name, layers(work.rank))
    step = STEP[name](loss_of(net), work.rate)
    return _curve(net, step, work, np.float32, steps)


def _curve(net: Framework, step: Step, work: Task, dtype: Any, steps: int) -> np.ndarray:
    parameters = {key: (layer.weight, layer.bias) for key, layer in net.layers.items()}
    noisy, clean = (net.enter(array.astype(dtype)) for array in (work.noisy, work.clean))
    losses = []
    for _ in range(steps):
        value, parameters = step(parameters, noisy, clean)
        losses.append(float(value))
    return np.array(losses)


def exact(work: Task, steps: int = STEPS) -> np.ndarray:
    """The losses of the training in float64, by PyTorch."""
    net = Framework("torch", _double(work))
    return _curve(net, torch_step(loss_of(net), work.rate), work, np.float64, steps)


def limit(
    work: Task, curve: np.ndarray, samples: int = SAMPLES, unit: float = U, seed: int = 0
) -> np.ndarray:
    """How far a float32 training may be from the ``exact`` curve, at each step.

    Args:
        work: what is trained.
        curve: what :func:`exact` gave.
        samples: how many trainings with random errors to take the mean square of.
        unit: of rounding; u of float32.
        seed: of the random errors.
    """
    total = np.zeros_like(curve)
    for sample in range(samples):
        net = Perturbed(_double(work), unit, seed + sample)
        step = net.step(torch_step(loss_of(net), work.rate))
        total += (_curve(net, step, work, np.float64, len(curve)) - curve) ** 2
    return np.sqrt(total / samples) * math.sqrt(2 * math.log(2 * curve.size / CHANCE))


def _double(work: Task) -> dict[str, Layer]:
    return {
        name: replace(layer, weight=layer.weight.astype("f8"), bias=layer.bias.astype("f8"))
        for name, layer in layers(work.rank).items()
    }


class Perturbed(Framework):
    """PyTorch in float64, with random errors where float32 would round."""

    def __init__(self, layers: dict[str, Layer], unit: float, seed: int) -> None:
        import torch

        super().__init__("torch", layers)
        self.unit, self.random = unit, torch.Generator().manual_seed(seed)

    def conv(self, key: str, x: Any) -> Any:
        layer = self.layers[key]
        return self._sum(layer.spec, x, layer.weight, layer.bias)

    def tanh(self, x: Any) -> Any:
        return self._scaled(super().tanh(x), TANH / U)

    def step(self, step: Step) -> Step:
        """A step whose loss and new parameters are rounded."""

        def rounded(parameters: Parameters, noisy: Any, clean: Any) -> tuple[Any, Parameters]:
            value, new = step(parameters, noisy, clean)
            pairs = {key: tuple(map(self._scaled, pair)) for key, pair in new.items()}
            return self._scaled(value, math.sqrt(clean.numel() + 1)), pairs

        return rounded

    def _scaled(self, x: Any, units: float = 1.0) -> Any:
        """``x`` off by a factor, and its gradient by the same."""
        return x * (1 + units * self._errors(x))

    def _errors(self, x: Any) -> Any:
        """Random numbers of mean square ``unit**2`` in the shape of ``x``."""
        import torch

        return self.unit * torch.randn(x.shape, generator=self.random, dtype=torch.float64)

    def _sum(self, spec: ConvSpec, *arrays: Any) -> Any:
        """``spec(*arrays)`` with errors in it and in its gradients.

        The squares q of the terms are summed by the same spec, forward and backward, on squares.
        """
        import torch

        def off(y: Any, q: Any, terms: float) -> Any:
            return y + torch.sqrt((terms + 1) * (q + y**2)) * self._errors(y)

        # Each sum's terms: all products, shared out among the sums; a bias is no product.
        products = spec.flops(tuple(arrays[0].shape)) / 2

        class Sum(torch.autograd.Function):
            @staticmethod
            def forward(*given: Any) -> Any:
                y = spec(*given)
                return off(y, spec(*(a**2 for a in given)), products / y.numel())

            @staticmethod
            def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
                ctx.save_for_backward(*inputs)

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                x, weight, bias = given = ctx.saved_tensors
                plain = torch.func.vjp(spec, *given)[1](g)
                squares = torch.func.vjp(spec, *(a**2 for a in given))[1](g**2)
                counts = (products / x.numel(), products / weight.numel(), g.numel() / bias.numel())
                return tuple(map(off, plain, squares, counts))

        return Sum.apply(*arrays)


# ---- the picture and the command line -----------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One task's loss curves: the exact one, each framework's, and how far these may be off."""

    task: Task
    exact: np.ndarray
    limit: np.ndarray
    curves: dict[str, np.ndarray]

    def share(self, name: str) -> float:
        """The largest share of the limit that a framework's curve is off by; NaN if it has one."""
        return float((abs(self.curves[name] - self.exact) / self.limit).max())


def run(work: Task, frameworks: list[str], steps: int = STEPS) -> Result:
    """Train on every framework, in float64, and with random errors."""
    with one_thread():
        curve = exact(work, steps)
        curves = {name: train(name, work, steps) for name in frameworks}
        return Result(work, curve, limit(work, curve), curves)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: on tensors this small, threads cost more than they do."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


#: Colour, width of the curve and size of the dots: later ones are smaller, so that all can be seen.
STYLE = {
    "torch": ("#f0a07c", 7.0, 8.0),
    "tensorflow": ("#5b8db8", 3.6, 5.5),
    "jax": ("#1d3540", 1.2, 3.0),
}


def picture(results: list[Result], path: str) -> None:
    """The loss curves over each other, and below how far each is from the exact one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(results), 6.4), layout="constrained", dpi=130)
    figure.suptitle("One model from the same weights, trained by each framework")
    axes = figure.subplots(
        *(2, len(results)), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2)
    )
    for (above, below), result in zip(axes.T, results, strict=True):
        steps = np.arange(len(result.exact))
        above.set_title(result.task.name)
        below.fill_between(steps, result.limit, color="0.92")
        for name, curve in result.curves.items():
            colour, width, size = STYLE[name]
            above.plot(steps, curve, color=colour, linewidth=width, label=name)
            off = abs(curve - result.exact)
            below.plot(steps, off, ".", color=colour, markersize=size)
        above.axhline(NOISE**2, color="0.6", linewidth=0.8, linestyle="--", label="noise as it was")
        below.set_xlabel("step")
    axes[0, 0].set(ylabel="mean squared error", ylim=(0, None))
    axes[1, 0].set(ylabel="off the float64 curve", yscale="log", ylim=(U / 100, None))
    axes[1, 0].annotate(
        "grey: within the limit", (0.97, 0.96), xycoords="axes fraction", ha="right", va="top"
    )
    axes[0, -1].legend(frameon=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(argv: list[str] | None = None) -> int:
    """Train, print a table, draw; the exit status says whether all curves are within the limit."""
    present = [name for name in available() if name in STEP]
    parser = argparse.ArgumentParser(description="One model trained on several frameworks.")
    parser.add_argument("--frameworks", nargs="+", choices=present, default=present, metavar="NAME")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--picture", default="training.png", help="a PNG (default training.png)")
    options = parser.parse_args(argv)

    results = [run(TASKS[name](), options.frameworks, options.steps) for name in options.tasks]
    heads = f"{'first loss':>14}{'last loss':>14}{'off':>10}{'of limit':>10}"
    print(f"{'task':14}{'framework':12}{heads}")
    wrong = []
    for result in results:
        for name, curve in result.curves.items():
            off, share = abs(curve - result.exact).max(), result.share(name)
            print(
                f"{result.task.name:14}{name:12}{curve[0]:14.7f}{curve[-1]:14.7f}"
                f"{off:10.1e}{share:10.1%}"
            )
            if not share <= 1:
                wrong.append(f"{name} on {result.task.name}")
    picture(results, options.picture)
    print(f"\n{options.picture}: the curves")
    print("Out of limit: " + "; ".join(wrong) if wrong else "All curves are within the limit.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
