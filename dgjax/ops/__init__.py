"""Convolution, pooling, matrix products and mixtures of channels: where a platform's fast path is chosen."""
from dgjax.ops.convolution import conv_general_dilated
from dgjax.ops.linear import dot_general
from dgjax.ops.mixture import mix_channels
from dgjax.ops.pooling import max_pool
from dgjax.ops.settings import backend, describe, only, threads, use

__all__ = ["backend", "conv_general_dilated", "describe", "dot_general", "max_pool", "mix_channels", "only",
           "threads", "use"]
