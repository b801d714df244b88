"""Seeing inside the engine: its backward walk step by step, its graphs as text and pictures, who keeps which memory.

The engine knows nothing of this; what it shows is the engine at work, not a copy of it. Start with `steps` and
`program`, or `minimeta inspect tanh` on the command line.
"""

from minimeta.autodiff import scope
from minimeta.inspect.compare import Difference, Differences, compare
from minimeta.inspect.gradient_flow import Flow, Flows, gradient_flow
from minimeta.inspect.memory import Memory, memory
from minimeta.inspect.page import Page, page, page_maml
from minimeta.inspect.program import program
from minimeta.inspect.recording import Recording, recording
from minimeta.inspect.steps import Step, Steps, steps

__all__ = [
    "Difference", "Differences", "Flow", "Flows", "Memory", "Page", "Recording", "Step", "Steps", "compare",
    "gradient_flow", "memory", "page", "page_maml", "program", "recording", "scope", "steps",
]  # fmt: skip
