"""Lesson 5. Perturbation confusion: one derivative inside another, and how to go wrong.

Take the slope along x of a function that itself takes a slope along y. Now there are
two variables, and a program can mistake one for the other. Look for how little it
takes, and for the one thing that prevents it.

    d/dx [ x * d/dy (x + y) ]  at x = 1, y = 1

By hand: to y, x is a constant, so the inner slope is 1. What is left is d/dx (x * 1),
and the answer is 1.

Here is a whole engine in ten lines. It goes forward: every number carries its slope
along, and an operation computes both. Such pairs are called dual numbers.

>>> class Dual:
...     def __init__(self, value, slope=0.0):
...         self.value, self.slope = value, slope
...     def __add__(self, other):
...         return Dual(self.value + other.value, self.slope + other.slope)
...     def __mul__(self, other):
...         slope = self.slope * other.value + self.value * other.slope
...         return Dual(self.value * other.value, slope)
>>> def slope(f, x):
...     return f(Dual(x, 1.0)).slope    # the variable has slope 1, constants have 0
>>> print(slope(lambda x: x * x * x, 2.0))
12.0

That is 3x^2, as it should be. Now the nested one; Dual makes the inner slope, a bare
number, fit to be multiplied:

>>> print(slope(lambda x: x * Dual(slope(lambda y: x + y, 1.0)), 1.0))
2.0

Wrong. When the inner slope is taken, x still carries the 1 that the outer one gave it.
The inner one finds 1 + 1, and takes all of it for its own. A slope (or perturbation, a
small change) does not say which variable it belongs to, so the two are confused.

minimeta's engine says 1:

>>> from minimeta import grad, inspect
>>> print(grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0))
1.0

Here each grad gives its variable a fresh node, and its walk takes only the ways that
lead to that node. No two nodes are the same, so no two variables are. To see it, take a
product: d/dy (x y) is x, so the whole is x * x, and its slope at 3 is 6.

>>> def f(x):
...     return x * grad(lambda y: x * y)(2.0)
>>> print(inspect.program(f, 3.0))
x = input  # float64[]
input_1 = input  # float64[], let go
multiply_1 = multiply(x, input_1)  # float64[], let go
multiply_2 = multiply(1.0, x)  # float64[], order 1 by multiply_1, holds x1 8 B, x2 8 B
multiply_3 = multiply(x, multiply_2)  # float64[], holds x1, x2 8 B
return multiply_3  # 5 nodes, 3 arrays held, 24 B

input_1 is y. The inner walk began at multiply_1 and ran one of its two rules, the one
for y, which gave multiply_2: 1 times x. To x it sent nothing.

And if y is x to begin with? Then its fresh node is an alias: the same number, a node of
its own. The inner walk ends there, an outer one would go through it to x. By hand, d/dy
(x y) is x, even where y = x. Without an alias it would be taken for d/dx (x x) = 2x.

>>> g = lambda x: grad(lambda y: x * y)(x)
>>> print(g(3.0), grad(g)(3.0))
3.0 1.0

To try: print the program of g, and find the alias in it. Then mend Dual: give each call
of slope a mark of its own, and each number a slope for each mark.
Where it happens: `Variables` and `_fresh` in minimeta/autodiff/transforms.py.
"""

if __name__ == "__main__":
    from minimeta.inspect.lessons import play

    play(__doc__, globals())
