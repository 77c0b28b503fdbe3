"""When do units die?  Two learning rates, and the layers at the end of every epoch, on samples that stay the same."""

import keras
import numpy as np

from layerscope import datasets
from layerscope.integrations.keras import LayerMonitor

(x, y), (x_val, y_val) = datasets.digits(size=8, split="train"), datasets.digits(size=8, split="test")
x, x_val = np.moveaxis(x, 1, -1), np.moveaxis(x_val, 1, -1)  # the channel axis last

for rate in (0.001, 0.05):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(64, activation="relu", name="dense"),
            keras.layers.Dense(10, name="logits"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    monitor = LayerMonitor((x_val, y_val))
    logs = model.fit(x, y, epochs=4, batch_size=64, verbose=0, callbacks=[monitor]).history

    dead = monitor.history.query("measure == 'dead units'").pivot(index="epoch", columns="layer", values="value")
    print(f"learning rate {rate}: accuracy {logs['accuracy'][-1]:.0%}, units that never fire, by epoch\n{dead}")
    print("their share of all units:", [round(share, 2) for share in logs["layerscope/network/dead_share"]])
    for name, view in monitor.results.items():
        print(f"{name}: entropy {view.entropy()}")
