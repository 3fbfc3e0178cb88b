"""onnxruntime: Pad in its mode "wrap" fails on an empty batch, where the other modes do not."""

import numpy as np
import onnx
import onnxruntime

model = onnx.parser.parse_model(
    """<ir_version: 9, opset_import: ["" : 19]>
    one (float[0,4] x) => (float[0,6] y) <int64[4] pads = {0, 1, 0, 1}> {
        y = Pad<mode="wrap">(x, pads)
    }"""
)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
try:
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    got = session.run(None, {"x": np.ones((0, 4), "float32")})[0].shape
except Exception as error:
    got = f"{type(error).__name__}: {error}"
broken = got != (0, 6)

print(f"onnxruntime {onnxruntime.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected (0, 6), got {got}")
raise SystemExit(broken)
