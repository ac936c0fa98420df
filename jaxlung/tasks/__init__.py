"""What a network's logits mean, by name: a new task is one file here and one line in `TASKS`."""

from jaxlung.tasks import diagnosis, mask, three_level, volume_mask

TASKS = {
    "diagnosis": diagnosis.make_task,
    "mask": mask.make_task,
    "three_level": three_level.make_task,
    "volume_mask": volume_mask.make_task,
}
