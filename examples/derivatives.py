"""One derivative in three ways, and what the graph of a neuron says of itself."""

import numpy as np

import chainrule as cr


def neuron(w, x):
    score = w[0] * x[0] + w[1] * x[1] + w[2]
    score.name = "score"
    return 1 / (1 + cr.exp(-score))


w, x = np.array([2.0, -3.0, -3.0]), np.array([-1.0, -2.0])

# Forward and backward, gate by gate.
graph = cr.Graph(neuron, w, x)
graph.backward()
print(graph, end="\n\n")

# Numerical, symbolic and automatic, with their errors and their cost.
print(cr.derivatives(neuron, at=(w, x)), end="\n\n")

# One weight moved at a time, as one would do by hand.
print(cr.difference_table(lambda w: neuron(w, cr.Tensor(x)), w), end="\n\n")

# Derivatives are functions, so they nest.
sigmoid_slopes = [cr.sigmoid]
for _ in range(3):
    sigmoid_slopes.append(cr.grad(sigmoid_slopes[-1]))
print(
    "sigmoid and its derivatives at 1:",
    [f"{f(1.0).item():.4f}" for f in sigmoid_slopes],
)
