"""`minimeta predict`: classify image files by a trained model and a folder of labelled examples."""

from __future__ import annotations

import argparse
import json
from typing import Any

from minimeta.commands import options


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "predict",
        help="classify image files by a trained model and a few labelled examples",
        description="Say which class of the support folder each query file belongs to. The classes may be new.",
    )
    parser.add_argument("dir", metavar="DIR", help="the folder of a run")
    parser.add_argument("--support", required=True, metavar="FOLDER", help="one folder of example images per class")
    parser.add_argument("--query", required=True, nargs="+", metavar="FILE", help="images to classify")
    options.add_backend(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the label of each query file and the probability of each class."""
    from minimeta.data import DataError
    from minimeta.data.image_folder import class_files
    from minimeta.estimator import FewShotClassifier

    support = class_files(args.support)
    if len(support) < 2:
        raise DataError(f"{args.support}: has one class, {', '.join(support)}; need at least 2 to choose from")
    labels = [name for name, files in support.items() for _ in files]
    files = [file for files in support.values() for file in files]
    classifier = FewShotClassifier.load(args.dir, backend=args.backend).fit(files, labels)
    rows = classifier.predict_proba(args.query)
    answers = [_answer(file, classifier.classes_.tolist(), row) for file, row in zip(args.query, rows, strict=True)]
    print(json.dumps(answers) if args.json else "\n".join(map(_in_words, answers)))
    return 0


def _answer(file: str, classes: list[str], row: Any) -> dict[str, Any]:
    return {
        "file": file,
        "label": classes[row.argmax()],
        "probabilities": dict(zip(classes, row.tolist(), strict=True)),
    }


def _in_words(answer: dict[str, Any]) -> str:
    shares = ", ".join(f"{label} {100 * share:.1f} %" for label, share in answer["probabilities"].items())
    return f"{answer['file']}: {answer['label']} ({shares})"
