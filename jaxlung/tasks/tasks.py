"""Tasks by name. A new task is a file here, a line in `TASKS` and an entry in `words.WORDS`."""

from jaxlung.tasks import diagnosis, mask, three_level, volume_mask

TASKS = {
    "diagnosis": diagnosis.make_task,
    "mask": mask.make_task,
    "three_level": three_level.make_task,
    "volume_mask": volume_mask.make_task,
}
