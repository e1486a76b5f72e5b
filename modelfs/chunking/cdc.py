"""Content-defined chunking: boundaries that move with the content, so an insertion re-stores one chunk, not the rest.

FastCDC 2020 (Xia et al., IEEE TPDS 31(9), https://ieeexplore.ieee.org/document/9055082) as pyfastcdc implements it,
normalisation level 1, the paper's default gear table. Lets go of the GIL.
"""

from __future__ import annotations

from typing import Final

from pyfastcdc import FastCDC

from modelfs.chunking.params import ChunkParams

# What the library takes; stores with larger parameters are cut within these bounds.
_AVERAGE_MAX: Final = 4 * 1024 * 1024
_MINIMUM_MAX: Final = 1024 * 1024
_MAXIMUM_MAX: Final = 16 * 1024 * 1024
_MINIMUM_MIN: Final = 64
_AVERAGE_MIN: Final = 256
_MAXIMUM_MIN: Final = 1024


def cut(window: memoryview, params: ChunkParams, *, at_end: bool) -> list[int]:
    """Lengths of the chunks at the start of ``window`` that more bytes would not change; all of it if ``at_end``."""
    if not window:
        return []
    maximum = min(max(params.max_size, _MAXIMUM_MIN), _MAXIMUM_MAX)
    average = min(max(params.avg_size, _AVERAGE_MIN), _AVERAGE_MAX, maximum)
    minimum = min(max(params.min_size, _MINIMUM_MIN), _MINIMUM_MAX, average)
    # The object must not be shared between threads and costs next to nothing.
    chunker = FastCDC(average, min_size=minimum, max_size=maximum, normalized_chunking=1)
    lengths = [chunk.length for chunk in chunker.cut_buf(window)]
    # The last one ended because the bytes did, unless it is as long as chunks get.
    if not at_end and lengths[-1] < maximum:
        lengths.pop()
    return lengths
