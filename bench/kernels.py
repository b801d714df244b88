"""The kernels' rows: single operations at the sizes that few-shot learning gives them, and at large ones."""

from __future__ import annotations

from race import Row
from workloads.attention import CosineAttention
from workloads.convolution import DIRECTIONS, Convolution
from workloads.pairwise import L1, SquaredEuclidean

_EPISODES, _LARGE = (32, 300, 60, 64), (1, 4096, 4096, 512)

ROWS = [
    Row("K1a", "L1 distances, 32 x 300 x 60 x 64", 5, L1(_EPISODES)),
    Row("K1b", "L1 distances, 4096 x 4096 x 512", 5, L1(_LARGE)),
    Row("K2a", "squared distances, 32 x 300 x 60 x 64", 1, SquaredEuclidean(_EPISODES)),
    Row("K2b", "squared distances, 4096 x 4096 x 512", 1, SquaredEuclidean(_LARGE)),
    Row("K3a", "cosine attention, forward", 3, CosineAttention(order=0)),
    Row("K3b", "cosine attention, gradient", 3, CosineAttention(order=1)),
    Row("K3c", "cosine attention, second order", 3, CosineAttention(order=2)),
    *(
        Row(f"K4{letter}", f"convolution {direction}, 32 x {images}", reach, Convolution(images, direction))
        for images, letters in ((5, "abc"), (75, "def"))
        for letter, direction, reach in zip(letters, DIRECTIONS, (0.9, 1.5, 1.5), strict=True)
    ),
]
