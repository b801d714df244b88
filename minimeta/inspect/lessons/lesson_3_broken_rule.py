"""Lesson 3. Breaking a rule: how a wrong derivative is caught, and where it is found.

A wrong rule raises no error. It gives a wrong number, and what learns by it learns
worse. Here are two of them, one plain, one hidden. Look for what gives each away.

What can be trusted instead of a rule? What a slope means: move x a little both ways,
and see how much the result moves. This is a finite difference.

>>> def slope(f, x, step=1e-4):
...     return (f(x + step) - f(x - step)) / (2 * step)
>>> print(f"{slope(lambda x: x * x, 3.0):.4f}")
6.0000

It is slow, since every input takes two runs, and not quite exact. But it knows no
rules, so it shares no mistake with them. `check_grads` compares derivatives with
differences, and raises an error if they differ; here we print its first part.

>>> from minimeta import grad, inspect
>>> from minimeta.autodiff import op
>>> from minimeta.testing import check_grads
>>> def check(f, *args, order):
...     try:
...         check_grads(f, args, order=order)
...         print("no fault found")
...     except AssertionError as error:
...         print(str(error).partition(" (")[0])

The first fault. The area w h of a rectangle grows by h as w grows, and by w as h grows.
Whoever wrote the second rule copied the first:

>>> @op(saves="inputs")
... def area(xp, w, h):
...     return w * h
>>> @area.vjp(0)
... def _(g, y, w, h):
...     return g * h
>>> @area.vjp(1)
... def _(g, y, w, h):
...     return g * h
>>> check(area, 2.0, 3.0, order=1)
check_grads: the gradient of order 1 differs from finite differences at args[1]:
gradient 2.455..., finite differences 1.636...

It names the order, 1 for a first derivative, and args[1], which is h. (The numbers are
3 and 2 times a random weight, 0.82, by which results of many entries become one.)
`compare` shows all arguments, unweighted:

>>> print(inspect.compare(area, 2.0, 3.0))
worst entry        gradient     differences     error  compared
w                         3               3   ...      1 of 1
h                         3               2   5.0e-01  1 of 1  <- worst

The second fault. The slope of x^3 is 3x^2, and so says this rule. But float(x) takes
the bare number out of the graph: to the engine 3x^2 is a constant from there on.

>>> @op(saves="inputs")
... def cube(xp, x):
...     return x * x * x
>>> @cube.vjp(0)
... def _(g, y, x):
...     return g * 3 * float(x) ** 2
>>> check(cube, 2.0, order=1)
no fault found
>>> check(cube, 2.0, order=2)
check_grads: the gradient of order 2 differs from finite differences at args[0]: ...
>>> print(inspect.compare(grad(cube), 2.0))    # of the slope the slope: 6x = 12
worst entry        gradient     differences     error  compared
x                         0              12   1.0e+00  1 of 1

Only the second derivative gave it away. Write rules in operations, as 3 * x * x, and
check them to the order that you will use.

To try: mend both rules and check again, to order 3. (minimeta/testing.py)
"""

if __name__ == "__main__":
    from minimeta.inspect.lessons import play

    play(__doc__, globals())
