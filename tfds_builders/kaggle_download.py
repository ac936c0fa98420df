"""Downloads a Kaggle dataset with whichever of Kaggle's own packages is installed."""

import pathlib


def download(dataset: str, version: int, folder: pathlib.Path) -> pathlib.Path:
    """Downloads a dataset with `kagglehub`, or with `kaggle` if that is not installed.

    Args:
        dataset: owner and name, "anasmohammedtahir/covidqu".
        version: version to download; `kaggle` ignores it and downloads the newest.
        folder: folder for the zip of `kaggle`. `kagglehub` has a cache of its own.

    Returns:
        The folder that holds the unpacked files or the zip.

    Raises:
        ValueError: neither package is installed, or `kaggle` has no credentials.
    """
    try:
        import kagglehub
    except ImportError:
        return _download_with_kaggle(dataset, folder)
    return pathlib.Path(kagglehub.dataset_download(f"{dataset}/versions/{version}"))


def _download_with_kaggle(dataset: str, folder: pathlib.Path) -> pathlib.Path:
    try:
        import kaggle
    except ImportError as error:
        raise ValueError(
            f"Downloading {dataset} from Kaggle needs a package: pip install kagglehub."
        ) from error
    except (OSError, SystemExit) as error:  # Importing it signs in, and exits if that fails.
        raise ValueError(f"Downloading {dataset}: kaggle could not sign in ({error}).") from error
    folder.mkdir(parents=True, exist_ok=True)
    kaggle.api.dataset_download_files(dataset, path=str(folder), unzip=False)
    return folder
