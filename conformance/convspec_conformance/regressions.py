"""Cases that are always run: traps that frameworks have set, sizes that chance seldom draws.

Each line is a case as ``convspec conformance run --case`` takes it; a line that starts with ``#``
says what the following ones are for. A framework's bug that is found, or a fault that escapes the
random cases, gets a line here.
"""

from __future__ import annotations

from .cases import Case, parse

LINES = """
# The first worked example: data in NDCHW, a filter in ODIHW
exact float32 1x3x2x4x4 seed=1 | ConvSpec(2, 1, (2, 3, 3), bias=False, layout='NDCHW', weight_layout='ODIHW')
exact float32 1x3x2x4x4 seed=2 | ConvSpec(2, 1, (2, 3, 3), bias=False, layout='NDCHW', output_layout='NDHWC', weight_layout='ODIHW')

# One window by hand: stride 2, padding 1, bias; and the table from 1-D to 3-D
exact float32 1x3x5x5 seed=70 | ConvSpec(3, 2, (3, 3), 2, 1)
exact float32 14x1 seed=71 | ConvSpec(1, 16, (5,), layout='WC', weight_layout='WIO')
exact float32 10x16 seed=72 | ConvSpec(16, 32, (5,), layout='WC', weight_layout='WIO')
exact float32 14x14x3 seed=73 | ConvSpec(3, 16, (5, 5), layout='HWC', weight_layout='HWIO')
exact float32 6x6x3 seed=74 | ConvSpec(3, 2, (3, 3), layout='HWC', weight_layout='HWIO')
exact float32 14x14x14x1 seed=75 | ConvSpec(1, 16, (5, 5, 5), layout='DHWC', weight_layout='DHWIO')
exact float32 10x10x10x16 seed=76 | ConvSpec(16, 32, (5, 5, 5), layout='DHWC', weight_layout='DHWIO')

# Human actions (7 frames), and a spectral autoencoder: down, and up to the same shape
exact float32 1x1x7x60x40 seed=77 | ConvSpec(1, 2, (3, 7, 7))
exact float32 1x1x9x10x11 seed=78 | ConvSpec(1, 4, (3, 3, 3), stride=(1, 2, 2), padding=1)
exact float32 1x4x9x5x6 seed=79 size=9x10x11 | ConvSpec(4, 1, (3, 3, 3), stride=(1, 2, 2), padding=1, transposed=True)

# torch.nn.Conv3d(3, 64, 3, 2, 1), on smaller frames
exact float32 2x3x10x14x14 seed=80 | ConvSpec(3, 64, (3, 3, 3), 2, 1)

# torch.nn.Conv3d(3, 64, (2, 3, 3), (1, 2, 2), (0, 1, 1)), on smaller frames
exact float32 2x3x4x12x12 seed=3 | ConvSpec(3, 64, (2, 3, 3), (1, 2, 2), (0, 1, 1))

# TensorFlow: conv3d of an empty batch has the input's channels
exact float32 0x4x4x4x3 seed=4 | ConvSpec(3, 5, (3, 3, 3), layout='NDHWC')
exact float32 0x3x4x4x4 seed=5 | ConvSpec(3, 5, (3, 3, 3), padding=1, layout='NCDHW')
exact float32 0x3x4x4x4 seed=6 | ConvSpec(3, 5, (3, 3, 3), transposed=True)
exact float32 0x3x5x4 seed=134 | ConvSpec(3, 4, (2, 2), padding=1, padding_mode='reflect')
exact float32 0x5x4x3 seed=135 | ConvSpec(3, 6, (2, 2), groups=3, layout='NHWC', weight_layout='HWIM')

# TensorFlow: conv3d has no groups, no dilation without oneDNN, no explicit padding, no integers
exact float32 2x4x4x4x4 seed=7 | ConvSpec(4, 6, (3, 3, 3), padding=1, groups=2, layout='NDHWC', weight_layout='DHWIO')
exact float32 1x6x6x6x2 seed=8 | ConvSpec(2, 3, (2, 2, 2), dilation=(1, 2, 3), layout='NDHWC', weight_layout='DHWIO')
exact float32 1x5x5x5x2 seed=9 | ConvSpec(2, 3, (3, 3, 3), padding=((0, 2), (1, 0), (2, 1)), layout='NDHWC', weight_layout='DHWIO')
exact int32 1x4x4x4x2 seed=10 filling=wide | ConvSpec(2, 3, (2, 2, 2), layout='NDHWC', weight_layout='DHWIO')

# TensorFlow: depthwise_conv2d with a stride and a dilation has a wrong shape
exact float32 1x11x11x3 seed=11 | ConvSpec(3, 6, (3, 3), stride=2, dilation=3, groups=3, layout='NHWC', weight_layout='HWIM')
exact float32 1x11x12x3 seed=12 | ConvSpec(3, 3, (3, 2), stride=(1, 2), padding='same', groups=3, layout='NHWC', weight_layout='HWIM')

# TensorFlow accumulates float16 in float16, and bfloat16 in bfloat16 without oneDNN
exact float16 1x6x6x64 seed=13 filling=wide | ConvSpec(64, 2, (3, 3), layout='NHWC', weight_layout='HWIO')
exact bfloat16 1x6x6x64 seed=14 filling=wide | ConvSpec(64, 2, (3, 3), layout='NHWC', weight_layout='HWIO')
exact float16 1x64x5x5 seed=15 filling=wide | ConvSpec(64, 2, (3, 3), stride=2, transposed=True)

# The gradient of a bias adds up more numbers than bfloat16 can count
gradient bfloat16 4x1x16x16 seed=90 filling=wide | ConvSpec(1, 1, (1, 1))

# PyTorch: "same" at a stride, asymmetric amounts, reflections and turns as far as they go
exact float32 1x2x7x6 seed=16 | ConvSpec(2, 3, (3, 4), stride=(2, 3), padding='same')
exact float32 1x2x7x6 seed=17 | ConvSpec(2, 3, (3, 4), stride=(2, 3), padding='same_lower')
exact float32 1x2x4x5 seed=18 | ConvSpec(2, 3, (3, 3), padding=((3, 0), (1, 4)), padding_mode='reflect')
exact float32 1x2x4x5 seed=19 | ConvSpec(2, 3, (3, 3), padding=((4, 0), (5, 5)), padding_mode='circular')
exact float32 1x2x3x4x5 seed=20 | ConvSpec(2, 3, (3, 3, 3), padding=((2, 1), (3, 0), (0, 4)), padding_mode='reflect')
exact int8 2x5x6x6 seed=21 filling=wide | ConvSpec(5, 4, (3, 3), padding=1)

# Axes of size 1 have any stride: oneDNN takes one order for another, in PyTorch and in TensorFlow
exact float32 2x5x4x3 seed=81 | ConvSpec(3, 3, (3, 1), groups=3, layout='NHWC', weight_layout='HWIO')
exact float32 2x1x5x4 seed=82 view=permuted | ConvSpec(1, 4, (3, 3), stride=2)
exact float32 2x5x4x1 seed=83 | ConvSpec(1, 4, (3, 2), stride=(2, 1), layout='NHWC', output_layout='NCHW')
exact float32 2x4x5x1 seed=84 view=permuted | ConvSpec(4, 2, (3, 1), stride=2, groups=2)
exact float32 3x7x3x1 seed=85 | ConvSpec(1, 2, (3, 3), stride=(2, 3), layout='NHWC', weight_layout='HWIO')
exact float32 2x2x4x1 seed=86 | ConvSpec(1, 1, (1, 3), stride=(1, 3), layout='NHWC', weight_layout='HWIO')
exact float32 2x1x2x4 seed=87 | ConvSpec(1, 1, (1, 3), stride=(1, 3))

# TensorFlow: the gradients of grouped, depthwise and dilated convolutions raise on the CPU
gradient float32 2x5x6x4 seed=88 | ConvSpec(4, 6, (3, 3), groups=2, layout='NHWC', weight_layout='HWIO')
gradient float32 2x7x8x3 seed=89 | ConvSpec(3, 4, (3, 2), dilation=(2, 3), layout='NHWC', weight_layout='HWIO')
gradient float32 1x5x6x4 seed=90 | ConvSpec(4, 8, (3, 3), stride=2, padding='same', groups=4, layout='NHWC', weight_layout='HWIM')
gradient float32 1x4x5x5x2 seed=91 | ConvSpec(2, 3, (2, 2, 2), dilation=2, layout='NDHWC', weight_layout='DHWIO')
gradient float16 2x3x5x4 seed=92 filling=wide | ConvSpec(3, 4, (3, 3), stride=2, padding=1)
gradient2 float32 1x4x5x6 seed=93 | ConvSpec(4, 6, (3, 3), stride=2, padding=1, groups=2, transposed=True, output_padding=1)

# Ranks above 3, sizes, batches, groups, steps and amounts above those that are drawn
exact float32 2x2x3x4x3x2 seed=201 | ConvSpec(2, 3, (2, 2, 1, 2), stride=(1, 2, 1, 1), padding=1)
exact float32 1x2x2x3x2x3x2 seed=202 | ConvSpec(2, 2, (1, 2, 2, 1, 2), padding=(0, 1, 0, 0, 1))
exact float32 1x2x70x67 seed=203 | ConvSpec(2, 3, (3, 3), padding=1)
exact float32 1x2x18x17x19 seed=204 | ConvSpec(2, 3, (3, 3, 3), stride=2, padding=1)
exact float32 1x2x33x35 seed=205 | ConvSpec(2, 3, (4, 4), stride=2, padding=1, transposed=True)
exact float32 1x1x16385 seed=206 | ConvSpec(1, 2, (3,), padding=1)
exact float32 1x9x9x96 seed=207 | ConvSpec(96, 96, (3, 3), dilation=2, padding=2, groups=96, layout='NHWC', weight_layout='HWIM')
exact float32 1x72x4x5 seed=208 | ConvSpec(72, 72, (4, 4), stride=2, padding=1, groups=72, transposed=True)
exact float32 4x3x5x5 seed=209 | ConvSpec(3, 4, (3, 3), padding=1)
exact float32 9x4x5x5 seed=210 | ConvSpec(4, 6, (3, 3), padding=1, groups=2)
exact float16 17x3x5x5 seed=211 filling=wide | ConvSpec(3, 4, (3, 3), padding=1)
exact float32 9x2x3x3x3 seed=212 | ConvSpec(2, 3, (2, 2, 2), stride=2, transposed=True)
exact float32 5x2x4x4 seed=213 | ConvSpec(2, 3, (3, 3), stride=2, dilation=2, transposed=True)
exact float32 1x2x9x9x9 seed=214 | ConvSpec(2, 2, (4, 5, 4), dilation=2, padding=4)
exact float32 1x2x5x5 seed=215 | ConvSpec(2, 3, (3, 3), dilation=(4, 6), transposed=True)
exact float32 1x4x14x15 seed=216 | ConvSpec(4, 4, (4, 4), stride=4, groups=2)
exact float32 1x2x10x11 seed=217 | ConvSpec(2, 2, (3, 3), padding=((9, 7), (8, 10)), padding_mode='reflect')
exact float32 1x2x2x3x4 seed=218 | ConvSpec(2, 2, (2, 2, 2), padding=(2, 3, 4), padding_mode='circular')
exact float16 2x6x5x3 seed=219 filling=wide | ConvSpec(3, 6, (3, 3), groups=3, layout='NHWC', weight_layout='HWIM')
gradient float32 1x2x9x9 seed=301 | ConvSpec(2, 3, (7, 5), padding=(3, 2))
gradient float32 1x2x3x3x3x3 seed=302 | ConvSpec(2, 2, (2, 2, 1, 2))
gradient2 float32 1x2x3x3x3 seed=303 | ConvSpec(2, 3, (2, 2, 2), stride=2, transposed=True)
gradient2 float32 1x6x7x4 seed=304 | ConvSpec(4, 8, (3, 3), stride=2, groups=4, layout='NHWC', weight_layout='HWIM')
gradient float32 1x4x3x4x5 seed=305 | ConvSpec(4, 4, (2, 2, 2), padding=((1, 1), (2, 0), (0, 2)), groups=2, padding_mode='circular')

# More positions than 16 bits count, more samples and steps, more axes than frameworks have kernels for
exact float32 1x1x70001 seed=401 | ConvSpec(1, 1, (3,))
exact float32 1x2x40003 seed=864 | ConvSpec(2, 2, (3,), padding=((-3, -2),))
exact float32 66x2x3x3 seed=402 | ConvSpec(2, 2, (2, 2), groups=2)
exact float32 7x3x3x3 seed=403 | ConvSpec(3, 4, (3, 3), padding=1, transposed=True)
exact float32 1x2x30x31 seed=404 | ConvSpec(2, 3, (3, 2), stride=(9, 8))
exact float32 1x2x4x3 seed=405 | ConvSpec(2, 3, (3, 2), stride=(9, 8), transposed=True)
exact float32 2x2x3x2x3x2 seed=406 | ConvSpec(2, 2, (3, 1, 2, 2), stride=(2, 1, 1, 2), padding=(1, 0, 1, 0), transposed=True)
exact float32 2x2x3x2x3x2 seed=407 | ConvSpec(2, 4, (3, 1, 2, 2), padding='same', groups=2, padding_mode='circular')
exact float32 2x2x4x3x4x3 seed=793 | ConvSpec(2, 4, (2, 1, 3, 2), stride=(1, 2, 1, 1), padding=((1, 0), (0, 2), (2, 1), 0), dilation=(2, 1, 1, 2), groups=2, padding_mode='reflect', flip_kernel=True)
exact float32 1x3x3x4x3x3 seed=794 | ConvSpec(3, 2, (2, 2, 1, 2), padding=(1, 0, (1, 2), 2), padding_mode='reflect', flip_kernel=True)

# A bias that is not row-major, one axis reversed, every second column
exact float32 1x3x4x5 seed=408 view=reversed | ConvSpec(3, 4, (2, 3))
exact float32 2x3x4x5 seed=409 view=sliced | ConvSpec(3, 4, (2, 3))
exact float32 2x3x4x5 seed=410 view=flipped | ConvSpec(3, 4, (2, 3))
exact float32 2x3x4x5 seed=411 view=flipped | ConvSpec(3, 4, (2, 3), stride=2, transposed=True)

# NaN and infinities: in one group, one sample, one corner; the ends of float16's range
exact float32 2x4x6x7 seed=412 filling=nonfinite | ConvSpec(4, 4, (3, 3), padding=1, groups=2)
exact float32 2x3x9x9 seed=413 filling=nonfinite | ConvSpec(3, 4, (2, 2), dilation=3)
exact float32 2x3x9x9 seed=414 filling=nonfinite | ConvSpec(3, 4, (3, 3), stride=2, padding='same')
exact float32 2x3x4x4 seed=415 filling=nonfinite | ConvSpec(3, 4, (3, 3), stride=2, padding=1, transposed=True)
exact float64 2x5x4x3 seed=420 filling=nonfinite | ConvSpec(3, 6, (3, 2), padding=1, groups=3, layout='NHWC', weight_layout='HWIM')
exact float64 2x3x4x5 seed=421 filling=nonfinite | ConvSpec(3, 3, (3, 2), padding=1, groups=3, transposed=True)
exact float64 2x3x2x3 seed=422 filling=nonfinite | ConvSpec(3, 3, (2, 3), stride=(9, 8), groups=3, transposed=True)
exact float16 1x4x4x4 seed=416 filling=tiny | ConvSpec(4, 4, (3, 3), padding=1)
exact float16 1x4x4x4 seed=417 filling=huge | ConvSpec(4, 4, (3, 3), padding=1)
again float32 2x3x5x6 seed=840 | ConvSpec(3, 4, (3, 3), padding='same')
again float32 2x3x5x6 seed=842 | ConvSpec(3, 4, (3, 3), padding=1)
again float32 2x3x5x6 seed=844 | ConvSpec(3, 4, (3, 3), padding=1)
again float32 2x3x5x6 seed=846 | ConvSpec(3, 3, (3, 3), padding=1)
threads float32 2x3x5x6 seed=419 | ConvSpec(3, 4, (3, 3), padding=1)

# What backends of 2-D float32 alone should be asked
exact float32 2x2x7x8 seed=306 | ConvSpec(2, 3, (2, 3), padding=((-1, 2), (1, -2)))
exact float32 2x2x7x8 seed=307 | ConvSpec(2, 3, (2, 3), padding=((-1, -2), (-1, -1)))
exact float32 2x7x8x3 seed=136 | ConvSpec(3, 4, (2, 3), padding=((1, -2), (0, -1)), layout='NHWC', weight_layout='HWIO')
exact float32 2x7x8x3 seed=137 | ConvSpec(3, 4, (2, 3), padding=((-1, 0), (-2, 1)), layout='NHWC', weight_layout='HWIO')
exact float32 2x2x7x8 seed=308 | ConvSpec(2, 3, (2, 4), flip_kernel=True)
exact float32 0x2x7x8 seed=309 | ConvSpec(2, 3, (2, 3))
exact float32 1x2x7x8 seed=310 | ConvSpec(2, 3, (2, 4), padding='same_lower', dilation=(1, 3))
exact float32 1x2x7x8 seed=311 | ConvSpec(2, 3, (3, 2), padding=('causal', 'same'))
exact float32 2x40x7x8 seed=312 | ConvSpec(40, 3, (3, 2), padding=1)

# TensorFlow: one channel, strides that differ, one output column; it reads other memory
bounded bfloat16 3x7x4x1 seed=1415513967 out=float32 filling=real | ConvSpec(1, 2, (3, 4), stride=(1, 3), padding=('same', (0, 0)), bias=False, padding_mode='replicate', layout='NHWC', weight_layout='IOHW', group_axis='I')

# Wrong calls of a transposed convolution
refusal float32 2x2x5x6 seed=313 wrong=overcropped | ConvSpec(2, 3, (3, 3), stride=2, transposed=True)
refusal float32 2x2x5x6 seed=314 wrong=output_size | ConvSpec(2, 3, (3, 3), stride=2, transposed=True)

# Wrong calls after the right one, on the same spec
refusal float32 2x3x5x6 seed=316 wrong=weight_single | ConvSpec(3, 4, (3, 2))
refusal float32 2x3x5x6 seed=320 wrong=weight_taps | ConvSpec(3, 4, (3, 2), padding=1)
refusal float32 2x3x5x6 seed=324 wrong=weight_dtype | ConvSpec(3, 4, (3, 2))
refusal float32 2x3x5x6 seed=328 wrong=bias_single | ConvSpec(3, 4, (3, 2))
refusal float32 2x3x5x6 seed=332 wrong=bias_dtype | ConvSpec(3, 4, (3, 2))
refusal float32 2x3x5x6 seed=336 wrong=channels | ConvSpec(3, 4, (3, 2))
refusal float32 2x3x5x6 seed=340 wrong=leading_axis | ConvSpec(3, 4, (3, 2))
refusal float32 2x3x5x6 seed=344 wrong=bool_array | ConvSpec(3, 4, (3, 2))
refusal float32 2x3x5x6 seed=348 wrong=output_size | ConvSpec(3, 4, (3, 2), stride=2, transposed=True)
refusal float32 2x3x5x6 seed=352 wrong=bias_unwanted | ConvSpec(3, 4, (3, 2), bias=False)

# JAX on the CPU: cropped at the start of an axis and padded at its end, it reads other memory
exact float32 2x5x5x2 seed=130 | ConvSpec(2, 4, (3, 3), stride=(2, 1), padding=((-1, 1), (-2, 1)), groups=2, layout='NHWC')
exact float32 1x2x5x3 seed=131 | ConvSpec(2, 2, (3, 3), padding=((-2, 2), (-1, 1)), bias=False)
exact float32 1x2x6x7 seed=132 | ConvSpec(2, 3, (3, 3), padding=(0, (-2, 1)))
exact float32 2x7x6x4 seed=133 | ConvSpec(4, 6, (3, 3), padding=((-1, 1), 0), layout='NHWC', weight_layout='HWIO')

# JAX: XLA takes an axis for one of groups, in a call or in its gradients, and ends the process
exact float64 1x1x4x2 seed=501 | ConvSpec(1, 1, (2, 3), stride=(2, 1), padding=(1, 0), transposed=True)
exact int16 1x4x2x2x2 seed=502 out=uint8 | ConvSpec(2, 2, (2, 2, 3), stride=2, padding=((1, 1), (3, -1), (3, -2)), dilation=(1, 1, 3), transposed=True, output_padding=(0, 0, 2), layout='NWDCH')
gradient float32 1x2x4x4 seed=503 | ConvSpec(2, 3, (2, 3), stride=(2, 1), padding=(1, 0))
gradient float64 1x1x3x2 seed=504 | ConvSpec(1, 1, (4, 3), stride=(2, 1), padding=(3, 0), transposed=True)
gradient2 float32 1x1x4x5 seed=505 | ConvSpec(1, 1, (3, 2), dilation=(2, 1), padding=(1, 0))
gradient2 float32 1x1x2x4 seed=506 | ConvSpec(1, 1, (4, 3), stride=(2, 1), padding=(3, 0))
exact float64 1x1x2x4 seed=507 | ConvSpec(1, 1, (3, 2), stride=(1, 2), padding=(0, 1), transposed=True)
gradient float32 1x2x4x4 seed=508 | ConvSpec(2, 3, (3, 2), stride=(1, 2), padding=(0, 1))

# torch: second gradients of one channel, by strides that say nothing of an axis of size 1
gradient2 float32 32x4x4x4x1 seed=35840834 | ConvSpec(32, 1, (3, 2, 1), stride=(1, 3, 1), padding=((3, -2), (2, 2), (0, 0)), dilation=(1, 1, 3), bias=False, transposed=True, output_padding=(0, 2, 0), layout='CHDWN', weight_layout='ODWHI')

# JAX: conv_transpose has no groups, and integer padding means something else there
exact float32 1x4x5x6 seed=22 | ConvSpec(4, 6, (3, 3), stride=2, padding=1, groups=2, transposed=True, output_padding=1)
exact float32 1x5x6x4 seed=23 | ConvSpec(4, 6, (3, 3), stride=2, padding='same', groups=2, transposed=True, layout='NHWC', weight_layout='HWOI', flip_kernel=True, group_axis='O')

# Keras: same_lower, and a stride with a dilation
exact float32 1x9x8x3 seed=24 | ConvSpec(3, 4, (2, 4), stride=2, padding='same_lower', layout='NHWC', weight_layout='HWIO')
exact float32 1x9x8x3 seed=25 | ConvSpec(3, 4, (3, 3), stride=2, dilation=2, layout='NHWC', weight_layout='HWIO')

# What is reflected is the input, not what a crop at the other end has left of it
exact float32 1x1x6 seed=26 | ConvSpec(1, 2, (2,), padding=((-2, 4),), padding_mode='reflect')
exact float32 1x2x6x5 seed=27 | ConvSpec(2, 2, (2, 2), padding=((4, -3), (-2, 3)), padding_mode='reflect')
exact float32 1x2x6x5 seed=28 | ConvSpec(2, 2, (2, 2), padding=((4, -3), (-2, 3)), padding_mode='circular')

# Sums of bytes beyond 2**24
exact uint8 1x200x7x6 seed=29 out=int32 filling=wide | ConvSpec(200, 7, (3, 3), padding=1, bias=False)
exact uint8 1x7x6x200 seed=30 out=uint32 filling=wide | ConvSpec(200, 7, (3, 3), padding=1, layout='NHWC', weight_layout='HWIO')

# Long axes, many samples, many channels, large kernels and steps
exact float32 1x2x2050 seed=31 | ConvSpec(2, 3, (3,), padding=1)
exact float32 2x3x1027x1 seed=32 | ConvSpec(1, 4, (3, 3), padding=1, layout='NHWC', weight_layout='HWIO')
exact float32 1x2x530x3 seed=33 | ConvSpec(2, 3, (3, 3), stride=(2, 1), padding='same')
exact float32 1x3x3x3x260 seed=34 | ConvSpec(3, 2, (3, 3, 3), padding=1)
exact float32 1x3x515 seed=35 | ConvSpec(3, 2, (4,), stride=2, padding=1, transposed=True)
exact float32 17x3x5x5 seed=36 | ConvSpec(3, 4, (3, 3), padding=1)
exact float32 67x4x3 seed=37 | ConvSpec(3, 2, (2,), stride=2, layout='NWC', weight_layout='WIO')
exact float32 33x3x2x2x2 seed=38 | ConvSpec(3, 2, (2, 2, 2), padding='same')
exact float32 19x2x3x3 seed=39 | ConvSpec(2, 3, (3, 3), stride=2, transposed=True)
exact float32 1x515x3x3 seed=40 | ConvSpec(515, 7, (1, 1))
exact float32 1x3x3x300 seed=41 | ConvSpec(300, 130, (2, 2), layout='NHWC', weight_layout='HWIO')
exact float32 1x5x3x3 seed=42 | ConvSpec(5, 515, (2, 2))
exact float32 1x130x3x4 seed=43 | ConvSpec(130, 67, (2, 2), stride=2, transposed=True)
exact float32 1x264x3x3 seed=44 | ConvSpec(264, 264, (3, 3), padding=1, groups=264)
exact float32 1x132x5 seed=45 | ConvSpec(132, 66, (3,), groups=33)
exact float32 1x2x14x15 seed=46 | ConvSpec(2, 3, (5, 7), padding=(2, 3))
exact float32 1x2x30 seed=47 | ConvSpec(2, 3, (11,), stride=4, padding=5)
exact float32 1x8x9x9x2 seed=48 | ConvSpec(2, 3, (5, 6, 7), padding='same', layout='NDHWC', weight_layout='DHWIO')
exact float32 1x2x26x29 seed=49 | ConvSpec(2, 3, (3, 3), stride=(5, 7), dilation=(6, 8), padding=(6, 8))
exact float32 1x2x6x5 seed=50 | ConvSpec(2, 3, (5, 7), stride=(4, 5), padding=(1, 2), transposed=True, output_padding=(3, 2))
exact float32 1x2x9x9 seed=51 | ConvSpec(2, 3, (3, 3), padding=((7, 6), (8, 5)), padding_mode='replicate')

# Kernels that cover the whole input, as in place of a dense layer
exact float32 3x4x5x6 seed=67 | ConvSpec(4, 7, (5, 6))
exact float32 2x3x4x2x5 seed=68 | ConvSpec(5, 3, (3, 4, 2), layout='NDHWC', weight_layout='DHWIO')
exact float32 2x5x7 seed=69 | ConvSpec(5, 4, (4,), dilation=2, groups=1)
exact float32 2x1x1x1x3 seed=70 | ConvSpec(3, 4, (2, 3, 4), stride=2, transposed=True, layout='NDHWC', weight_layout='DHWOI')

# Integers that are widened, and what seldom comes together by chance
exact uint8 2x3x5x5 seed=101 out=int32 filling=wide | ConvSpec(3, 2, (3, 3))
exact int8 2x5x5x3 seed=102 out=int32 filling=wide | ConvSpec(3, 2, (3, 3), padding='same', layout='NHWC', weight_layout='HWIO')
exact int16 1x4x7 seed=103 out=int64 filling=wide | ConvSpec(4, 3, (2,), stride=2)
exact uint16 1x2x3x4x4 seed=104 out=uint32 filling=wide | ConvSpec(2, 3, (2, 2, 2))
exact float32 2x4x3x4x5 seed=105 | ConvSpec(4, 4, (2, 3, 3), padding=1, groups=2, padding_mode='circular')
exact float64 2x5x6x4 seed=106 filling=wide | ConvSpec(4, 6, (3, 2), groups=2, layout='NHWC', weight_layout='HWIO')
exact bfloat16 1x3x4x4x4 seed=107 filling=wide | ConvSpec(3, 2, (3, 3, 3), padding=1)
exact complex128 2x4x5x5 seed=108 filling=wide | ConvSpec(4, 4, (3, 3), groups=2, padding=1)
exact complex64 1x4x4x5 seed=109 | ConvSpec(4, 2, (3, 2), stride=2, groups=2, transposed=True)
bounded float64 2x3x8x8 seed=110 filling=real | ConvSpec(3, 4, (3, 3), padding=1)
bounded complex128 1x3x7x7 seed=111 filling=real | ConvSpec(3, 4, (3, 3), stride=2)
bounded float32 1x3x7x7 seed=112 out=float64 filling=real | ConvSpec(3, 4, (3, 3))
exact float32 1x6x4x5 seed=113 | ConvSpec(6, 4, (1, 1), groups=2)
exact float32 1x2x5x6 seed=114 | ConvSpec(2, 3, (1, 1), stride=2, padding=1)
exact float32 2x3x3x3 seed=115 | ConvSpec(3, 3, (1, 1), output_layout='NHWC')
exact float32 2x9x3 seed=116 | ConvSpec(3, 2, (3,), dilation=2, padding='causal', layout='NWC', weight_layout='WIO')
exact float32 1x2x1x5 seed=117 | ConvSpec(2, 3, (3, 2), padding=((2, 1), (1, 2)), padding_mode='replicate')
exact float32 1x3x4x5 seed=118 size=7x14 | ConvSpec(3, 2, (3, 4), stride=(2, 3), padding='same', transposed=True)
exact float32 1x3x4x5 seed=119 size=9x16 | ConvSpec(3, 2, (4, 5), stride=(2, 3), padding=1, transposed=True)
exact float32 1x5x6x7 seed=120 | ConvSpec(5, 5, (3, 3), bias=False, weight_layout='IOWH', flip_kernel=True)
exact float32 3x3x4x5 seed=121 view=reversed | ConvSpec(3, 3, (2, 2), dilation=(1, 2), weight_layout='OIWH')
gradient float16 3x4x6x6 seed=122 filling=wide | ConvSpec(4, 4, (3, 3), padding=1)
gradient bfloat16 3x6x6x4 seed=123 filling=wide | ConvSpec(4, 6, (3, 3), groups=2, layout='NHWC', weight_layout='HWIO')
gradient float64 2x4x5x5 seed=124 filling=real | ConvSpec(4, 6, (3, 3), stride=2, groups=2, padding=1)
gradient float32 2x3x6x7 seed=125 | ConvSpec(3, 4, (3, 3), stride=2, padding=((2, 1), (1, 3)), padding_mode='reflect')
gradient complex64 2x3x5x6 seed=126 | ConvSpec(3, 4, (3, 2), dilation=(2, 1), flip_kernel=True, weight_layout='HOWI')

# Gradients that have paths of their own, several choices to a line: chance draws too few of them
gradient float32 3x3x4x2 seed=602 size=8x6x4 | ConvSpec(2, 3, (2, 2, 2), stride=(3, 2, 1), padding=('same', 'same_lower', 'same'), dilation=(1, 1, 2), transposed=True, layout='DHWC')
gradient float64 2x3x4x3 seed=603 | ConvSpec(3, 6, (1, 1), stride=(2, 4), padding=((0, -1), (-1, 1)), groups=3, transposed=True, output_padding=(1, 0))
gradient float32 2x9x8x3 seed=604 view=permuted | ConvSpec(3, 9, (3, 2), stride=2, padding=('causal', 'same'), dilation=(2, 1), groups=3, layout='NHWC', weight_layout='MHIW', flip_kernel=True)
gradient float32 5x8x3x5x4 seed=605 | ConvSpec(8, 8, (2, 3, 2), stride=(1, 2, 1), padding=((2, 0), 'same', (1, 3)), groups=4, padding_mode='reflect', group_axis='I', flip_kernel=True)
gradient float32 4x5x2 seed=606 view=sliced | ConvSpec(2, 3, (2, 3), padding=((4, -1), 'same'), dilation=(1, 2), padding_mode='circular', layout='HWC', output_layout='CWH')
gradient float16 2x4x3x2x3 seed=608 out=float32 filling=wide | ConvSpec(4, 6, (2, 2, 3), stride=(2, 1, 2), padding=((0, 1), 0, 1), groups=2, transposed=True)
gradient float32 1x4x3x2x4x3 seed=609 view=permuted | ConvSpec(4, 4, (2, 1, 2, 2), stride=(1, 1, 2, 1), padding=((2, -1), 0, 1, (-1, 2)), groups=2, padding_mode='replicate')
gradient float32 1x2x3x2x2x3 seed=610 | ConvSpec(2, 3, (2, 1, 2, 1), stride=(2, 1, 1, 2), padding=((1, 0), 0, 0, 0), transposed=True)
gradient float16 2x4x8x7 seed=611 filling=wide | ConvSpec(4, 4, (5, 6), padding='same', dilation=(2, 1), groups=2)
gradient float32 2x3x4x2 seed=612 | ConvSpec(2, 3, (5, 5), stride=2, padding=2, transposed=True, output_padding=1, layout='NHWC')
gradient float32 2x5x4x7x2 seed=613 | ConvSpec(2, 3, (2, 1, 2), stride=3, padding='same', layout='NDHWC', weight_layout='DHWIO')
gradient float32 1x4x4x2x17 seed=614 | ConvSpec(17, 18, (2, 2, 2), stride=2, layout='NDHWC')
gradient float32 2x3x5x64 seed=615 | ConvSpec(64, 66, (1, 1), stride=2, layout='NHWC', weight_layout='HWIO')
gradient bfloat16 0x4x3x4 seed=616 out=float16 | ConvSpec(4, 6, (2, 3), padding=1, groups=2, padding_mode='replicate', output_layout='NHWC')
gradient float32 2x2x3x1 seed=617 | ConvSpec(2, 3, (2, 3), padding=((-3, 4), 1), output_layout='CHWN')
gradient complex64 2x4x3x3 seed=618 view=reversed | ConvSpec(4, 2, (3, 2), stride=2, padding=((-1, 2), 0), groups=2, transposed=True, flip_kernel=True)
gradient2 float32 2x3x4x4 seed=619 | ConvSpec(4, 6, (3, 2), stride=2, padding=(1, (0, 1)), dilation=(3, 1), groups=2, transposed=True, output_padding=(2, 1), layout='NHWC', group_axis='O', flip_kernel=True)
gradient2 float32 2x7x6x3 seed=620 | ConvSpec(3, 6, (3, 2), stride=2, padding=('causal', 'same'), dilation=(2, 1), groups=3, layout='NHWC', weight_layout='MHIW', flip_kernel=True)
gradient2 float64 2x4x3x5x4 seed=621 | ConvSpec(4, 4, (2, 3, 2), stride=(1, 2, 1), padding=((2, 0), 'same', (1, 3)), groups=2, padding_mode='reflect', group_axis='I')
gradient2 float16 2x3x9 seed=622 | ConvSpec(3, 4, (3,), stride=2, padding='same', dilation=2, output_layout='NWC')

# Second gradients in paths of their own, as many choices to a line as there is room for
gradient2 float16 3x4x3x5x33 seed=651 | ConvSpec(33, 33, (2, 1, 2), stride=(2, 3, 1), padding=((2, 0), (0, 2), (-1, 0)), dilation=(2, 1, 3), groups=33, padding_mode='replicate', layout='NDHWC', output_layout='NCHWD', weight_layout='HDWMI')
gradient2 complex128 9x2 seed=652 filling=wide | ConvSpec(2, 4, (2,), stride=2, padding='same', groups=2, padding_mode='circular', layout='GC', output_layout='CG', weight_layout='IMG')
gradient2 bfloat16 1x2x4x4x5 seed=653 view=reversed | ConvSpec(5, 5, (1, 7, 5), stride=(2, 1, 1), padding='same', dilation=(1, 3, 3), groups=5, transposed=True, layout='NDHWC', weight_layout='IOHDW')
gradient2 float64 3x5x3x1x2x3 seed=654 out=bfloat16 view=permuted | ConvSpec(5, 15, (1, 1, 1, 3), stride=(9, 4, 5, 8), padding=(0, (1, 3), (-1, 4), (1, 2)), dilation=(3, 1, 1, 1), groups=5, bias=False, padding_mode='replicate', weight_layout='IOHWTD', layout='NCTDHW')
gradient2 complex64 2x65x2 seed=655 size=132 out=complex128 | ConvSpec(2, 2, (6,), stride=2, padding=1, groups=2, bias=False, transposed=True, layout='CWN', output_layout='NCW', weight_layout='OWI', flip_kernel=True)
gradient2 float64 6x5x1x5x1 seed=656 filling=wide | ConvSpec(6, 51, (3, 1, 2), stride=(3, 1, 2), padding=((-1, 4), 1, 'same_lower'), dilation=(3, 1, 1), groups=3, bias=False, padding_mode='circular', layout='CWNDH', flip_kernel=True)
gradient2 float64 5x4x2x1 seed=657 size=15x13x4 view=sliced | ConvSpec(1, 2, (3, 3, 1), stride=(3, 2, 2), padding=(0, (-2, 1), 'same_lower'), dilation=(1, 2, 3), bias=False, transposed=True, layout='HDWC', weight_layout='DIOHW')
gradient2 float16 64x3 seed=658 out=bfloat16 | ConvSpec(3, 9, (3,), padding='same', dilation=2, groups=3, bias=False, padding_mode='reflect', layout='WC', flip_kernel=True)
gradient2 complex128 1x66x2 seed=659 | ConvSpec(2, 17, (4,), padding=((1, -2),), dilation=2, padding_mode='replicate', layout='NWC', weight_layout='OWI', group_axis='I')
gradient2 bfloat16 1x4x5 seed=660 filling=wide view=flipped | ConvSpec(5, 5, (1,), stride=5, padding=2, dilation=2, groups=5, layout='NWC')
gradient2 float64 2x2x2x3x2x1 seed=661 view=reversed | ConvSpec(2, 2, (2, 1, 1, 3), stride=(2, 1, 3, 2), padding=('same_lower', (2, -1), 1, 0), dilation=(1, 2, 2, 2), groups=2, bias=False, transposed=True, output_padding=(0, 0, 2, 1), layout='NCTDHW', output_layout='TWDHNC', weight_layout='HDIWOT')
gradient2 float32 0x2x3 seed=662 size=6 | ConvSpec(3, 9, (4,), stride=2, groups=3, bias=False, transposed=True, layout='NWC', output_layout='WCN', weight_layout='WIO', flip_kernel=True, group_axis='O')
gradient2 float32 5x2x4 seed=663 out=float64 | ConvSpec(2, 3, (1,), stride=2, padding=1, transposed=True, output_padding=1)
gradient float32 2x7x3 seed=664 | ConvSpec(3, 4, (4,), padding=((2, 3),), padding_mode='circular', layout='NWC', weight_layout='WIO')
gradient float32 2x3x7 seed=665 | ConvSpec(3, 4, (4,), stride=2, padding=((3, 2),), padding_mode='reflect')

# More than 256 channels of a transposed convolution; types, widths and axes that seldom meet
exact float32 1x264x3x3 seed=671 | ConvSpec(264, 3, (2, 3), stride=2, transposed=True)
exact float32 1x3x4x3 seed=672 | ConvSpec(3, 264, (3, 2), padding=1, transposed=True, layout='NHWC', weight_layout='HWOI')
exact float16 2x9x4 seed=673 filling=wide | ConvSpec(4, 4, (3,), padding=((2, 3),), groups=2, padding_mode='reflect', layout='NWC', weight_layout='WIO')
exact bfloat16 1x3x4x5x2 seed=674 out=float32 filling=wide | ConvSpec(2, 3, (2, 3, 2), stride=(1, 2, 1), padding='same', padding_mode='circular', layout='NDHWC', weight_layout='DHWIO')
exact float32 1x4x3x4 seed=675 out=float64 filling=wide | ConvSpec(4, 6, (3, 2), stride=2, groups=2, transposed=True)
exact int8 2x3x4x5 seed=676 filling=wide | ConvSpec(3, 4, (3, 3), stride=2, padding=1, dilation=(1, 2), transposed=True)
exact int64 2x4x3x2 seed=677 filling=wide view=flipped | ConvSpec(4, 6, (2, 3), stride=(2, 1), padding=((0, 1), (1, -1)), groups=2, transposed=True)
exact float32 1x3x4x5x4 seed=678 | ConvSpec(3, 4, (2, 3, 2), stride=(1, 2, 1), padding=((0, 1), (-1, 2), (2, -1)))
exact complex64 2x6x3 seed=679 | ConvSpec(3, 6, (3,), stride=2, padding='causal', dilation=2, groups=3, padding_mode='replicate', layout='NWC', weight_layout='WIM')
exact float32 2x2x3x2x3x4 seed=680 | ConvSpec(4, 6, (2, 1, 2, 2), stride=(1, 1, 2, 1), padding=((1, 0), 0, 'same', (0, 1)), groups=2, padding_mode='circular', layout='NABEFC', weight_layout='ABEFIO')
exact float32 1x3x4x8 seed=681 | ConvSpec(8, 264, (2, 3), layout='NHWC', weight_layout='HWIO')
exact float32 1x18x3x4x8 seed=682 | ConvSpec(8, 3, (2, 3, 2), layout='NDHWC', weight_layout='DHWIO')
exact float32 2x6x8x3 seed=685 | ConvSpec(3, 6, (1, 2), stride=(1, 2), groups=3, layout='NHWC', weight_layout='HWIO')
exact float32 2x7x8x4 seed=686 | ConvSpec(4, 12, (2, 3), groups=4, layout='NHWC', weight_layout='HWIM')
exact float32 2x2x5x6x4 seed=687 | ConvSpec(2, 6, (2, 3, 2), groups=2, weight_layout='DHWIM')
exact float32 2x7x3 seed=688 view=permuted | ConvSpec(3, 4, (2,), layout='NWC', weight_layout='WIO')
exact float32 2x3x70 seed=683 | ConvSpec(3, 6, (3,), groups=3)
exact float32 1x9x10x3 seed=684 | ConvSpec(3, 6, (4, 5), padding=2, groups=3, layout='NHWC', weight_layout='HWIO')

# Channels last and many of them in a group, which is what fast paths are chosen by
exact float32 1x3x4x40 seed=691 | ConvSpec(40, 264, (2, 3), layout='NHWC', weight_layout='HWIO')
exact float32 1x18x3x4x40 seed=692 | ConvSpec(40, 3, (2, 3, 2), layout='NDHWC', weight_layout='DHWIO')
exact float32 2x6x7x99 seed=693 | ConvSpec(99, 6, (3, 2), padding=((1, 0), 'same'), dilation=(1, 2), groups=3, layout='NHWC', weight_layout='HWIO')
exact float32 2x3x5x4x66 seed=694 | ConvSpec(66, 4, (2, 3, 2), stride=(1, 2, 1), padding='same', dilation=(2, 1, 1), groups=2, layout='NDHWC', weight_layout='ODHWI')
exact float16 2x9x66 seed=695 filling=wide view=flipped | ConvSpec(66, 4, (3,), stride=2, padding='causal', groups=2, padding_mode='replicate', layout='NWC', weight_layout='WIO')
exact float64 3x7x6x64 seed=696 view=permuted | ConvSpec(64, 33, (1, 1), stride=(2, 1), layout='NHWC', output_layout='NCHW', weight_layout='HWOI')
exact int16 2x5x6x40 seed=697 filling=wide | ConvSpec(40, 3, (3, 2), stride=(1, 2), padding=((1, -1), (2, 0)), padding_mode='reflect', layout='NHWC', weight_layout='HWIO', flip_kernel=True)

# Wide kernels, far steps and patches in volumes and in half types; half types that are widened
exact float32 1x2x9x9x10 seed=631 | ConvSpec(2, 3, (2, 3, 2), dilation=(4, 2, 5))
exact float32 2x2x4x6x4 seed=632 | ConvSpec(2, 5, (2, 3, 2), stride=(2, 3, 2))
exact float32 1x9x5x6x2 seed=633 | ConvSpec(2, 3, (2, 2, 3), stride=(4, 1, 5), padding='same', layout='NDHWC')
exact float16 1x4x8x7 seed=634 filling=wide | ConvSpec(4, 3, (5, 6), padding=2)
exact float16 2x6x9 seed=635 out=float32 filling=wide | ConvSpec(6, 4, (3,), stride=2, padding='same', groups=2)
exact float16 2x4x5x6 seed=636 out=bfloat16 | ConvSpec(4, 4, (3, 3), stride=2, groups=2, transposed=True)
threads float32 2x4x5x6 seed=637 | ConvSpec(4, 6, (3, 2), stride=2, padding=1, groups=2, transposed=True)
again float16 2x4x5 seed=638 | ConvSpec(4, 4, (3,), groups=2)

# Sizes of layers in use: AlexNet, patches of pictures, dilated speech and segmentation, upsampling
exact float32 1x3x35x37 seed=701 | ConvSpec(3, 4, (11, 11), stride=4, padding=2)
exact float32 1x3x32x48 seed=702 | ConvSpec(3, 8, (16, 16), stride=16)
exact float32 1x3x70 seed=703 | ConvSpec(3, 4, (2,), padding=((32, 0),), dilation=32)
exact float32 1x4x26x27 seed=704 | ConvSpec(4, 3, (3, 3), padding=12, dilation=12)
exact float32 1x32x50 seed=705 | ConvSpec(32, 32, (64,), padding=32, groups=16)
exact float32 1x4x20 seed=706 | ConvSpec(4, 3, (16,), stride=8, padding=4, transposed=True)
exact float32 1x3x5x6 seed=707 | ConvSpec(3, 2, (16, 10), stride=(12, 10), padding=4, transposed=True)
exact float32 1x2x20x21x12 seed=708 | ConvSpec(2, 3, (9, 8, 10), stride=(7, 11, 1))
exact float32 1x21x9x9x4 seed=709 | ConvSpec(4, 4, (3, 3, 2), padding=(8, 2, 0), dilation=(8, 1, 7), groups=4, layout='NDHWC', weight_layout='DHWIM')
exact float16 1x9x13x16 seed=710 filling=wide | ConvSpec(16, 4, (9, 3), stride=(1, 6), padding=4, dilation=(1, 5), layout='NHWC', weight_layout='HWIO')
gradient float32 1x2x13x14 seed=711 | ConvSpec(2, 3, (11, 8), stride=4, padding=2)
gradient float32 2x3x40 seed=712 | ConvSpec(3, 4, (3,), padding=12, dilation=12)
gradient float32 1x2x5x4 seed=713 | ConvSpec(2, 3, (8, 10), stride=(8, 5), padding=2, transposed=True)

# More results than one thread is given, and long axes in kernels of their own
exact float32 1x2x130x131 seed=714 | ConvSpec(2, 3, (3, 3), padding=1)
exact float32 1x34x33x35x2 seed=715 | ConvSpec(2, 2, (2, 2, 2), layout='NDHWC', weight_layout='DHWIO')
exact float32 1x2x65x66 seed=716 | ConvSpec(2, 3, (3, 3), stride=2, padding=1, transposed=True, output_padding=1)
exact float32 1x130x131x3 seed=717 | ConvSpec(3, 3, (3, 3), padding=1, groups=3, layout='NHWC', weight_layout='HWIM')
exact float32 1x2x1030 seed=718 | ConvSpec(2, 2, (3,), stride=2, padding=1, transposed=True)
exact float32 1x2x4100 seed=719 | ConvSpec(2, 4, (4,), stride=3, padding='same', groups=2, padding_mode='reflect')
exact float16 1x1100x2 seed=720 filling=wide | ConvSpec(2, 3, (3,), dilation=2, padding='causal', layout='NWC', weight_layout='WIO')
exact int16 1x2x3x1040 seed=721 filling=wide | ConvSpec(2, 2, (2, 3), padding=1, padding_mode='circular')
gradient float32 1x2x1030 seed=722 | ConvSpec(2, 3, (3,), stride=2, padding=1)
gradient float32 2x2x34x35 seed=723 | ConvSpec(2, 2, (3, 2), padding=1, groups=2)

# Gradients large enough for kernels of their own: sums over parts of the output, matrix products,
# volumes as pictures, products without a kernel
gradient float32 2x10x51x41 seed=781 | ConvSpec(2, 32, (2, 2), layout='CNHW', output_layout='HCNW', weight_layout='HIWO')
gradient float32 1x2x131x130 seed=821 | ConvSpec(2, 24, (2, 3), padding=1)
gradient float32 2x3x160x150 seed=822 | ConvSpec(2, 25, (3, 2), stride=(2, 1), padding=((1, 0), (3, 0)), dilation=(2, 3), layout='CNHW', weight_layout='HWIO')
gradient float32 1x3x65x66 seed=823 | ConvSpec(3, 32, (5, 4), stride=(2, 3), padding=((2, 1), (0, 2)))
gradient2 float32 2x2x900 seed=824 | ConvSpec(2, 40, (10,), stride=5)
gradient float32 1x9x20x21x1 seed=825 | ConvSpec(1, 32, (3, 3, 3), padding='same', layout='NDHWC', weight_layout='DHWIO')
gradient2 float32 2x3x7x18x17 seed=826 | ConvSpec(3, 64, (2, 3, 3), stride=(3, 1, 2), padding=((1, 2), 1, 0))
gradient float32 1x64x130x131 seed=827 | ConvSpec(64, 1, (4, 5), padding='same')
gradient2 float32 1x33x40x41 seed=828 | ConvSpec(33, 4, (3, 4), padding=((2, 0), (1, 3)), layout='NCHW')
gradient float32 1x32x17x18x19 seed=829 | ConvSpec(32, 3, (3, 5, 3), padding=1)
gradient float32 2x33x34x40 seed=830 | ConvSpec(40, 3, (4, 4), stride=2, padding=1, transposed=True, layout='NHWC', weight_layout='HWOI')
gradient2 float32 130x64x2x1 seed=782 | ConvSpec(1, 32, (1, 2), padding=(0, (0, 1)), layout='WHNC', output_layout='HNWC')
gradient float32 40x2x17x18 seed=783 | ConvSpec(40, 48, (1, 1), layout='CNHW', output_layout='HCNW', weight_layout='HIWO')
gradient2 float32 2x7x8x9x33 seed=784 | ConvSpec(33, 36, (1, 1, 1), layout='NDHWC', output_layout='NCWHD', weight_layout='IDHOW')
gradient float32 2x5x6x7x3 seed=785 | ConvSpec(3, 8, (3, 3, 3), padding=1, layout='NDHWC', weight_layout='DHWIO')
gradient2 float32 2x3x8x7x7 seed=786 | ConvSpec(3, 8, (2, 3, 3), stride=(2, 1, 1), padding=1, dilation=(3, 1, 1))
gradient float32 1x18x5x6x5 seed=787 | ConvSpec(18, 4, (2, 2, 3), padding=1)
gradient2 float32 1x5x6x9x17 seed=788 | ConvSpec(17, 5, (2, 2, 3), stride=(2, 1, 1), padding=(2, 1, 1), dilation=(3, 1, 1), layout='NDHWC')
gradient float32 2x64x130 seed=862 | ConvSpec(64, 64, (1,), padding=((1, 2),))
gradient float32 1x64x5x6x3 seed=863 | ConvSpec(64, 64, (1, 1, 1), padding=1)
gradient float32 1x18x10x9x8 seed=789 | ConvSpec(18, 27, (1, 2, 2), padding=1, groups=9)
gradient float32 2x16x260 seed=791 | ConvSpec(16, 32, (5,), padding=2, groups=16)
gradient2 float32 2x9x10x11x12 seed=792 | ConvSpec(12, 12, (2, 1, 2), padding=1, groups=12, layout='NDHWC', weight_layout='DHWIM')

# The same, just beyond what such kernels are for
gradient float32 2x40x18x34 seed=795 | ConvSpec(40, 48, (1, 1), stride=(1, 2))
gradient float32 2x17x16x40 seed=796 | ConvSpec(40, 48, (1, 1), padding=(0, 1), layout='NHWC', weight_layout='HWIO')
gradient float32 2x64x12x13 seed=797 | ConvSpec(64, 64, (1, 1), groups=2)
gradient float32 2x4x92x92 seed=798 | ConvSpec(4, 32, (1, 2), groups=2)
gradient float64 2x17x17x40 seed=799 filling=wide | ConvSpec(40, 48, (1, 1), layout='NHWC', weight_layout='HWIO')
exact float32 1x26x26x26x2 seed=804 | ConvSpec(2, 36, (3, 3, 3), padding=1, layout='NDHWC', weight_layout='DHWIO')
exact float32 1x26x27x26x4 seed=805 | ConvSpec(4, 18, (3, 3, 3), padding=1, groups=2, layout='NDHWC', weight_layout='DHWIO')
gradient float32 1x1x16x32x33 seed=806 | ConvSpec(1, 4, (2, 2, 2), stride=(1, 2, 2), transposed=True)

# Many samples, channels or groups in kernels of their own
exact float32 10x6x5x5 seed=724 | ConvSpec(6, 12, (3, 3), padding=1, groups=6)
exact float32 9x4x3x4 seed=725 | ConvSpec(4, 6, (3, 2), stride=2, groups=2, transposed=True)
exact bfloat16 9x3x4x3x2 seed=726 filling=wide | ConvSpec(2, 3, (2, 2, 2), layout='NDHWC', weight_layout='DHWIO')
exact float32 1x96x6 seed=727 | ConvSpec(96, 72, (3,), padding=1)
exact float32 1x70x3x3x3 seed=728 | ConvSpec(70, 68, (2, 2, 2), stride=2, padding=1, transposed=True)
exact float32 1x72x5x4 seed=729 | ConvSpec(72, 80, (3, 2), padding=2, dilation=2, groups=8)
exact float32 1x24x3x4x3 seed=730 | ConvSpec(24, 16, (2, 3, 2), padding=1, groups=8)
exact float32 1x16x5x4 seed=731 | ConvSpec(16, 24, (3, 3), stride=2, padding=1, groups=4, transposed=True)
exact float32 2x12x7 seed=732 | ConvSpec(12, 18, (3,), stride=2, groups=6)
exact float32 2x5x6x3 seed=733 | ConvSpec(3, 15, (3, 2), stride=(2, 1), groups=3, layout='NHWC', weight_layout='HWIM')
exact float16 1x80x4x4 seed=734 filling=wide | ConvSpec(80, 66, (3, 3), stride=2, padding=1)
gradient float32 9x4x5x4 seed=735 | ConvSpec(4, 8, (3, 3), padding=1, groups=4)
gradient float32 1x66x3x4x2 seed=736 | ConvSpec(66, 34, (2, 2, 1), padding=1)
gradient float32 1x66x4x3 seed=737 | ConvSpec(66, 34, (2, 3), stride=2, transposed=True)

# Depthwise volumes without a stride; channels that are last in memory alone
exact float32 1x5x6x7x3 seed=775 | ConvSpec(3, 6, (2, 2, 2), padding=2, dilation=(1, 2, 3), groups=3, layout='NDHWC', weight_layout='DHWIM')
exact float32 2x3x5x6x7 seed=776 | ConvSpec(3, 3, (3, 2, 2), padding=(3, 1, 2), dilation=(3, 1, 2), groups=3)
exact float32 2x3x5x4 seed=778 view=permuted | ConvSpec(3, 4, (3, 2))
exact float32 2x4x5x3x4 seed=781 view=permuted | ConvSpec(4, 3, (2, 3, 2), stride=2, transposed=True)
exact float32 2x6x7 seed=784 view=permuted | ConvSpec(6, 6, (3,), padding=1, groups=3)

# All sizes the same, so that no axis taken for another shows in the shape
exact float32 3x3x3x3 seed=738 | ConvSpec(3, 3, (3, 3), padding=1)
exact float32 4x4x4x4x4 seed=739 | ConvSpec(4, 4, (3, 3, 3), padding=((2, 0), 1, (0, 2)), layout='NDHWC', output_layout='NCHWD', weight_layout='ODHWI')
exact float32 4x4x4x4 seed=740 | ConvSpec(4, 4, (4, 4), stride=2, padding=((2, 1), (1, 2)), transposed=True, output_padding=1, layout='HWCN', weight_layout='OWHI')
exact float32 5x5x5x5 seed=741 | ConvSpec(5, 5, (3, 3), padding=((2, 1), (1, 2)), padding_mode='reflect')
exact float32 5x5x5x5x5 seed=742 | ConvSpec(5, 5, (2, 2, 2), padding=((3, 0), (2, 1), (1, 2)), groups=5, padding_mode='circular')
exact float32 4x4x4x4x4 seed=743 | ConvSpec(4, 4, (2, 2, 2), padding=((0, 3), (1, 2), (3, 0)), groups=2, padding_mode='replicate', layout='NDHWC')
gradient float32 3x3x3x3 seed=744 | ConvSpec(3, 3, (3, 3), padding=((2, 0), (0, 2)), weight_layout='IOHW')
gradient2 float32 3x3x3 seed=745 | ConvSpec(3, 3, (3,), padding=((2, 0),), layout='NWC', weight_layout='IWO')

# Crops: of both ends, by more than a few, beside padding modes
exact float32 2x3x9 seed=746 | ConvSpec(3, 4, (3,), padding=((-1, -3),))
exact float32 1x2x9x12 seed=747 | ConvSpec(2, 3, (3, 2), padding=((-5, -1), (1, -6)))
exact float32 1x2x5x9x8 seed=748 | ConvSpec(2, 3, (2, 2, 3), padding=((-1, -2), (-4, 2), (-3, -1)), padding_mode='replicate')
exact float32 1x3x7x8 seed=749 | ConvSpec(3, 2, (3, 3), stride=2, padding=((-2, -1), (4, 5)), transposed=True)
exact float32 2x8x9x2 seed=750 | ConvSpec(2, 4, (3, 2), padding=((-3, 2), (2, -4)), groups=2, padding_mode='reflect', layout='NHWC', weight_layout='HWIM')
exact float32 1x2x7x6 seed=751 | ConvSpec(2, 3, (3, 3), padding=((9, 0), (10, 12)))

# Plans and packed weights that are looked up by less than all that they depend on
again float32 2x4x5x5 seed=840 | ConvSpec(4, 4, (3, 3), padding=1)
again float32 2x4x5x5 seed=843 | ConvSpec(4, 4, (3, 3), stride=2, padding=1, transposed=True)
again float32 2x4x5x5 seed=846 | ConvSpec(4, 4, (2, 2), groups=2)
again float32 2x4x5x5 seed=849 | ConvSpec(4, 4, (3, 3), padding='same', groups=4)
again float32 2x4x5x5 seed=852 | ConvSpec(4, 6, (3, 3), padding=1, bias=False)
again float16 2x4x5x5 seed=851 | ConvSpec(4, 4, (3, 3), stride=2, padding=1, dilation=2, transposed=True)
again int32 2x3x4x4 seed=851 | ConvSpec(3, 3, (2, 2))
again float32 2x4x3x3x3 seed=849 | ConvSpec(4, 4, (2, 2, 2), stride=2, groups=2, transposed=True)
again float64 2x4x6 seed=851 | ConvSpec(4, 8, (3,), stride=2, padding='same', groups=4)
again float16 2x4x5 seed=850 | ConvSpec(4, 4, (3,), bias=False)
again float32 2x3x4x5 seed=854 | ConvSpec(3, 4, (3, 2), stride=(1, 2), padding=1, transposed=True)
threads float32 2x6x5x6 seed=752 | ConvSpec(6, 12, (3, 2), padding=1, groups=6)
threads float16 2x4x7 seed=753 | ConvSpec(4, 4, (3,), padding=1)

# A kernel of one on one channel changes nothing, and gives an array of its own; an input of NCHW in
# channels-last memory
exact float32 2x1x5 seed=878 | ConvSpec(1, 1, (1,), bias=False)
exact float32 2x3x4x1 seed=883 | ConvSpec(1, 1, (1, 1), bias=False, layout='NHWC', weight_layout='HWIO')
exact float32 1x1x2x3x2 seed=877 | ConvSpec(1, 1, (1, 1, 1), bias=False, transposed=True)
exact float32 2x3x4x5 seed=865 view=permuted | ConvSpec(3, 4, (3, 2), padding=1)

# Results in a narrower or in another kind of type are rounded once; gradients of real numbers
exact float32 2x4x5x6 seed=755 out=float16 filling=wide | ConvSpec(4, 6, (3, 3), padding=1)
exact float32 2x4x5x4 seed=757 out=bfloat16 filling=wide | ConvSpec(4, 6, (3, 2), stride=2, groups=2, transposed=True, layout='NHWC')
exact float64 2x4x7 seed=759 out=float16 filling=wide | ConvSpec(4, 3, (3,), padding='causal')
exact float16 2x4x5x6 seed=761 filling=wide | ConvSpec(4, 3, (3, 3), stride=2, padding=1, transposed=True)
exact bfloat16 2x5x6x4 seed=763 filling=wide | ConvSpec(4, 8, (3, 3), groups=4, layout='NHWC', weight_layout='HWIM')
bounded float64 2x4x5x6 seed=764 out=float32 filling=real | ConvSpec(4, 3, (3, 3), padding=1)
exact uint32 2x3x5x4 seed=765 out=float64 filling=wide | ConvSpec(3, 4, (3, 2), padding=1)
exact uint32 2x3x6 seed=766 out=uint64 filling=wide | ConvSpec(3, 4, (3,))
exact uint8 2x3x4x5 seed=767 out=int32 filling=wide | ConvSpec(3, 4, (3, 2), stride=2, transposed=True)
exact uint16 2x4x3x4x2 seed=768 out=float32 filling=wide | ConvSpec(4, 4, (2, 2, 1), groups=2)
exact int8 2x3x5x5 seed=769 out=int64 filling=wide | ConvSpec(3, 6, (3, 3), stride=2, groups=3)
exact int8 2x3x5x4 seed=860 out=int32 filling=wide | ConvSpec(3, 1, (3, 2), stride=2, transposed=True)
exact int8 2x3x5 seed=861 out=int16 filling=wide | ConvSpec(3, 1, (3,), padding=1)
exact int16 1x40x5x6 seed=801 out=int64 filling=wide | ConvSpec(40, 3, (3, 3), padding=1)
exact uint64 2x3x7 seed=802 filling=wide | ConvSpec(3, 4, (3,), stride=2)
bounded float64 2x3x5x6 seed=803 out=complex128 filling=real | ConvSpec(3, 4, (3, 3), padding=1)
gradient float32 2x4x5x6 seed=770 filling=real | ConvSpec(4, 6, (3, 3), stride=2, padding=1, groups=2, transposed=True)
gradient float16 2x4x5x6 seed=771 filling=real | ConvSpec(4, 6, (3, 3), padding=1)
gradient bfloat16 2x4x5x3 seed=772 filling=real | ConvSpec(3, 4, (2, 3), stride=2, layout='NHWC', weight_layout='HWIO')
gradient float32 1x4x4x5x3 seed=773 filling=real | ConvSpec(3, 4, (2, 3, 2), padding=1, layout='NDHWC', weight_layout='DHWIO')
gradient2 float32 2x3x5x4 seed=774 filling=real | ConvSpec(3, 4, (3, 2), padding=1)

# TensorFlow's graph optimizer fuses a depthwise kernel with amounts of padding to its bias; the
# shapes of a dilated volume with strides, which its graphs take in another order
exact float32 1x5x6x2 seed=817 | ConvSpec(2, 4, (3, 2), padding=((1, 1), (1, 1)), groups=2, layout='NHWC', weight_layout='HWIO')
gradient float32 1x2x4x5 seed=818 | ConvSpec(2, 2, (2, 3), padding=((0, 1), (1, 2)), groups=2)
exact float16 1x1x1x3x2 seed=819 | ConvSpec(1, 1, (1, 3, 1), stride=(1, 2, 1), dilation=(1, 1, 2), bias=False, layout='NCDHW')
exact float32 1x2x3x7x8 seed=820 | ConvSpec(2, 3, (1, 3, 2), stride=(1, 2, 1), dilation=(1, 1, 2), layout='NCDHW')

# TensorFlow's volumes without oneDNN: "same" with a stride beyond the kernel begins within the data;
# pictures in place of volumes (windows, strides, dilations), residues of strides in transposed ones
exact float32 2x3x3x4x1 seed=831 | ConvSpec(1, 2, (1, 2, 2), stride=(3, 1, 2), padding='same', bias=False, layout='NDHWC', weight_layout='DHWIO')
gradient float32 1x2x5x4x7 seed=832 | ConvSpec(2, 3, (2, 1, 3), stride=(3, 3, 4), padding='same')
exact float32 2x3x3x4x1 seed=833 | ConvSpec(1, 2, (1, 2, 2), stride=(3, 1, 2), padding='same', bias=False, transposed=True, layout='NDHWC', weight_layout='DHWOI')
gradient float32 2x2x2x3x3 seed=834 | ConvSpec(2, 3, (2, 3, 1), stride=(3, 2, 2), padding='same', transposed=True)
gradient float32 2x8x6x7x5 seed=835 | ConvSpec(8, 6, (3, 3, 3), stride=2, padding=1)
gradient float32 1x6x7x5x8 seed=836 | ConvSpec(8, 4, (3, 2, 3), dilation=(2, 1, 2), padding=2, layout='NDHWC', weight_layout='DHWIO')
gradient float32 3x4x4x5x8 seed=837 | ConvSpec(8, 6, (4, 3, 2), stride=2, padding=1, transposed=True, layout='NDHWC', weight_layout='DHWOI')

# PyTorch's compilers are told other strides of padded volumes in channels-last memory
bounded bfloat16 1x1x3x1 seed=838 filling=real | ConvSpec(1, 2, (2, 1), stride=(1, 2), padding=('same', (0, 0)), bias=False, padding_mode='replicate', layout='NHWC')
gradient float32 1x5x6x4x1 seed=839 | ConvSpec(1, 2, (2, 3, 3), stride=(1, 2, 1), padding=1, padding_mode='reflect', layout='NDHWC')

# Layers of well-known networks, whose sizes are what fast kernels are chosen by
exact float32 2x3x32x32 seed=52 | ConvSpec(3, 64, (7, 7), stride=2, padding=3, bias=False)
bounded float32 2x64x14x14 seed=53 filling=real | ConvSpec(64, 64, (3, 3), padding=1)
bounded float32 2x14x14x64 seed=54 filling=real | ConvSpec(64, 64, (3, 3), padding=1, layout='NHWC', weight_layout='HWIO')
exact float32 1x64x14x14 seed=55 | ConvSpec(64, 128, (1, 1), stride=2, bias=False)
exact float32 1x16x16x96 seed=56 | ConvSpec(96, 96, (5, 5), stride=2, padding='same', groups=96, layout='NHWC', weight_layout='HWIM')
exact float32 1x64x14x14 seed=57 | ConvSpec(64, 64, (3, 3), padding=1, groups=32)
bounded float32 1x3x6x16x16 seed=58 filling=real | ConvSpec(3, 64, (3, 3, 3), padding=1)
bounded float32 1x4x14x14x32 seed=59 filling=real | ConvSpec(32, 48, (3, 3, 3), padding=1, layout='NDHWC', weight_layout='DHWIO')
exact float32 1x256x2x5x5 seed=60 | ConvSpec(256, 32, (3, 3, 3), padding=1)
bounded float32 1x64x14x14 seed=61 filling=real | ConvSpec(64, 32, (4, 4), stride=2, padding=1, transposed=True)
exact float32 1x4x6x6x32 seed=62 | ConvSpec(32, 16, (2, 2, 2), stride=2, transposed=True, layout='NDHWC', weight_layout='DHWOI')
bounded float32 1x1x12x12x12 seed=63 filling=real | ConvSpec(1, 16, (5, 5, 5), padding=2)
bounded float32 2x100x32 seed=64 filling=real | ConvSpec(32, 32, (9,), dilation=4, padding='causal', layout='NWC', weight_layout='WIO')
bounded float16 1x64x10x10 seed=65 filling=real | ConvSpec(64, 64, (3, 3), padding=1)
bounded bfloat16 1x10x10x64 seed=66 filling=real | ConvSpec(64, 64, (3, 3), padding=1, layout='NHWC', weight_layout='HWIO')
"""  # noqa: E501


def regressions() -> list[Case]:
    """The cases, in the order of the lines."""
    lines = (line.strip() for line in LINES.splitlines())
    return [parse(line) for line in lines if line and not line.startswith("#")]
