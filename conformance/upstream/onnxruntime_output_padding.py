"""onnxruntime: a ConvTranspose with output_padding from the stride on is refused.

ONNX's text allows it below the stride or the dilation; torch computes it.
"""

import numpy as np
import onnx
import onnxruntime

model = onnx.parser.parse_model(
    """<ir_version: 10, opset_import: ["" : 22]>
    one (float[1,1,3] x, float[1,1,2] w) => (float[1,1,6] y) {
        y = ConvTranspose<dilations=[2], output_padding=[1]>(x, w)
    }"""
)
given = {"x": np.ones((1, 1, 3), "float32"), "w": np.ones((1, 1, 2), "float32")}
expected = [1.0, 1.0, 2.0, 1.0, 1.0, 0.0]
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
try:
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    got = session.run(None, given)[0].ravel().tolist()
except Exception as error:
    got = f"{type(error).__name__}: {error}"
broken = got != expected

print(f"onnxruntime {onnxruntime.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected}, got {got}")
raise SystemExit(broken)
