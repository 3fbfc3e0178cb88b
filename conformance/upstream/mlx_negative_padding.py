"""MLX: conv_general with negative padding beside an input dilation has a wrong size.

Without input dilation negative amounts crop. The documentation has no word of them: it should
refuse them, or crop.
"""

from importlib.metadata import version

import mlx.core as mx

x, weight = mx.arange(3.0).reshape(1, 3, 1), mx.ones((1, 1, 1))
expected = [0.0, 1.0, 0.0]  # 0 0 1 0 2 without its ends
try:
    y = mx.conv_general(x, weight, padding=([-1], [-1]), input_dilation=2)
    got: object = y.reshape(-1).tolist()
except ValueError as error:
    got = f"refused: {error}"
broken = not (isinstance(got, str) or got == expected)

print(f"mlx {version('mlx')}: {'still broken' if broken else 'fixed'}")
print(f"expected a refusal or {expected}, got {got}")
raise SystemExit(broken)
