"""Which calls of TensorFlow's, and of Keras on it, cannot be a test's expectation."""

from __future__ import annotations

from collections.abc import Sequence


def errs_on_some_processors(
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] = (),
    *,
    same: bool,
    depthwise: bool = False,
) -> bool:
    """Whether TensorFlow's own forward call is wrong or refused where it runs without oneDNN.

    TensorFlow uses oneDNN by itself on some processors with AVX-512 only. Without, conv3d is wrong
    if the padding is SAME and a stride is above the kernel
    (conformance/upstream/tensorflow_same_3d.py) and refuses dilation, and ``depthwise_conv2d``
    refuses strides that differ (the limits in conformance/KNOWN_UPSTREAM.md). A test that skips
    what is refused need not tell the dilation.

    Our own results for these are compared with the reference elsewhere; tests that compare with the
    raw call draw none of it, on any processor, so that they draw the same everywhere.
    """
    if depthwise:
        return len(set(stride)) > 1
    above = any(s > k for s, k in zip(stride, kernel, strict=True))
    return len(kernel) == 3 and ((same and above) or any(d > 1 for d in dilation))
