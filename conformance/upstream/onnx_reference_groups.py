"""onnx.reference: a grouped ConvTranspose raises.

Compare onnx/onnx#8446 (one half of it, merged).
"""

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

model = onnx.parser.parse_model(
    """<ir_version: 10, opset_import: ["" : 22]>
    one (float[1,4,3] x, float[4,3,2] w) => (float[1,6,4] y) { y = ConvTranspose<group=2>(x, w) }"""
)
given = {"x": np.ones((1, 4, 3), "float32"), "w": np.ones((4, 3, 2), "float32")}
expected = np.tile(np.array([2, 4, 4, 2], "float32"), (1, 6, 1))
try:
    got = ReferenceEvaluator(model).run(None, given)[0]
    broken = not np.array_equal(got, expected)
except ValueError as error:
    got, broken = f"ValueError: {error}", True

print(f"onnx {onnx.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected[0, 0].tolist()} in six channels, got {got}")
raise SystemExit(broken)
