"""How long a FewShotClassifier takes to learn 5 classes from 1 image each and to name 75: `python bench/classifier.py`.

Conv4-64 on 28 x 28 pixels, one core. It runs in an environment of NumPy and safetensors alone, and says which kernels
it used.
"""

from __future__ import annotations

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", MINIMETA_NUM_THREADS="1")  # before NumPy is loaded

import statistics
import time

from minimeta import FewShotClassifier, data, doctor, learners

RUNS = 100


def main() -> None:
    images = data.load("glyphs", "test").images[:5]
    support, queries = images[:, 0], images[:, 1:16].reshape(75, *images.shape[2:])
    classifier = FewShotClassifier(learners.make("prototypical"))

    def fit_and_predict() -> float:
        start = time.perf_counter()
        classifier.fit(support, ["a", "b", "c", "d", "e"]).predict(queries)
        return 1e3 * (time.perf_counter() - start)

    fit_and_predict()  # compiles kernels
    low, median, high = statistics.quantiles([fit_and_predict() for _ in range(RUNS)])
    print(f"fit 5 images, predict 75: {median:.1f} ms (quartiles {low:.1f}..{high:.1f}); {doctor.kernels()}")


if __name__ == "__main__":
    main()
