"""Lungs on frontal X-rays: the network that comes along with jaxlung as `lungs`.

Data: the X-rays of V7's dataset that are under CC BY, as `tfds_builders/v7_covid_cxr/cc_by.py`
writes them (docs/lungs.md has every command). All the rest is the recipe of `configs/folder.py`.

    jaxlung train --config=lungs --config.data.csv=CC_BY/list.csv \\
        --config.data.root=CC_BY/adults,CC_BY/children
    jaxlung export --half runs/lungs jaxlung/exported/networks/lungs.jaxlung
"""

import ml_collections as mlc

from jaxlung.config import config_arg, config_file


def get_config(arg: str = "") -> mlc.ConfigDict:
    """Returns the run; `arg` is "" or some of "fold=I", "folds=N", "quick" with commas."""
    variant = config_arg.parse_arg(arg, fold=0, folds=0, quick=False)
    config = config_file.load_shipped("folder", quick=variant.quick)
    config.data.update(
        csv_patient_column="patient",
        fold=variant.fold,  # which of the folds is tested
        folds=variant.folds,  # of a cross-validation by patient; 0: the network that comes along
        # Cross-validation scores the recipe, so the network that comes along trains on nearly all.
        test_fraction=0.01,
    )
    return config
