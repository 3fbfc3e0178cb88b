"""convspec on TensorFlow tensors: tf.nn's kernels, hence oneDNN, Eigen, cuDNN or XLA."""

from ._backend import TensorflowBackend

backend = TensorflowBackend()

__all__ = ["TensorflowBackend", "backend"]
