"""Whole models of any framework, run on NumPy arrays with the tensors of a file."""

from __future__ import annotations

import copy
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..tables import quiet
from .errors import ConvertError, package
from .files import open_file
from .models import framework

Array = np.ndarray[Any, Any]
#: Sizes of an input, None where any will do.
Shape = tuple[int | None, ...]


class NotRunError(Exception):
    """A model that cannot be run with these tensors, and why."""


class Runner(ABC):
    """A model with tensors of its own, which those of a file take the place of.

    Attributes:
        engine: the framework that runs it.
        names: its tensors, as a file of its framework calls them.
        inputs: shape and element type of each input, as far as the model tells.
    """

    engine: str

    def __init__(self, names: Sequence[str], inputs: list[tuple[Shape, str]] | None) -> None:
        self.names = list(names)
        self.inputs = inputs

    @abstractmethod
    def load(self, arrays: Mapping[str, Array]) -> None:
        """Set these tensors; others stay."""

    @abstractmethod
    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """All outputs."""

    def skeleton(self, path: Path) -> Path:
        """A file of the model's own tensors, for their names and shapes."""
        raise ConvertError(f"like: a {self.engine} model cannot give names; pass a file.")


def runner_of(model: Any) -> Runner:
    """A runner for a live model or the path of an ``.onnx`` or ``.keras`` file.

    Raises:
        NotRunError: it is no such thing.
        ConvertError: a package is missing.
    """
    if isinstance(model, (str, Path)):
        path = Path(model)
        if path.suffix == ".onnx":
            return OnnxRunner(path)
        if path.suffix == ".keras":
            return KerasRunner(_loaded(path))
        raise NotRunError(f"{path.name} holds tensors alone, no model")
    kind = framework(model)
    if kind == "keras":
        return KerasRunner(model)
    if kind == "torch":
        return TorchRunner(model)
    if kind == "flax":
        return FlaxRunner(model)
    return OnnxRunner(model)


