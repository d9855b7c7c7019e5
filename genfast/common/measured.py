"""What a model takes from the first data that it is trained on, and keeps."""

from collections.abc import Mapping


def learn(model, batch: Mapping) -> None:
    """Sets `shape`, `names` and `levels` of the model from a batch of `measure`, as far as the model has these
    attributes and they are still None.

    batch: x (N, *), and, where the data have them, names of the classes and levels, how many values an element of x
    has, -1 to 1 at equal distances. Names are taken by models with classes only.
    """
    if getattr(model, "shape", ()) is None:
        model.shape = tuple(batch["x"].shape[1:])
    if getattr(model, "names", ()) is None and getattr(model, "classes", 0) and batch.get("names") is not None:
        model.names = batch["names"]
    if getattr(model, "levels", ()) is None and batch.get("levels") is not None:
        model.levels = batch["levels"]
