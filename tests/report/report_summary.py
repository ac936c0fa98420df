"""Content of a `summary_<split>.json` for tests: everything that may be empty is."""

LEVELS = {
    "three_level": ["outside", "lung", "infection"],
    "volume_mask": ["background", "infection"],
    "mask": ["background", "lung"],
    "diagnosis": ["other", "COVID-19"],
}


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
        "confusion": [],
        "undefined": {},
    }
    assert fields.keys() <= content.keys()
    return content | fields
