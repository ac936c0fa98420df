"""Content of a `summary_<split>.json` for tests: everything that may be empty is."""

LEVELS = {
    "three_level": ["outside", "lung", "infection"],
    "volume_mask": ["background", "infection"],
    "mask": ["background", "lung"],
    "diagnosis": ["other", "COVID-19"],
}


CALIBRATION = {
    "counts": [9_000_000, 0, 600, 400],
    "mean_prob": [0.01, None, 0.6, 0.9],
    "fraction": [0.02, None, 0.5, 1.0],
    "ece": 0.0101,
    "ece_interval": [0.0092, 0.0117],
    "ace": 0.07,
    "ace_interval": [None, None],
}


def make_sizes(unit="pixels"):
    """A summary's "by_size": quartile i has 10 to 19 times 100 ** i."""
    found = {"num_images": 5, "num_nothing_found": 1}
    quartiles = [
        found
        | {"range": [10 * 100**i, 19 * 100**i]}
        | {"scores": {"dice": 0.5 + 0.1 * i, "iou": 0.25}, "intervals": {"dice": [0.4, 0.9]}}
        for i in range(4)
    ]
    without = {"num_images": 1234, "num_nothing_found": 1200}
    return {"unit": unit, "quartiles": quartiles, "without": without}


def make(task, scores, **fields):
    content = {
        "split": "test",
        "num_images": 40,
        "num_patients": 40,
        "step": 1500,
        "task": task,
        "levels": LEVELS[task],
        "scores": scores,
        "intervals": {},
        "sd": {},
        "by_group": {},
        "baselines": {},
        "paper": {},
        "threshold": None,
        "thresholds": {},
        "roc": {},
        "temperature": None,
        "calibration": {},
        "calibration_before": {},
        "by_size": {},
        "confusion": [],
        "undefined": {},
        "weights_digest": "",
    }
    assert fields.keys() <= content.keys()
    return content | fields
