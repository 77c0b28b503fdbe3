"""TensorState's PyTorch tutorial on layerscope: LeNet-5, its layers' efficiencies, and the artificial intelligence quotient.

    python examples/tensorstate_pytorch.py [--mnist FOLDER_OR_NPZ] [--epochs 200]

The tutorial's program but for its import line and its data: real handwritten digits that are there without a network (1,797, enlarged
to 28 × 28), or MNIST files of yours. On the digits it stops after about 30 epochs, within a minute on two cores, at about 97 % (with 500
held-out images conv_3 is far from measured out: log2(500) / 100 is all its efficiency can reach; `ls.examine` says so).
Two lines differ beside that, because NumPy no longer takes tensors as it did in 2020: see `.item()`.
"""

# ruff: noqa: B905, UP032 - the tutorial's lines as they are

import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

import layerscope.compat.tensorstate as ts
from layerscope import datasets

parser = argparse.ArgumentParser()
parser.add_argument("--mnist", help="a folder with MNIST's four IDX files, or an .npz")
parser.add_argument("--epochs", type=int, default=200)
asked = parser.parse_args()

# A GPU, where there is one
dev = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")

""" The data """


def load(split):
    images, labels = datasets.mnist(asked.mnist, split=split) if asked.mnist else datasets.digits(size=28, split=split)
    return torch.from_numpy(images.reshape(-1, 784)), torch.from_numpy(labels)


(x_train, y_train), (x_valid, y_valid) = load("train"), load("test")

train_ds = TensorDataset(x_train, y_train)
train_dl = DataLoader(train_ds, batch_size=200, shuffle=True)
valid_ds = TensorDataset(x_valid, y_valid)
valid_dl = DataLoader(valid_ds, batch_size=200)

""" The model """
torch.manual_seed(0)


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()

        self.conv_1 = nn.Conv2d(1, 20, kernel_size=5, stride=1)
        torch.nn.init.kaiming_normal_(self.conv_1.weight)
        torch.nn.init.zeros_(self.conv_1.bias)
        self.elu_1 = nn.ELU()
        self.norm_1 = nn.BatchNorm2d(20, eps=0.00001, momentum=0.9)
        self.maxp_1 = nn.MaxPool2d(2, stride=2)

        self.conv_2 = nn.Conv2d(20, 50, kernel_size=5, stride=1)
        torch.nn.init.kaiming_normal_(self.conv_2.weight)
        torch.nn.init.zeros_(self.conv_2.bias)
        self.elu_2 = nn.ELU()
        self.norm_2 = nn.BatchNorm2d(50, eps=0.00001, momentum=0.9)
        self.maxp_2 = nn.MaxPool2d(2, stride=2)

        self.conv_3 = nn.Conv2d(50, 100, kernel_size=4, stride=1)
        torch.nn.init.kaiming_normal_(self.conv_3.weight)
        torch.nn.init.zeros_(self.conv_3.bias)
        self.elu_3 = nn.ELU()
        self.norm_3 = nn.BatchNorm2d(100, eps=0.00001, momentum=0.9)

        self.flatten = nn.Flatten()
        self.pred = nn.Linear(100, 10)
        torch.nn.init.kaiming_normal_(self.pred.weight)
        torch.nn.init.zeros_(self.pred.bias)

    def forward(self, data):
        x = data.view(-1, 1, 28, 28)
        x = self.conv_1(x)
        x = self.maxp_1(self.norm_1(self.elu_1(x)))
        x = self.conv_2(x)
        x = self.maxp_2(self.norm_2(self.elu_2(x)))
        x = self.conv_3(x)
        x = self.norm_3(self.elu_3(x))
        x = self.pred(self.flatten(x))
        return x.view(-1, x.size(1))


model = LeNet5().to(dev)

""" Training, until the validation accuracy has not risen for five epochs """
num_epochs = asked.epochs
loss_func = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005, nesterov=True)
last_valid_accuracy = 0
val_count = 0
patience = 5


def epoch_func(x, y, train=False):
    predictions = model(x)
    num = len(x)
    accuracy = (torch.argmax(predictions, axis=1) == y).float().sum() / num
    loss = loss_func(predictions, y)

    if train:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    # numbers instead of tensors: NumPy multiplies no tensors that require gradients any more
    return loss.item(), accuracy.item(), num


for epoch in range(num_epochs):
    start = time.time()
    model.train()
    losses, accuracies, nums = zip(*[epoch_func(xb.to(dev), yb.to(dev), True) for xb, yb in train_dl])
    train_loss = np.sum(np.multiply(losses, nums)) / np.sum(nums)
    train_accuracy = np.sum(np.multiply(accuracies, nums)) / np.sum(nums)

    model.eval()
    with torch.no_grad():
        losses, accuracies, nums = zip(*[epoch_func(xb.to(dev), yb.to(dev), False) for xb, yb in valid_dl])
    valid_loss = np.sum(np.multiply(losses, nums)) / np.sum(nums)
    valid_accuracy = np.sum(np.multiply(accuracies, nums)) / np.sum(nums)

    print(
        "Epoch {}/{} ({:.2f}s): TrainLoss={:.4f}, TrainAccuracy={:.2f}%, ValidLoss={:.4f}, ValidAccuracy={:.2f}%".format(
            str(epoch + 1).zfill(3),
            num_epochs,
            time.time() - start,
            train_loss,
            100 * train_accuracy,
            valid_loss,
            100 * valid_accuracy,
        )
    )

    if valid_accuracy > last_valid_accuracy:
        val_count = 0
        last_valid_accuracy = valid_accuracy
    else:
        val_count += 1

    if val_count >= patience:
        break

""" Efficiency: probes on all convolutions, and one pass of the validation data """
efficiency_model = ts.build_efficiency_model(model, attach_to=["Conv2d"], method="after")

print()
print("Running model predictions to capture states...")
start = time.time()
model.eval()
with torch.no_grad():
    losses, accuracies, nums = zip(*[epoch_func(xb.to(dev), yb.to(dev), False) for xb, yb in valid_dl])
print("Finished in {:.3f}s!".format(time.time() - start))

print()
print("Getting the number of states in each layer...")
for layer in efficiency_model.efficiency_layers:
    print("Layer {} number of states: {}".format(layer.name, layer.state_count))

print()
print("Evaluating efficiency of each layer...")
for layer in efficiency_model.efficiency_layers:
    start = time.time()
    print("Layer {} efficiency: {:.1f}% ({:.3f}s)".format(layer.name, 100 * layer.efficiency(), time.time() - start))

beta = 2  # accuracy counts twice

print()
print("Network metrics...")
print("Beta: {}".format(beta))

network_efficiency = ts.network_efficiency(efficiency_model)
print("Network efficiency: {:.1f}%".format(100 * network_efficiency))

accuracy = np.sum(np.multiply(accuracies, nums)) / np.sum(nums)
print("Network accuracy: {:.1f}%".format(100 * accuracy))

aIQ = ts.aIQ(network_efficiency, accuracy.item(), beta)
print("aIQ: {:.1f}%".format(100 * aIQ))
