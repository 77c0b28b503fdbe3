"""TensorState's Keras tutorial on layerscope: LeNet-5, its layers' efficiencies, and the artificial intelligence quotient.

The tutorial's program but for its import lines and its data: real handwritten digits that are there without a network (1,797, enlarged
to 28 × 28), for 12 epochs at most. KERAS_BACKEND chooses TensorFlow, JAX or PyTorch. With 500 images log2(500) / 100 is all that conv_3
can show; `ls.examine` says so.
"""

# ruff: noqa: UP032 - the tutorial's lines as they are

import keras
import numpy as np

import layerscope.compat.tensorstate as ts  # was: import TensorState as ts
from layerscope import datasets

(train_images, train_labels), (test_images, test_labels) = datasets.digits(split="train"), datasets.digits(split="test")
train_images, test_images = np.moveaxis(train_images, 1, -1), np.moveaxis(test_images, 1, -1)  # the channel axis last

keras.utils.set_random_seed(0)
reg = keras.regularizers.l2(0.0005)
kwargs = {"activation": "elu", "kernel_initializer": "he_normal", "kernel_regularizer": reg, "bias_regularizer": reg}

input_layer = keras.layers.Input(shape=(28, 28, 1), name="input")
conv_1 = keras.layers.Conv2D(20, 5, name="conv_1", **kwargs)(input_layer)
norm_1 = keras.layers.BatchNormalization(epsilon=0.00001, momentum=0.9)(conv_1)
maxp_1 = keras.layers.MaxPool2D((2, 2), name="maxp_1")(norm_1)
conv_2 = keras.layers.Conv2D(50, 5, name="conv_2", **kwargs)(maxp_1)
norm_2 = keras.layers.BatchNormalization(epsilon=0.00001, momentum=0.9)(conv_2)
maxp_2 = keras.layers.MaxPool2D((2, 2), name="maxp_2")(norm_2)
conv_3 = keras.layers.Conv2D(100, 4, name="conv_3", **kwargs)(maxp_2)
norm_3 = keras.layers.BatchNormalization(epsilon=0.00001, momentum=0.9)(conv_3)
flatten = keras.layers.Flatten(name="flatten")(norm_3)
pred = keras.layers.Dense(10, name="pred")(flatten)
model = keras.Model(inputs=input_layer, outputs=pred)

model.compile(
    optimizer=keras.optimizers.SGD(learning_rate=0.001, momentum=0.9, nesterov=True),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="loss"),
    metrics=["accuracy"],
)
stop = keras.callbacks.EarlyStopping(monitor="val_accuracy", mode="max", patience=5, restore_best_weights=True)
held_out = (test_images, test_labels)
model.fit(train_images, train_labels, epochs=12, validation_data=held_out, batch_size=200, callbacks=[stop])

efficiency_model = ts.build_efficiency_model(model, attach_to=["Conv2D"], method="after")
predictions = efficiency_model.predict(test_images, batch_size=200)
for layer in efficiency_model.efficiency_layers:
    print("Layer {} number of states: {}".format(layer.name, layer.state_count))
for layer in efficiency_model.efficiency_layers:
    print("Layer {} efficiency: {:.1f}%".format(layer.name, 100 * layer.efficiency()))

beta = 2  # accuracy counts twice
network_efficiency = ts.network_efficiency(efficiency_model)
print("Network efficiency: {:.1f}%".format(100 * network_efficiency))
accuracy = np.sum(np.argmax(predictions, axis=1) == test_labels) / test_labels.size
print("Network accuracy: {:.1f}%".format(100 * accuracy))
print("aIQ: {:.1f}%".format(100 * ts.aIQ(network_efficiency, accuracy, beta)))
