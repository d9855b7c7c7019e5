"""What a model takes from the first data that it is trained on, and keeps."""

from collections.abc import Mapping


def learn(model, batch: Mapping) -> None:
    """Sets `shape`, `names`, `levels` and `units` of the model from a batch of `measure`, as far as the model has these
    attributes and they are still None.

    batch: x (N, *), and, where the data have them, names of the classes, levels, how many values an element of x has,
    -1 to 1 at equal distances, and the units by which x is standardized. Names are taken by models with classes only.
    """
    if getattr(model, "shape", ()) is None:
        model.shape = tuple(batch["x"].shape[1:])
    if getattr(model, "names", ()) is None and getattr(model, "classes", 0) and batch.get("names") is not None:
        model.names = batch["names"]
    for name in ("levels", "units"):
        if getattr(model, name, ()) is None and getattr(model, f"learns_{name}", True) and batch.get(name) is not None:
            setattr(model, name, batch[name])
