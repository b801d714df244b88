"""The learners' rows: meta-gradients, training steps and predictions as a whole. MAML's have 32 tasks, 5-way 1-shot.

Where a network has ReLUs and max-pooling, float32 rounding tips some of them over and the gradient jumps: such rows
agree tightly in float64, on little data, and loosely as timed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from race import Row
from workloads.maml import Maml
from workloads.mann import Mann
from workloads.matching import Matching
from workloads.meta_networks import MetaNetworksGradient
from workloads.prototypical import Prediction, TrainStep
from workloads.relation import RelationGradient
from workloads.sinusoid import Sinusoid

_exact = partial(replace, dtype=np.float64)


def _maml(name: str, title: str, workload: Maml) -> Row:
    return Row(name, f"MAML, {title}", 3, workload, tolerance=0.2, exact=_exact(workload, tasks=2))


_META, _MANN = MetaNetworksGradient(), Mann()
_STEP, _MATCHING, _RELATION = TrainStep(way=60, queries=5), Matching(), RelationGradient(way=20, queries=10)

ROWS = [
    _maml("M1", "1 step, 1 query", Maml(inner_steps=1, queries=1)),
    _maml("M2", "1 step, 15 queries", Maml(inner_steps=1, queries=15)),
    _maml("M3a", "5 steps, 1 query", Maml(inner_steps=5, queries=1)),
    _maml("M3b", "5 steps, 15 queries", Maml(inner_steps=5, queries=15)),
    _maml("M4", "5 steps, 15 queries, first order", Maml(inner_steps=5, queries=15, first_order=True)),
    Row("P1", "Prototypical training step, 60-way", 3, _STEP, tolerance=0.05, exact=_exact(_STEP, way=5)),
    Row("P2", "Prototypical prediction, 5-way, 15 queries", 2.5, Prediction(way=5, queries=15)),
    Row("L1", "Relation gradient, 20-way, 10 queries", 3, _RELATION, 0.05, exact=_exact(_RELATION, way=3, queries=2)),
    Row("S1a", "MAML on sinusoids, 25 tasks, 1 step", 2, Sinusoid(inner_steps=1)),
    Row("S1b", "MAML on sinusoids, 25 tasks, 5 steps", 2, Sinusoid(inner_steps=5)),
    Row("R1", "MANN training step, 16 x 50 time steps", 4, _MANN, tolerance=1e-4, exact=_exact(_MANN, steps=20)),
    Row("N1", "Meta Networks gradient, 10 queries", 3, _META, 0.05, exact=_exact(_META, queries=2, filters=4)),
    Row("G1", "Matching gradient, 32 x 15 queries", 3, _MATCHING, tolerance=0.05, exact=_exact(_MATCHING, tasks=2)),
]
