"""Lesson 2. Adding an operation: one line computes it, one line is its derivative.

The engine knows nothing of calculus but what each operation tells it. Here you teach it
a new one, 1/x. Look for how little is needed, and for what comes with it: the third
derivative, although you only give the first.

An operation begins with its forward, the function itself. `xp` is NumPy, or CuPy on a
GPU; this one does not need it.

>>> from minimeta import grad, inspect
>>> from minimeta.autodiff import op
>>> @op(saves="out")
... def inverse(xp, x):
...     return 1 / x

Then comes its rule. The slope of y = 1/x is -1/x^2, which is -y * y. As in lesson 1 the
rule gets the cotangent g of the result, the result y and the argument x. It returns
what to send to argument 0, the only one. Rules are called vjp, for vector-Jacobian
product: between arrays the slopes are a matrix, the Jacobian, g is a vector, and a rule
gives their product without ever writing the matrix down.

>>> @inverse.vjp(0)
... def _(g, y, x):
...     return -g * y * y

That is all. At x = 2 the value is 1/2 and the slope -1/4. The new operation goes
together with all others: the slope of 3/x + x is -3/4 + 1.

>>> print(inverse(2.0), grad(inverse)(2.0), grad(lambda x: 3 * inverse(x) + x)(2.0))
0.5 -0.25 0.25

saves="out" promises that the rule looks at the result only. So the node holds y until
the walk back, and need not hold x. ("inputs" holds the arguments, "all" both, "none"
neither: to differentiate a sum no values are needed.) `program` lists a graph, a line
for each node: its name, how it was computed, its type, and what it holds, here the
result (out), 8 bytes.

>>> print(inspect.program(inverse, 2.0))
x = input  # float64[]
inverse_1 = inverse(x)  # float64[], holds out 8 B
return inverse_1  # 2 nodes, 1 arrays held, 8 B

Now the best of it. The rule consists of operations itself, which have rules too. So the
derivative is a function like any other, and can be differentiated again. By hand, the
second is 2/x^3 = 1/4, and the third -6/x^4 = -3/8.

>>> second = grad(grad(inverse))
>>> print(second(2.0), grad(second)(2.0))
0.25 -0.375

Here is what the second derivative is taken of, the first one as a graph. Look at the
last two nodes: they are the rule, -g * y * y, where g is 1. (Lesson 4 says more of the
order, lesson 5 of the alias, which is a second name for x.)

>>> print(inspect.program(inverse, 2.0, order=2))
x = input  # float64[]
alias_1 = alias(x)  # float64[]
inverse_1 = inverse(alias_1)  # float64[], holds out 8 B
multiply_1 = multiply(-1.0, inverse_1)  # float64[], order 1 by inverse_1, ...
multiply_2 = multiply(multiply_1, inverse_1)  # float64[], order 1 by inverse_1, ...
return multiply_2  # 5 nodes, 3 arrays held, 24 B

What the rule was given for y is inverse_1, the node, not a bare number. So the next
walk finds its way through y to x, by the same rule, and so does every one after it.

To try: give inverse another rule, -g / (x * x), and differentiate. Why does the engine
refuse? Define the operation again without any rule, and ask for a slope.
Where it happens: minimeta/autodiff/op.py. To read on: minimeta/ops/elementwise.py.
"""

if __name__ == "__main__":
    from minimeta.inspect.lessons import play

    play(__doc__, globals())
