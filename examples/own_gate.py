"""A gate of one's own: both directions, a check, and a network that learns with it."""

import numpy as np

import chainrule as cr
from chainrule import nn, optim


class Squash(cr.Gate):
    """x / (1 + |x|): like tanh, without an exponential. Its slope is 1/(1 + |x|)²."""

    def forward(self, x):
        self.scale = 1 + cr.abs(x)  # must be kept for backward
        return x / self.scale

    def backward(self, dy):
        return dy / self.scale**2


print(cr.check_gradients(Squash(), np.linspace(-3, 3, 12)))
graph = cr.Graph(lambda x: Squash()(2 * x), x=0.5)
graph.backward()
print(graph)

# As a layer: exclusive or, which no line separates.
x = cr.Tensor([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
y = cr.Tensor([[0], [1], [1], [0]], "float32")
net = nn.Sequential(nn.Dense(2, 8), nn.Function(Squash()), nn.Dense(8, 1)).initialize(1)
adam = optim.optimizer("adam", net.named_parameters(), lr=0.1)
for _ in range(200):
    loss = nn.sigmoid_cross_entropy(net(x), y)
    adam.zero_grad()
    loss.backward()
    adam.step()
print(
    "loss", f"{loss.item():.4f}", "answers", cr.sigmoid(net(x)).numpy().round(2).ravel()
)
