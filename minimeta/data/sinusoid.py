"""Sinusoid regression, the few-shot task without images (Finn et al. 2017, section 5.1)."""

import numpy as np

from minimeta.data.episodes import Episode, task_generators
from minimeta.data.errors import DataError

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, np.pi)
INPUTS = (-5.0, 5.0)


class SinusoidSampler:
    """Tasks y = A sin(x - phase): A uniform in 0.1..5, phase in 0..pi (radians), x in -5..5.

    Episodes have `xs`, `ys` [T, shot, 1] and `xq`, `yq` [T, query, 1] float32 and n_way 0; number i is a pure
    function of (seed, i). Raises DataError for shot or query under 1. Paper: Finn et al. 2017.

    >>> sampler = SinusoidSampler(shot=10, query=3)
    >>> episode = sampler.batch(first=0, tasks=4)
    >>> episode.xs.shape, episode.yq.shape, episode.n_way
    ((4, 10, 1), (4, 3, 1), 0)
    >>> amplitude, phase = sampler.waves(first=0, tasks=4)
    >>> wave = amplitude[:, None, None] * np.sin(episode.xq - phase[:, None, None])
    >>> bool(np.allclose(wave, episode.yq, atol=1e-5))
    True
    """

    def __init__(self, shot: int, query: int, *, seed: int = 0) -> None:
        for label, value in (("shot", shot), ("query", query)):
            if value < 1:
                raise DataError(f"{label} must be at least 1, got {value}")
        self.shot = shot
        self.query = query
        self.seed = seed

    def batch(self, first: int, tasks: int) -> Episode:
        """Episodes number first .. first+tasks-1, the same in any chunking; DataError for first < 0 or tasks < 1."""
        generators = task_generators(self.seed, first, tasks)
        amplitude, phase = np.array([_wave(rng) for rng in generators]).T[:, :, None, None]
        x = np.stack([rng.uniform(*INPUTS, (self.shot + self.query, 1)) for rng in generators])
        y = amplitude * np.sin(x - phase)
        x, y = x.astype(np.float32), y.astype(np.float32)
        return Episode(x[:, : self.shot], y[:, : self.shot], x[:, self.shot :], y[:, self.shot :], 0)

    def waves(self, first: int, tasks: int) -> tuple[np.ndarray, np.ndarray]:
        """Amplitude [T] and phase [T] (radians), float64, of the same tasks as `batch(first, tasks)`."""
        amplitude, phase = np.array([_wave(rng) for rng in task_generators(self.seed, first, tasks)]).T
        return amplitude, phase


def _wave(rng: np.random.Generator) -> tuple[float, float]:
    """Amplitude and phase, the first numbers drawn for a task."""
    return rng.uniform(*AMPLITUDE), rng.uniform(*PHASE)
