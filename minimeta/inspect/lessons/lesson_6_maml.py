"""Lesson 6. MAML's gradient taken apart: what second order adds, and FOMAML drops.

MAML looks for weights w, the numbers in a model that learning changes, from which one
step of gradient descent goes far. A task has two losses, which say how bad weights are:
the support loss S, to take the step by, and the query loss Q, to judge it by. For w

    L(w) = Q(v),   where v = w - a S'(w),   a the rate of the step

is the loss that counts. By the chain rule L' = (1 - a S''(w)) Q'(v). Look for its two
parts in the graph: Q'(v), and -a S''(w) Q'(v), the one with a second derivative.
Take S = 2 (w - 1)^2, Q = w^2 / 2, a = 0.1 and w = 2. By hand: S' = 4 (w - 1) = 4, so
v = 1.6. Then Q'(v) = v = 1.6, S'' = 4, and L' = (1 - 0.4) * 1.6 = 0.96.

>>> import numpy as np
>>> from minimeta import grad, hvp, inspect, ops, stop_gradient
>>> def support(w):
...     return 2 * ops.square(w - 1)
>>> def query(w):
...     return ops.sum(w * w) / 2    # a sum, because below there are two weights
>>> def maml(w):
...     with inspect.scope("step"):    # a heading in the listing, no more
...         v = w - 0.1 * grad(support)(w)
...     return query(v)
>>> print(inspect.program(maml, 2.0))
w = input  # float64[]
step:
  alias_1 = alias(w)  # float64[]
  subtract_1 = subtract(alias_1, 1)  # float64[]
  square_1 = square(subtract_1)  # float64[], let go
  add_1 = add(subtract_1, subtract_1)  # float64[], order 1 by square_1
  multiply_1 = multiply(2.0, add_1)  # float64[], order 1 by square_1, ...
  multiply_2 = multiply(0.1, multiply_1)  # float64[], holds x2 8 B
  subtract_2 = subtract(w, multiply_2)  # float64[]
multiply_3 = multiply(subtract_2, subtract_2)  # float64[], holds x1 8 B, x2
sum_1 = sum(multiply_3)  # float64[]
divide_1 = divide(sum_1, 2)  # float64[], holds x1 8 B
return divide_1  # 11 nodes, 5 arrays held, 40 B

v is subtract_2. Two ways lead from w to it. One is direct. The other passes through
alias_1, which is w inside the inner grad (lesson 5), and through nodes of order 1, the
inner derivative (lesson 4). What does each way bring to w on the walk back?

>>> for step in inspect.steps(maml, 2.0):
...     for sent in step.contributions:
...         if sent.name == "w":
...             print(f"{step.name} sends w {sent.value:.2f}")
subtract_2 sends w 1.60
alias_1 sends w -0.64

The first is Q'(v). The second came through the inner derivative, whose own slope is
S'': it is -a S'' Q'(v) = -0.1 * 4 * 1.6. First-order MAML, FOMAML, takes the inner
gradient for a constant. That drops the second part, and all the nodes it came through:

>>> def fomaml(w):
...     return query(w - 0.1 * stop_gradient(grad(support)(w)))
>>> for f in maml, fomaml:
...     print(f.__name__, grad(f)(2.0).round(2), len([*inspect.steps(f, 2.0)]), "steps")
maml 0.96 9 steps
fomaml 1.6 4 steps

With many weights S'' is the Hessian, and what is dropped a product with it. Let S be p
of lesson 4 at (1, 2): its gradient is (4, 1), so v = (0.6, 1.9) and Q'(v) the same; its
Hessian has rows (4, 2) and (2, 0), so the product is (6.2, 1.2). Times -0.1:

>>> def support(w):
...     return w[0] * w[0] * w[1]
>>> w, v = np.array([1.0, 2.0]), np.array([0.6, 1.9])
>>> dropped = grad(maml)(w) - grad(fomaml)(w)
>>> print(dropped.round(6), (-0.1 * hvp(support, w, v)).round(6))
[-0.62 -0.12] [-0.62 -0.12]

To try: let a be 0.25 for the first S. Whatever w is, MAML's gradient is 0. Why?
The step in earnest: `_walk` in minimeta/learners/optimization_based/maml.py.
"""

if __name__ == "__main__":
    from minimeta.inspect.lessons import play

    play(__doc__, globals())
