"""Seeing inside the engine: its backward walk step by step, its graphs as text and pictures, who holds which memory.

The engine knows nothing of this; what it shows is the engine at work, not a copy of it. Start with `steps` and
`program`, or `minimeta inspect tanh` on the command line.
"""

from minimeta.autodiff.watching import scope
from minimeta.inspect.recording import Recording, recording
from minimeta.inspect.steps import Step, Steps, steps

__all__ = ["Recording", "Step", "Steps", "recording", "scope", "steps"]
