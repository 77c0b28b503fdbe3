"""The documentation of transformational_measures_tf as one program: blocks of activations, variances, same-equivariance, and accuracy.

Its classes and calls, on a small network that learned real handwritten digits which are there without a network. With MNIST on this
machine, `MnistTransformationsDataSet()` takes the place of the digits. KERAS_BACKEND chooses TensorFlow, JAX or PyTorch.
"""

import keras
import numpy as np

import layerscope.compat.transformational_measures as tm
from layerscope import datasets

SIZE = 16
train_x, train_y = datasets.digits(SIZE, split="train")
test_x, test_y = datasets.digits(SIZE, split="test")
train_x, test_x = np.moveaxis(train_x, 1, -1), np.moveaxis(test_x, 1, -1)  # the channel axis last

keras.utils.set_random_seed(0)
model_keras = keras.Sequential(
    [
        keras.Input((SIZE, SIZE, 1)),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="conv_1"),
        keras.layers.MaxPooling2D(2, name="pool_1"),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu", name="conv_2"),
        keras.layers.MaxPooling2D(2, name="pool_2"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(64, activation="relu", name="dense_1"),
        keras.layers.Dense(10, activation="softmax", name="dense_2"),
    ]
)
model_keras.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model_keras.fit(train_x, train_y, batch_size=64, epochs=8, verbose=0)

model = tm.Model(model_keras=model_keras)
print("loss {:.3f}, accuracy {:.3f}".format(*model.evaluate(test_x, test_y)))
dataset = tm.DigitsTransformationsDataSet(SIZE, samples=100)
dataset.set_transformation_group(1, 12)  # rotations by 0°, 30°, … 330°
iterator = tm.Iterator(model, dataset)

for height, blocks in iterator.get_block(50, 6):
    for width, block in blocks:
        print(
            f"{height} × {width} inputs; layer 0 gives {block[0, 0, 0].shape} for one, its feature 3 {block[0, 0, 0, 3].shape}"
        )

for kind in (tm.Variance, tm.NormalizedVariance, tm.FeaturesVariance, tm.NormalizedSameEquivariance):
    metric = kind(iterator)
    variance_layers, variance_layers_activations = metric.compute(100, 12)
    print(kind.__name__, dict(zip(metric.names, np.round(variance_layers, 3).tolist(), strict=True)))

tm.Analyzer(model, dataset, iterator).run(8)