class TorchRunner(Runner):
    engine = "torch"

    def __init__(self, model: Any) -> None:
        self.torch = package("torch")
        self.model = copy.deepcopy(model).eval().float()
        super().__init__(list(self.model.state_dict()), None)

    def load(self, arrays: Mapping[str, Array]) -> None:
        state = self.model.state_dict()
        with self.torch.no_grad():
            for name, array in arrays.items():
                value = self.torch.from_numpy(np.array(array, _computed(array)))
                if tuple(value.shape) != tuple(state[name].shape):
                    raise NotRunError(f"{name!r} has shape {value.shape}, not {state[name].shape}")
                state[name].copy_(value)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        with self.torch.no_grad():
            try:
                found = self.model(*map(self.torch.from_numpy, inputs))
            except (RuntimeError, IndexError, ValueError, TypeError) as error:
                raise NotRunError(f"torch: {str(error).splitlines()[0][:200]}") from error
        return [np.asarray(value, np.float64) for value in _listed(found)]

    def skeleton(self, path: Path) -> Path:
        state = {
            name: value
            for name, value in self.model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        self.torch.save(state, path / "like.pt")
        return path / "like.pt"


def _loaded(path: Path) -> Any:
    keras = package("keras")
    try:
        with quiet():
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # custom classes, lambdas, versions
        raise NotRunError(f"Keras cannot load {path.name}: {str(error).splitlines()[0]}") from error


class KerasRunner(Runner):
    engine = "keras"

    def __init__(self, model: Any) -> None:
        self.model = model
        self.numpy = package("keras").ops.convert_to_numpy
        self.kept = [np.array(self.numpy(variable)) for variable in model.variables]
        self.variables = self._by_name()
        shapes = getattr(model, "inputs", None)
        inputs = [(tuple(x.shape), str(x.dtype)) for x in shapes] if shapes else None
        super().__init__(list(self.variables), inputs)

    def _by_name(self) -> dict[str, Any]:
        """Variables by their names in a weights file: each is marked, saved and found there."""
        variables = list(self.model.variables)
        try:
            for i, variable in enumerate(variables):
                variable.assign(np.full(variable.shape, i, np.float64))
            with tempfile.TemporaryDirectory(prefix="convspec-") as folder:
                path = Path(folder) / "marked.weights.h5"
                self.model.save_weights(path)
                with open_file(path) as reader:
                    marks = {name: reader.read(name).reshape(-1)[:1] for name in reader.entries}
        finally:
            for variable, value in zip(variables, self.kept, strict=True):
                variable.assign(value)
        found = {name: int(mark[0]) for name, mark in marks.items() if mark.size}
        if len(set(found.values())) != len(found):
            raise NotRunError("its variables' types are too narrow to tell them apart")
        return {name: variables[i] for name, i in found.items()}

    def load(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            variable = self.variables[name]
            if tuple(variable.shape) != array.shape:
                raise NotRunError(f"{name!r} has shape {array.shape}, not {tuple(variable.shape)}")
            variable.assign(np.array(array, _computed(array)))

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        try:
            with quiet():
                found = self.model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
        except Exception as error:  # TensorFlow's, JAX's or torch's own
            raise NotRunError(f"Keras: {str(error).splitlines()[0][:200]}") from error
        return [np.asarray(self.numpy(value), np.float64) for value in _listed(found)]

    def skeleton(self, path: Path) -> Path:
        self.model.save_weights(path / "like.weights.h5")
        return path / "like.weights.h5"

    def restore(self) -> None:
        """The values that the user's model had."""
        for variable, value in zip(self.model.variables, self.kept, strict=True):
            variable.assign(value)


class FlaxRunner(Runner):
    engine = "flax"

    def __init__(self, model: Any) -> None:
        self.nnx = package("flax.nnx")
        if not isinstance(model, self.nnx.Module):
            raise NotRunError("a Linen module has no tensors of its own; only NNX modules are run")
        self.model = self.nnx.clone(model)
        self.model.eval()
        super().__init__([name for name, _ in self._leaves()], None)

    def _leaves(self) -> list[tuple[str, Any]]:
        """Variables by name, random state aside."""
        state = self.nnx.state(self.model, self.nnx.Not(self.nnx.RngState))
        flat = self.nnx.to_flat_state(state)
        return [("/".join(map(str, path)), leaf) for path, leaf in flat]

    def load(self, arrays: Mapping[str, Array]) -> None:
        numpy = package("jax.numpy")
        state = self.nnx.state(self.model, self.nnx.Not(self.nnx.RngState))
        for path, leaf in self.nnx.to_flat_state(state):
            name = "/".join(map(str, path))
            if name in arrays:
                if tuple(leaf.shape) != arrays[name].shape:
                    raise NotRunError(f"{name!r} has shape {arrays[name].shape}, not {leaf.shape}")
                leaf.set_value(numpy.asarray(arrays[name]))
        self.nnx.update(self.model, state)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        try:
            found = self.model(*map(package("jax.numpy").asarray, inputs))
        except Exception as error:  # JAX's own, and what the model's code raises
            raise NotRunError(f"Flax: {str(error).splitlines()[0][:200]}") from error
        return [np.asarray(value, np.float64) for value in _listed(found)]

    def skeleton(self, path: Path) -> Path:
        serialization = package("flax.serialization")
        state = self.nnx.state(self.model, self.nnx.Not(self.nnx.RngState))
        (path / "like.msgpack").write_bytes(serialization.to_bytes(self.nnx.to_pure_dict(state)))
        return path / "like.msgpack"


class OnnxRunner(Runner):
    engine = "onnx"

    def __init__(self, model: Any) -> None:
        onnx = package("onnx")
        self.helper = package("onnx.numpy_helper")
        self.model = onnx.load(model) if isinstance(model, Path) else copy.deepcopy(model)
        graph = self.model.graph
        if not graph.node:
            raise NotRunError("the ONNX file holds tensors alone, no graph")
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        types = {1: "float32", 6: "int32", 7: "int64", 11: "float64"}
        inputs: list[tuple[Shape, str]] = []
        self.feeds: list[str] = []
        for value in graph.input:
            if value.name not in self.tensors:
                kind = value.type.tensor_type
                shape = tuple(dim.dim_value or None for dim in kind.shape.dim)
                inputs.append((shape, types.get(kind.elem_type, "float32")))
                self.feeds.append(value.name)
        super().__init__(list(self.tensors), inputs)
        self._session: Any = None

    def load(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if tuple(self.tensors[name].dims) != array.shape:
                raise NotRunError(
                    f"{name!r} has shape {array.shape}, not {self.tensors[name].dims}"
                )
            self.tensors[name].CopyFrom(self.helper.from_array(np.ascontiguousarray(array), name))
        self._session = None

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        feeds = dict(zip(self.feeds, inputs, strict=True))
        try:
            if self._session is None:
                self._session = self._made()
            found = self._session.run(None, feeds)
        except Exception as error:  # onnxruntime's own, and those of the reference evaluator
            raise NotRunError(f"ONNX: {str(error).splitlines()[0][:200]}") from error
        return [np.asarray(value, np.float64) for value in found]

    def _made(self) -> Any:
        """By onnxruntime where it is installed, else by ONNX' own evaluator."""
        try:
            runtime = package("onnxruntime")
        except ConvertError:
            return package("onnx.reference").ReferenceEvaluator(self.model)
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        return runtime.InferenceSession(self.model.SerializeToString(), options)


def _computed(array: Array) -> np.dtype[Any]:
    """The type that a tensor is computed in: half precision in single."""
    narrow = array.dtype.kind == "V" or array.dtype.name == "float16"
    return np.dtype(np.float32) if narrow else array.dtype


def _listed(found: Any) -> list[Any]:
    """The outputs of a model, whatever holds them."""
    if isinstance(found, Mapping):
        return [value for item in found.values() for value in _listed(item)]
    if isinstance(found, (list, tuple)):
        return [value for item in found for value in _listed(item)]
    detach = getattr(found, "detach", None)
    return [detach() if callable(detach) else found]
