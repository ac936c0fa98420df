"""MODEL_CARD.md: what a run's network is, what it was measured on, and what it is not for."""

from etils import epath

from jaxlung.export import writer as export
from jaxlung.host import files
from jaxlung.report.model_card import limits, markdown, scores, sections
from jaxlung.report.model_card import run as run_lib

FILE = "MODEL_CARD.md"
PHANTOM = "**Trained on generated images (phantoms): this card says nothing about patients.**"
# By task, what the network does with "found".
_WHAT = {
    "mask": "Marks {found} on chest X-rays: a probability for every pixel, and a mask of those"
    " above a threshold.",
    "volume_mask": "Marks {found} in chest CTs: a probability for every voxel, and a mask of those"
    " above a threshold.",
    "three_level": "Tells {found} apart on chest X-rays: a grey for every pixel, which goes to the"
    " nearest of their greys.",
    "diagnosis": "Tells chest X-rays with {found} from others: a probability for the whole image,"
    " and a yes above a threshold.",
}


def write(workdir: epath.PathLike) -> epath.Path:
    """Writes `MODEL_CARD.md` from what the workdir holds.

    Its sections are those of Mitchell et al., Model Cards for Model Reporting, 2019. What the
    workdir lacks is left out.

    Args:
        workdir: of a run that was evaluated on at least one split.

    Returns:
        The card.

    Raises:
        ValueError: no split was evaluated, or a file is damaged.
    """
    workdir = epath.Path(workdir).resolve()
    run = run_lib.load(workdir)
    parts = [f"# Model card: {markdown.escape(workdir.name)}", *_begin(run)]
    for title, paragraphs in {
        "Model Details": sections.describe_model(run),
        "Intended Use": sections.describe_use(run),
        "Factors": sections.describe_factors(run),
        "Metrics": scores.describe_metrics(run),
        "Evaluation Data": sections.describe_evaluation(run),
        "Training Data": sections.describe_training(run),
        "Quantitative Analyses": scores.lay_out(run),
        "Ethical Considerations": [markdown.bullets(sections.list_ethics(run))],
        "Caveats and Recommendations": [markdown.bullets(limits.list_limits(run))],
    }.items():
        parts += [f"## {title}", *paragraphs]
    files.write_text(workdir / FILE, "\n\n".join(parts) + "\n")
    return workdir / FILE


def _begin(run: run_lib.Run) -> list[str]:
    """What a reader must see first."""
    warnings = [PHANTOM] if run.is_phantom else []
    warnings.append(f"**{export.NOTICE}**")
    levels = run.main.levels if run.task == "three_level" else run.main.levels[-1:]
    found = " and ".join([*filter(None, [", ".join(levels[:-1])]), levels[-1]])
    what = _WHAT.get(run.task, "Its task is called {task}.")
    return [
        "\n>\n".join(f"> {warning}" for warning in warnings),
        what.format(found=markdown.escape(found), task=markdown.escape(run.task)),
    ]
