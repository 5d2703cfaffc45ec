"""Train a small Keras model through tf.data from a packed folder of photos.

fastshard pack photos/ packed/
python examples/train_keras.py packed/
"""

import argparse

import keras
from keras import layers

import fastshard as fs
from fastshard.tensorflow import dataset as tf_dataset

SIDE = 96


def loader(dataset: fs.Dataset, *, train: bool) -> fs.Loader:
    augment = [fs.RandomResizedCrop(SIDE), fs.RandomHorizontalFlip()]
    steps = augment if train else [fs.Resize(SIDE * 8 // 7), fs.CenterCrop(SIDE)]
    # `ToDtype` scales to 0-1. TensorFlow wants NHWC, which is the loader's default.
    return fs.Loader(
        dataset, batch_size=32, shuffle=train, drop_last=train, transforms={"image": [*steps, fs.ToDtype()]}
    )


def small_cnn(classes: int) -> keras.Model:
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3))])
    for filters in (16, 32, 64, 128):
        model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(classes, activation="softmax"))
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small Keras model from a packed folder of images.")
    parser.add_argument("dataset", help="a folder that `fastshard pack` wrote")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()

    # A folder is packed in a seeded random order, so that a slice is a random sample of it.
    dataset = fs.open(options.dataset)
    held_out = len(dataset) // 10
    pair = ("image", "label")
    train = tf_dataset(loader(dataset[held_out:], train=True), as_tuple=pair)
    test = tf_dataset(loader(dataset[:held_out], train=False), as_tuple=pair)

    # No shuffle, map, batch or prefetch: the loader's threads have done all of it, and `fit` is told so.
    model = small_cnn(len(dataset.class_names))
    model.fit(train, validation_data=test, epochs=options.epochs, shuffle=False, verbose=2)


if __name__ == "__main__":
    main()
