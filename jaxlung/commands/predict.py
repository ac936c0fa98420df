"""`jaxlung predict`: a trained network on the user's files."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

from jaxlung.commands import arguments
from jaxlung.config import shipped, study_folder
from jaxlung.host import files

HELP = "find lungs or infection in your files"
DESCRIPTION = "Predicts masks of X-rays (PNG, JPEG, TIFF, DICOM) and CTs (DICOM, NIfTI)."
EPILOG = """\
Exit code 3: some files failed; OUTPUT/failures.csv says why.

jaxlung predict XRAYS MASKS --model=runs/covidqu --overlay
jaxlung predict XRAYS MASKS --model=runs/folder_folds
jaxlung predict XRAYS MASKS --model=lungs.jaxlung --model=runs/infection
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "input",
        type=arguments.given,
        help="file, folder, glob, folder of a DICOM series, or CSV of paths",
    )
    parser.add_argument(
        "output", metavar="OUTPUT", type=arguments.given, help="folder that gets the masks"
    )
    parser.add_argument(
        "--model",
        metavar="RUN",
        type=arguments.given,
        action="append",
        required=True,
        help="folder of a trained run, exported file, or name (see jaxlung models); folder of a "
        "study for the mean of its runs; repeat it for lungs and infection, or for an ensemble",
    )
    options = {
        "probs": "write probabilities too",
        "overlay": "draw the masks over the pictures",
        "dicom_seg": "write the masks of DICOM files as DICOM SEG too",
        "rtstruct": "write the masks of DICOM CT series as RTSTRUCT too",
        "json": "write the numbers of each file as JSON too",
        "mirror": "average over mirror images: better, slower",
        "resume": "continue an interrupted command",
    }
    for name, text in options.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    for name, unit, most in (("pixels", "pictures", 10**8), ("voxels", "volumes", 10**9)):
        text = f"refuse larger {unit}; default: {most:,}"
        parser.add_argument(
            f"--max_{name}", metavar="N", type=arguments.positive, default=most, help=text
        )


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Returns the prediction."""
    del overrides

    def start() -> int:
        from jaxlung.predict import runner, settings

        names = [field.name for field in dataclasses.fields(settings.Options)]
        options = {name: getattr(args, name) for name in names if name != "output"}
        return runner.run(
            [
                member
                for model in args.model
                for member in study_folder.members(files.to_absolute(shipped.resolve(model)))
            ],
            args.input,
            settings.Options(pathlib.Path(args.output).expanduser(), **options),
            mirror=args.mirror,
            resume=args.resume,
        )

    return start
