"""The runs that have a name.

A name is LEARNER/DATA, then the test the paper reports. Settings are the papers' as far as those state them; `about`
says what differs. `minimeta recipes` lists them with the paper's figures and ours, `minimeta train --recipe NAME` runs
one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from minimeta.recipe import Recipe
from minimeta.training import Settings


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe, what it is, and figures by test, `ours` with half the interval.

    Figures are accuracies in percent (5w1s: 5-way 1-shot; 2nd: when a class comes for the second time), of sinusoids
    mean squared errors by steps of adaptation, of sequences wrong bits by length.
    """

    recipe: Recipe
    about: str
    paper: dict[str, float] = field(default_factory=dict)
    ours: dict[str, tuple[float, float]] = field(default_factory=dict)


def omniglot(learner: str, way: int, query: int, shot: int = 1, training: Any = None, **more: Any) -> Recipe:
    """A run on the split of Vinyals et al., where a character turned by 90 degrees is another class.

    The rate is halved four times, as Snell et al. (2017) do every 2000 episodes. Models are chosen and tested 20-way:
    5-way episodes hardly tell good ones apart.
    """
    settings = Settings(steps=12000, schedule="step", validate_every=500, validation_episodes=200)
    recipe = Recipe(
        learner, "omniglot", way=way, shot=shot, query=query, test_way=20, test_shot=shot, test_episodes=1000,
        split="vinyals", rotations="fixed_classes", training=replace(settings, **(training or {})),
    )  # fmt: skip
    return replace(recipe, **more)


def _adapted(learner: str, shot: int = 1, query: int = 1, training: Any = None, **more: Any) -> Recipe:
    """A run tested 5-way 1-shot, on the classes of `omniglot`, where a learner adapts by steps to each task."""
    settings = {"schedule": "cosine", "validate_every": 1000, "validation_episodes": 500, **(training or {})}
    recipe = omniglot(learner, way=5, query=query, shot=shot, training=settings, test_way=5, test_shot=1)
    return replace(recipe, **{"test_query": query, **more})


def sinusoid(learner: str, training: Any, **hyper: Any) -> Recipe:
    """Trained with 10 points of a wave, tested with 5."""
    settings = Settings(tasks=25, validate_every=5000, validation_episodes=1000, log_every=100)
    return Recipe(
        learner, "sinusoid", way=0, shot=10, query=10, test_way=0, test_shot=5, test_query=100, test_episodes=2000,
        hyper={"architecture": "regressor", "batch_norm": "none", "test_steps": 10, **hyper},
        training=replace(settings, **training),
    )  # fmt: skip


def presentations(learner: str, training: Any = None, **more: Any) -> Recipe:
    """A run on sequences of 5 classes, 10 examples of each (Santoro et al., 2016), on the classes of `omniglot`."""
    settings = {"tasks": 16, "schedule": "cosine", "validate_every": 1000, "clip_norm": 10.0, **(training or {})}
    recipe = omniglot(learner, way=5, query=0, shot=10, training=settings, test_way=5, test_shot=1)
    return replace(recipe, **more)


