"""The fields that all configs share and no paper speaks of: how a run computes, not what it learns.

A config file starts with `config = defaults.make_config()` and sets those that it wants otherwise:
`config.control.stop_patience = 15`.
"""

import ml_collections as mlc


def make_config() -> mlc.ConfigDict:
    """Returns a config with the shared fields only, still open for more."""
    config = mlc.ConfigDict()
    config.seed = 0
    config.log_every_steps = 50
    config.init_from = ""  # folder of a run whose network this one starts from
    config.freeze = ""  # regular expression: parameters with a matching path don't train
    config.step = dict(
        steps_per_dispatch=0,  # steps that the device takes at once; 0: 10 on accelerators, else 1
        microbatches=1,  # parts of a batch, computed one after the other: more need less memory
        remat=False,  # True: compute activations again for the gradient, which needs less memory
    )
    config.control = dict(  # by the validation loss, once an epoch
        plateau_patience=0,  # epochs without improvement before the learning rate falls; 0: never
        plateau_factor=0.5,  # new learning rate over the old one
        plateau_min_delta=1e-4,  # a smaller change of the loss is no improvement
        plateau_cooldown=0,  # epochs after a fall in which the patience doesn't run
        min_learning_rate=1e-6,
        stop_patience=0,  # epochs without improvement before training stops; 0: never
        stop_min_delta=0.0,  # a smaller change of the loss is no improvement
    )
    config.mesh = dict(  # devices
        data=-1,  # that share a batch; -1: all
        space=1,  # that share one image or patch, each some of its rows
    )
    return config
