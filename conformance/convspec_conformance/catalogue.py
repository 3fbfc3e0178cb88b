"""The targets that have a name: known without importing any framework.

A name is one of :data:`CATALOGUE`, that of any other registered backend, or
``package.module:object``. What has to be in the environment before a framework is imported stands
in :attr:`Description.environment`; whoever starts a process for a target passes it on.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass, field

from convspec import BackendNotFoundError, ConvSpecError
from convspec.dispatch import entry_points


@dataclass(frozen=True)
class Description:
    """What there is to know of a target before its framework is imported.

    Attributes:
        name: of the target.
        source: ``package.module:object``, a backend, a target or a function that makes one; empty
            for the registered backend of this name.
        modules: what has to be installed; the first one is the framework.
        environment: variables that must be set before the framework is imported.
        unused: what the framework imports where it finds it, and the target has no use for.
        raw: the framework's own calls, with no convspec backend in between.
        summary: for a person.
    """

    name: str
    source: str = ""
    modules: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    raw: bool = False
    summary: str = ""

    @property
    def installed(self) -> bool:
        """Whether its framework is there; nothing is imported."""
        return all(importlib.util.find_spec(module) is not None for module in self.modules)

    def prepare(self) -> None:
        """Set the environment of this process, for a framework that is not imported yet.

        Raises:
            ConvSpecError: the framework has been imported under other settings.
        """
        for variable, value in self.environment.items():
            if os.environ.get(variable) == value:
                continue
            if self.modules[0] in sys.modules:
                raise ConvSpecError(
                    f"backend: {self.name!r} needs {variable}={value} in the environment before "
                    f"{self.modules[0]} is imported; start a new process with it."
                )
            os.environ[variable] = value


_HERE = "convspec_conformance.frameworks"
_TF = ("tensorflow",)
# Keras brings matplotlib and scikit-learn, TensorFlow Lite brings JAX: half of the import's time.
_UNUSED = ("jax", "keras")
_WITHOUT = {"TF_ENABLE_ONEDNN_OPTS": "0"}

_TABLE = [
    Description("numpy", summary="the NumPy engine"),
    Description("torch", f"{_HERE}.torch:eager", ("torch",), summary="eager"),
    Description("torch-compiled", f"{_HERE}.torch:compiled", ("torch",), summary="torch.compile"),
    Description(
        "torch-traced",
        f"{_HERE}.torch:traced",
        ("torch",),
        summary="torch.compile up to the generated code: Dynamo and AOTAutograd",
    ),
    Description(
        "torch-channels-last",
        f"{_HERE}.torch:channels_last",
        ("torch",),
        summary="arrays of 4 and 5 axes in channels-last strides",
    ),
    Description(
        "tensorflow",
        f"{_HERE}.tensorflow:eager",
        _TF,
        unused=_UNUSED,
        summary="eager, as installed",
    ),
    Description(
        "tensorflow-without-onednn",
        f"{_HERE}.tensorflow:eager",
        _TF,
        _WITHOUT,
        _UNUSED,
        summary="eager, as on a CPU that oneDNN is not used on",
    ),
    Description(
        "tensorflow-graph",
        f"{_HERE}.tensorflow:graph",
        _TF,
        unused=_UNUSED,
        summary="tf.function",
    ),
    Description(
        "tensorflow-xla",
        f"{_HERE}.tensorflow:xla",
        _TF,
        unused=_UNUSED,
        summary="tf.function(jit_compile=True)",
    ),
    Description(
        "jax", f"{_HERE}.jax:eager", ("jax",), summary="eager, 64-bit types on, LLVM not optimizing"
    ),
    Description("jax-jit", f"{_HERE}.jax:jitted", ("jax",), summary="jax.jit, 64-bit types on"),
    Description("mlx", modules=("mlx",), summary="lazy, on the default device"),
    Description("mlx-compiled", f"{_HERE}.mlx:compiled", ("mlx",), summary="mx.compile"),
    Description(
        "onnxruntime",
        modules=("onnxruntime", "onnx"),
        summary="one model for each problem, for inference",
    ),
    Description(
        "raw-torch",
        f"{_HERE}.torch:raw",
        ("torch",),
        raw=True,
        summary="torch.nn.functional.conv*d and conv_transpose*d",
    ),
    Description(
        "raw-tensorflow",
        f"{_HERE}.tensorflow:raw",
        _TF,
        unused=_UNUSED,
        raw=True,
        summary="tf.nn.conv*d, conv*d_transpose and depthwise_conv2d",
    ),
    Description(
        "raw-tensorflow-without-onednn",
        f"{_HERE}.tensorflow:raw",
        _TF,
        _WITHOUT,
        _UNUSED,
        raw=True,
        summary="the same on a CPU that oneDNN is not used on",
    ),
    Description(
        "raw-jax",
        f"{_HERE}.jax:raw",
        ("jax",),
        raw=True,
        summary="jax.lax.conv_general_dilated and conv_transpose",
    ),
    *(
        Description(
            f"raw-keras-{backend}",
            f"{_HERE}.keras:raw",
            ("keras", backend),
            {"KERAS_BACKEND": backend} | ({"JAX_ENABLE_X64": "1"} if backend == "jax" else {}),
            raw=True,
            summary=f"keras.ops.conv, conv_transpose and depthwise_conv on {backend}",
        )
        for backend in ("tensorflow", "jax", "torch")
    ),
]
CATALOGUE = {description.name: description for description in _TABLE}


def describe(name: str) -> Description:
    """What is known of the target called ``name``; ``package.module:object`` is its own source.

    Raises:
        BackendNotFoundError: nothing has this name; the message lists what has one.
    """
    if ":" in name:
        return Description(name, name)
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name in entry_points():
        return Description(name, modules=(name,))
    known = ", ".join(sorted({*CATALOGUE, *entry_points()}))
    raise BackendNotFoundError(
        f"backend: {name!r} is no target; there are: {known}.\n"
        f"  Or pass one as package.module:object."
    )
