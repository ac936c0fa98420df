"""Tasks by name: a new one is a file in this folder and a line in `TASKS`.

A task says what the logits of a network mean: its targets, loss, post-processing and scores.
"""

from jaxlung.tasks import diagnosis, mask, three_level, volume_mask

TASKS = {
    "diagnosis": diagnosis.make_task,
    "mask": mask.make_task,
    "three_level": three_level.make_task,
    "volume_mask": volume_mask.make_task,
}
