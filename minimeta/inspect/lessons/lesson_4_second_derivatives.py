"""Lesson 4. Second derivatives: the walk back is noted too, and walked over again.

A derivative is a function, so it has a derivative. Look for how the engine finds it
with no new rule, and for what second derivatives cost when there are many variables.
The function of lesson 1, x (x + 1)^2, has f' = 3x^2 + 4x + 1 and f'' = 6x + 4:

>>> import numpy as np
>>> from minimeta import grad, hessian, hvp, inspect, ops
>>> def f(x):
...     return x * ops.square(x + 1)
>>> print(grad(f)(2.0), grad(grad(f))(2.0))
21.0 16.0

The inner grad does all of lesson 1: forward, then back. But now the outer one wants to
know how the result depends on x. So this time what the rules compute is noted in nodes,
too. Here is f' as the outer grad finds it:

>>> print(inspect.program(f, 2.0, order=2))
x = input  # float64[]
alias_1 = alias(x)  # float64[]
add_1 = add(alias_1, 1)  # float64[]
square_1 = square(add_1)  # float64[], holds x 8 B
multiply_1 = multiply(alias_1, square_1)  # float64[], let go
multiply_2 = multiply(1.0, square_1)  # float64[], order 1 by multiply_1, ...
multiply_3 = multiply(1.0, alias_1)  # float64[], order 1 by multiply_1, ...
add_2 = add(add_1, add_1)  # float64[], order 1 by square_1
multiply_4 = multiply(multiply_3, add_2)  # float64[], order 1 by square_1, ...
add_3 = add(multiply_2, multiply_4)  # float64[], order 1 by add_1
return add_3  # 10 nodes, 6 arrays held, 48 B

Nodes without a mark are the way forward, called order 0. "Order 1" were made by the
walk back over them, each by the rule of the node named. You know them from lesson 1:
multiply_2 is the 9 sent to x, multiply_3 the 2 sent to b, add_2 is 2a, multiply_4 the
12, and add_3 the sum, 21. (multiply_1 is y, let go: f' needed its rules, not its
value.) To the outer walk this is a graph like any other.

Now two variables: p = x0^2 x1 at (1, 2). The gradient, all first derivatives, is
(2 x0 x1, x0^2) = (4, 1). Each of these has two slopes. Together they are a matrix, the
Hessian: 2 x1 and 2 x0 in its first row, 2 x0 and 0 in its second.

>>> def p(x):
...     return x[0] * x[0] * x[1]
>>> x, v = np.array([1.0, 2.0]), np.array([1.0, 1.0])
>>> print(hessian(p)(x))
[[4. 2.]
 [2. 0.]]

Often one only asks how the gradient changes along a direction v: that is the Hessian
times v, for v = (1, 1) the sums of its rows. There is a way without the matrix.
Multiply the gradient by v and sum up. That is one number, and its gradient is the
Hessian times v, for one more walk. `hvp`, Hessian-vector product, gives the same:

>>> print(grad(lambda x: ops.sum(grad(p)(x) * v))(x), hvp(p, x, v))
[6. 2.] [6. 2.]

Count the nodes walked over, for a gradient, a product and a Hessian:

>>> def walked(run):
...     with inspect.recording() as record:
...         run()
...     return sum(event.kind == "walked" for event in record.events)
>>> cubes = lambda x: ops.sum(x * x * x)
>>> for x in np.ones(10), np.ones(100):
...     gradient = walked(lambda: grad(cubes)(x))
...     product = walked(lambda: hvp(cubes, x, x))
...     print(gradient, product, walked(lambda: hessian(cubes)(x)))
3 11 83
3 11 803

The gradient's graph has 8 nodes. A product walks over it once, a Hessian for each row.

To try: print the program of order 3. Which nodes are of order 2, and by whose rules?
Where it happens: `watched` in minimeta/autodiff/backward.py.
"""

if __name__ == "__main__":
    from minimeta.inspect.lessons import play

    play(__doc__, globals())