RECIPES: dict[str, NamedRecipe] = {
    "prototypical/glyphs": NamedRecipe(
        Recipe(
            "prototypical", "glyphs", way=20, shot=1, query=5,
            training=Settings(steps=600, schedule="cosine", lr=2e-3),
        ),
        "the main job: `minimeta train`; half a minute",
        ours={"5w1s": (99.06, 0.12), "20w1s": (96.33, 0.13)},
    ),
    "prototypical/omniglot-5w1s": NamedRecipe(
        omniglot("prototypical", way=60, query=5),
        "Snell et al. 2017: 60-way episodes; the rate is halved every 2400 episodes instead of 2000",
        paper={"5w1s": 98.8, "20w1s": 96.0},
        ours={"5w1s": (98.80, 0.15), "20w1s": (95.76, 0.15)},
    ),
    "prototypical/omniglot-5w5s": NamedRecipe(
        omniglot("prototypical", way=60, shot=5, query=5),
        "Snell et al. 2017, 5-shot",
        paper={"5w5s": 99.7, "20w5s": 98.9},
    ),
    "matching/omniglot-5w1s": NamedRecipe(
        omniglot("matching", way=60, query=5, training={"clip_norm": 1.0}),
        "Vinyals et al. 2016 without fine-tuning; temperature learned from 10 on, where the paper's is 1; 60-way",
        paper={"5w1s": 98.1, "20w1s": 93.8},
        ours={"5w1s": (98.83, 0.15), "20w1s": (95.83, 0.15)},
    ),
    "matching/omniglot-5w1s-cosine": NamedRecipe(
        omniglot(
            "matching", way=20, query=5, training={"clip_norm": 1.0},
            hyper={"temperature": 1.0, "learn_temperature": False},
        ),
        "Vinyals et al. 2016 to the letter: bare cosines, whose loss stays above 2.08 in 20-way training",
        paper={"5w1s": 98.1, "20w1s": 93.8},
    ),
    "matching-fce/omniglot-5w1s": NamedRecipe(
        omniglot("matching-fce", way=20, query=5, training={"clip_norm": 1.0, "tasks": 2}),
        "Vinyals et al. 2016 with full context embeddings, which they found no help on Omniglot; 3 reads",
        ours={"5w1s": (98.85, 0.14), "20w1s": (95.74, 0.16)},
    ),
    "relation/omniglot-5w1s": NamedRecipe(
        omniglot("relation", way=20, query=10, training={"steps": 18000, "clip_norm": 0.5}),
        "Sung et al. 2018, 20-way, transductive; they turn whole episodes, and choose models by the test",
        paper={"5w1s": 99.6, "20w1s": 97.6},
        ours={"5w1s": (98.95, 0.12), "20w1s": (95.93, 0.15)},
    ),
    "siamese/omniglot-5w1s": NamedRecipe(
        omniglot("siamese", way=60, query=5),
        "Koch et al. 2015 with the network and data of the others; the paper's figures are Vinyals et al.'s re-run",
        paper={"5w1s": 96.7, "20w1s": 88.0},
        ours={"5w1s": (97.10, 0.23), "20w1s": (90.03, 0.23)},
    ),
    "siamese/omniglot-lake": NamedRecipe(
        omniglot(
            "siamese", way=32, query=1, split="lake", rotations="none", augmentation="affine",
            hyper={"architecture": "koch", "size": 105, "batch_norm": "none", "l2": 1e-5}, test_query=1,
            training={"steps": 20000, "lr": 1e-4},
        ),
        "Koch et al. 2015: 105 x 105 pixels, affine distortions; by Adam; for a GPU",
        paper={"lake": 92.0},
    ),
    "kernel/omniglot-5w1s": NamedRecipe(
        omniglot("kernel", way=60, query=5, hyper={"kernel": "learned", "tau": 1.0}),
        "the siamese network's p as a kernel, normalised over the support set",
    ),
    "maml/sinusoid": NamedRecipe(
        sinusoid("maml", {"steps": 100_000, "lr": 1e-3, "schedule": "cosine"}, inner_lr=(0.001,)),
        "Finn et al. 2017, error after 1, 5 and 10 steps with 5 points; inner rate 0.001 as in their code's default",
        paper={"1 step": 0.67, "5 steps": 0.38, "10 steps": 0.35},
        ours={"1 step": (0.65, 0.04), "5 steps": (0.32, 0.02), "10 steps": (0.28, 0.02)},
    ),
    "maml/omniglot-5w1s": NamedRecipe(
        _adapted("maml", training={"steps": 20_000, "tasks": 32}),
        "Finn et al. 2017: 20,000 steps with a falling rate instead of 60,000; transductive",
        paper={"5w1s": 98.7},
        ours={"5w1s": (98.16, 0.41)},
    ),
    "fomaml/omniglot-5w1s": NamedRecipe(
        _adapted(
            "fomaml", training={"steps": 20_000, "tasks": 16},
            hyper={"inner_lr": (0.1,), "inner_steps": 5, "test_steps": 5},
        ),
        "Finn et al. 2017 without second derivatives, which 5 short steps miss less than a long one; transductive; the "
        "paper's figure is Nichol et al.'s",
        paper={"5w1s": 98.3},
        ours={"5w1s": (96.44, 0.54)},
    ),
    "reptile/omniglot-5w1s": NamedRecipe(
        _adapted(
            "reptile", shot=10, hyper={"batch_norm": "support+1"}, test_query=15,
            training={"steps": 30_000, "tasks": 5, "optimizer": "sgd", "lr": 1.0, "schedule": "linear",
                      "validate_every": 2000, "validation_episodes": 200},
        ),
        "Nichol et al. 2018: 30,000 steps instead of 100,000; 97.7 transductive",
        paper={"5w1s": 95.4},
        ours={"5w1s": (93.54, 0.36)},
    ),
    "lstm-meta/omniglot-5w1s": NamedRecipe(
        _adapted("lstm-meta", query=15, training={"steps": 8_000, "clip_norm": 0.25, "validation_episodes": 200}),
        "Ravi and Larochelle 2017, who have no figure for Omniglot; 12 steps",
        ours={"5w1s": (92.21, 0.41)},
    ),
    "ntm/copy": NamedRecipe(
        Recipe(
            "ntm", "copy", way=0, shot=20, query=1, test_way=0, test_shot=20, test_query=1, test_episodes=1000,
            hyper={"controller": "feed-forward"},
            training=Settings(steps=4000, tasks=32, schedule="cosine", clip_norm=1.0, validate_every=250),
        ),
        "Graves et al. 2014, trained on sequences of 1 to 20 vectors of 8 bits; by Adam; wrong bits per sequence",
        ours={"20": (0.0, 0.0), "60": (0.0, 0.0), "120": (1.46, 1.62)},
    ),
    "mann/omniglot-5": NamedRecipe(
        presentations("mann", {"steps": 40_000}),
        "Santoro et al. 2016: 5 classes, accuracy by how often a class has come; no augmentation but quarter turns",
        paper={"1st": 36.4, "2nd": 82.8, "5th": 94.9, "10th": 98.1},
        ours={"1st": (33.34, 1.19), "2nd": (85.58, 1.01), "5th": (92.88, 0.73), "10th": (94.08, 0.66)},
    ),
    "lstm/omniglot-5": NamedRecipe(
        presentations("lstm", {"steps": 40_000}),
        "Santoro et al. 2016: the baseline without a memory",
        paper={"1st": 24.4, "2nd": 49.5, "5th": 63.6, "10th": 62.5},
        ours={"1st": (27.64, 1.18), "2nd": (75.38, 1.18), "5th": (84.88, 1.00), "10th": (88.38, 0.88)},
    ),
    "ntm/omniglot-5": NamedRecipe(
        presentations("ntm", {"steps": 40_000}, hyper={"hidden": 200, "width": 40, "reads": 4, "writes": 4}),
        "Santoro et al. 2016: a Neural Turing Machine's addressing in place of the least recently used",
    ),
    "mann/omniglot-15-strings": NamedRecipe(
        presentations("mann", {"steps": 100_000}, way=15, hyper={"labels": "strings"}, test_way=15),
        "Santoro et al. 2016: 15 classes called by strings of five characters",
        paper={"1st": 0.1, "2nd": 62.6, "5th": 88.7, "10th": 95.3},
    ),
    "meta-networks/omniglot-5w1s": NamedRecipe(
        _adapted(
            "meta-networks", query=10,
            training={"steps": 7000, "clip_norm": 10.0, "validate_every": 500, "validation_episodes": 100},
        ),
        "Munkhdalai and Yu 2017, one episode a step, 7,000 of them; their code goes on until it is stopped",
        paper={"5w1s": 98.95},
        ours={"5w1s": (95.97, 0.31)},
    ),
    "finetune/sinusoid": NamedRecipe(
        sinusoid("finetune", {"steps": 70_000}, inner_optimizer="sgd", inner_lr=0.01),
        "Finn et al. 2017: the baseline, pre-trained on all waves at once",
        paper={"1 step": 2.41, "5 steps": 2.23, "10 steps": 2.19},
        ours={"1 step": (2.36, 0.10), "5 steps": (2.12, 0.09), "10 steps": (2.06, 0.10)},
    ),
    "finetune/omniglot-5w1s": NamedRecipe(
        _adapted(
            "finetune", shot=128, query=15, hyper={"tuned": "head", "inner_lr": 0.01, "test_steps": 20},
            training={"steps": 6_000, "lr": 2e-3, "validation_episodes": 200},
        ),
        "the baseline without meta-learning: pre-trained on all classes at once, then a fresh head for each task",
    ),
}

def named(name: str) -> Recipe:
    """The recipe of this name. Raises ValueError listing the names there are.

    >>> named("prototypical/omniglot-5w1s").way
    60
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name].recipe
