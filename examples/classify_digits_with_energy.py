"""Can a network that settles name a digit?  The image is held, hidden neurons and label descend one energy: the label they settle on is the answer."""

import sys

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import layerscope as ls
from layerscope import energy
from layerscope.energy.torch import Module


def digits(split: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = ls.datasets.digits(size=8, split=split, seed=seed)
    return torch.from_numpy(images.reshape(-1, 64) - 0.5), torch.from_numpy(labels)


def network(seed: int, hidden: int = 200) -> Module:
    rng, relu = np.random.default_rng(seed), energy.ReluLayer((hidden,), bias=np.zeros(hidden))
    layers = {"image": energy.IdentityLayer((64,)), "hidden": relu, "label": energy.SoftmaxLayer((10,))}
    synapses = [energy.DenseSynapse(rng.standard_normal((m, n)) / d) for m, n, d in ((64, hidden, 8), (hidden, 10, 10))]
    return Module(energy.HAM(layers, synapses, [(("image", "hidden"), 0), (("hidden", "label"), 1)]))


def learn(net: Module, images: torch.Tensor, labels: torch.Tensor, noise: float = 0.3, epochs: int = 50) -> None:
    """Gradients go through six steps of the descent; each digit is seen under new noise in every epoch."""
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(100):
            seen = images[batch] + noise * torch.randn(len(batch), 64)
            scores = net(net.ham.retrieval().start(seen), 6, 0.5, clamp="image")["label"]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(scores, labels[batch]).backward()
            optimiser.step()
        schedule.step()


def main(noise: float) -> None:
    right, rivals = {}, (LogisticRegression(max_iter=1000), KNeighborsClassifier(1))
    for seed in range(5):
        torch.manual_seed(seed)
        (x, y), (unseen, truth), net = digits("train", seed), digits("test", seed), network(seed)
        learn(net, x, y, noise)
        end = net.ham.until(net.ham.retrieval().start(unseen), 1e-4, 1000, 0.5, clamp="image")
        print(f"split {seed}: {end.converged.sum()} of {len(unseen)} settled, in at most {end.steps.max()} steps")
        answers = {"network with an energy": end.states["label"].argmax(1).numpy()}
        answers |= {type(rival).__name__: rival.fit(x, y).predict(unseen) for rival in rivals}
        for who, answer in answers.items():
            right.setdefault(who, []).append(np.mean(answer == truth.numpy()))
    print(f"\nunseen digits named right, mean of 5 splits (range); noise in training {noise:g}")
    for who, share in right.items():
        print(f"  {who:23} {np.mean(share):.1%} ({min(share):.1%} to {max(share):.1%})")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.3)  # 0: every digit as it is
