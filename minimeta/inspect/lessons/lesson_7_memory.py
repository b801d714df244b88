"""Lesson 7. Where the memory goes: what rules keep, and what checkpoint buys.

Rules need values from the way forward; that of tanh needs its result. So nodes keep
arrays until the walk back has passed them. Look for who keeps what, for the moment when
most is kept, and for the price of keeping less.

>>> import numpy as np
>>> from minimeta import grad, inspect, ops
>>> from minimeta.autodiff import checkpoint, op
>>> x = np.linspace(1.0, 2.0, 1000)    # 1000 numbers of 8 bytes each
>>> print(inspect.memory(lambda x: ops.sum(ops.tanh(ops.tanh(ops.tanh(x)))), x))
       bytes  array                 kept by
       8,000  tanh_1 float64[1000]  tanh_1 (out)
       8,000  tanh_2 float64[1000]  tanh_2 (out)
       8,000  tanh_3 float64[1000]  tanh_3 (out)
      24,000  in all
| ▃▆███▆▃ | most after tanh_3 was made

The last line is a timeline: a bar for each node made, then one for each walked over.
Memory grows on the way forward, is largest at the turn, and shrinks on the way back.

What a node keeps is up to its operation's `saves`. Take that of lesson 2 as it was, and
with "all", written carelessly. We add 1 in between, for which no values are kept:

>>> for saves in "out", "all":
...     @op(saves=saves)
...     def inverse(xp, x):
...         return 1 / x
...     @inverse.vjp(0)
...     def _(g, y, x):
...         return -g * y * y
...     used = inspect.memory(lambda x: ops.sum(inverse(inverse(x) + 1)), x)
...     print(f"{saves}: {used.nbytes:,} bytes")
out: 16,000 bytes
all: 32,000 bytes

Twice as much, for nothing. But even by the best of rules every step of a deep function
keeps something. Here are 64 of them, in 8 blocks of 8:

>>> ran = []    # grows by one whenever tanh runs
>>> def block(x):
...     for _ in range(8):
...         x = ops.tanh(x)
...         ran.append("tanh")
...     return x
>>> def deep(x, block):
...     for _ in range(8):
...         x = block(x)
...     return ops.sum(x)

`checkpoint(block)` is the same function, but one node, which keeps its argument alone.
When the walk back comes to it, the block runs again, with all its nodes, is walked over
and let go. (Each timeline below has a scale of its own.)

>>> for name, each in ("plain", block), ("checkpoint", checkpoint(block)):
...     ran.clear()
...     used = inspect.memory(lambda x: deep(x, each), x)
...     print(f"{name}: {used.nbytes:,} bytes, tanh ran {len(ran)} times")
...     print(str(used).splitlines()[-1].partition(" most")[0])
plain: 512,000 bytes, tanh ran 64 times
|▁▁▁▁▂▂▂▂▃▃▃▄▄▄▄▅▅▅▅▆▆▆▇▇▇▇████████▇▇▇▇▆▆▆▆▅▅▅▄▄▄▄▃▃▃▃▂▂▂▁▁▁▁|
checkpoint: 128,000 bytes, tanh ran 128 times
|▁▁▂▃▃▄▄▄▅▇██▇▅▄▆███▆▄▄▆▇▇▆▅▃▄▆▇▇▅▃▃▅▆▆▆▄▂▃▅▆▆▄▃▂▃▅▅▅▃▁▂▄▅▅▄▂|

At most 8 arguments and the 8 arrays of one block are kept, 16 instead of 64; each tooth
is a block that runs again. The price is one more run of everything. (n steps in blocks
of b keep n/b + b arrays, least for b = sqrt(n).) And the gradient is the same:

>>> print(np.array_equal(grad(deep)(x, block), grad(deep)(x, checkpoint(block))))
True

To try: 4 blocks of 16. With recompute=True, MAML takes its inner steps for blocks.
Where it happens: `checkpoint` in minimeta/autodiff/transforms.py.
"""

if __name__ == "__main__":
    from minimeta.inspect.lessons import play

    play(__doc__, globals())
