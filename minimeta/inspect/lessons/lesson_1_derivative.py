"""Lesson 1. A derivative by hand and by engine: the chain rule, taken from the end.

You know how to differentiate. Here we do it as a program can: one small operation at
a time. Look for the place where two paths meet and a sum is made.

The function is f(x) = x (x + 1)^2, at x = 2. In single operations:

    a = x + 1      3
    b = a^2        9
    y = x b       18

>>> from minimeta import grad, inspect, ops
>>> def f(x):
...     return x * ops.square(x + 1)

Now ask of each value: if it changed a little, how many times as much would y change?
That number is the value's cotangent. That of y is known, 1, since y changes as y does.
From there we go back. Each operation takes the cotangent of its result, multiplies it
by its own slope, and sends the product to what it was computed from:

    y = x b      has  1, sends to x   1 * b = 9,  and to b   1 * x = 2
    b = a^2      has  2, sends to a   2 * 2a = 12
    a = x + 1    has 12, sends to x  12 * 1 = 12

That is the chain rule. Two numbers came to x, because a change of x reaches y along
two paths. The changes add up, and so do the numbers: the slope is 9 + 12 = 21.
(Multiplied out, f = x^3 + 2x^2 + x, so f' = 3x^2 + 4x + 1, which is 21 at x = 2.)

The engine does the same. While f runs, it notes every operation in a node: which one it
was, and the nodes its arguments came from. Nodes linked in this way are a graph, also
called a tape. Then it walks over the graph from the youngest node to the oldest. A node
sends what its rules say, one for each argument (0 is the first): `g` is the cotangent
that comes in, `y` the result, the rest are the arguments. Compare the numbers with
those above; float64[] means a single one.

>>> for step in inspect.steps(f, 2.0):
...     print(step)
step 1: multiply_1 = multiply(x, square_1)
  comes in: float64[] 1.
  rule, minimeta/ops/elementwise.py:...:
    @multiply.vjp(0)
    def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
        return g * x2
  to x (argument x1): float64[] 9.
  rule, minimeta/ops/elementwise.py:...:
    @multiply.vjp(1)
    def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
        return g * x1
  to square_1 (argument x2): float64[] 2.
step 2: square_1 = square(add_1)
  comes in: float64[] 2.
  rule, minimeta/ops/elementwise.py:...:
    @square.vjp(0)
    def _(g: Any, y: Any, x: Any) -> Any:
        return g * (x + x)
  to add_1 (argument x): float64[] 12.
step 3: add_1 = add(x, 1)
  comes in: float64[] 12.
  rule, minimeta/ops/elementwise.py:...:
    @add.vjp(0, 1)
    def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
        return g
  to x (argument x1): float64[] 12.
    which has now float64[] 21.

`grad` takes all these steps without a word. And one walk back would have given the
slope along every input, were there a million. That is why we began at the end.

>>> print(grad(f)(2.0))
21.0

To try: differentiate x * x * x at 2 in this way on paper, then print its steps.
The loop that walks: `walk` in minimeta/autodiff/backward.py.
"""

if __name__ == "__main__":
    from minimeta.inspect.lessons import play

    play(__doc__, globals())
