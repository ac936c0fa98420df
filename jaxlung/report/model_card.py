"""MODEL_CARD.md: what a network does, how well, on which data, and what it must not be used for."""

from etils import epath

from jaxlung.export import writer as export
from jaxlung.host import files
from jaxlung.report import card_scores, card_sections, glossary, limits, markdown
from jaxlung.report import run as run_lib

FILE = "MODEL_CARD.md"
PHANTOM = "**Trained on generated images (phantoms): its scores say nothing about patients.**"


def write(workdir: epath.PathLike) -> epath.Path:
    """Writes `MODEL_CARD.md` from the files in a run's folder.

    Its sections are those of Mitchell et al., Model Cards for Model Reporting, 2019. Parts whose
    files are missing are left out.

    Args:
        workdir: Folder of a run that was evaluated on at least one split.

    Returns:
        Path of the card.

    Raises:
        ValueError: no split was evaluated, or a file is damaged.
    """
    run = run_lib.shorten_paths(run_lib.load(workdir))
    parts = [f"# Model card: {markdown.escape(run.path.name)}", *_begin(run)]
    for title, paragraphs in {
        "Model Details": card_sections.describe_model(run),
        "Intended Use": card_sections.describe_use(run),
        "Factors": card_sections.describe_factors(run),
        "Metrics": card_scores.describe_metrics(run),
        "Evaluation Data": card_sections.describe_evaluation(run),
        "Training Data": card_sections.describe_training(run),
        "Quantitative Analyses": card_scores.lay_out(run),
        "Ethical Considerations": [markdown.bullets(card_sections.list_ethics(run))],
        "Caveats and Recommendations": [markdown.bullets(limits.list_limits(run))],
    }.items():
        parts += [f"## {title}", *paragraphs]
    files.write_text(run.path / FILE, "\n\n".join(parts) + "\n")
    return run.path / FILE


def _begin(run: run_lib.Run) -> list[str]:
    """Returns the warnings, and the sentence that describes the network."""
    warnings = [PHANTOM] if run.is_phantom else []
    warnings.append(f"**{export.NOTICE}**")
    found = glossary.join(run.main.levels[1:])
    description = run.words.description or f"The task of this network is {run.task}."
    return [
        "\n>\n".join(f"> {warning}" for warning in warnings),
        markdown.escape(description.replace("{found}", found)),
    ]
