"""The history of tags that the commands of a machine share: each adds what it saw."""

from collections.abc import Iterable, Mapping

from imagechain.cli.output import print_error_lines
from imagechain.config import Settings, state_folder
from imagechain.vetting.record import FILE_NAME, HistoryError, HistoryFile
from imagechain.vetting.values import Sighting


def history_file(settings: Settings, environ: Mapping[str, str]) -> HistoryFile:
    """Give the history of the settings' `state_dir`."""
    return HistoryFile(state_folder(settings.state_dir, environ) / "vetting" / FILE_NAME)


def remember(file: HistoryFile, sightings: Iterable[Sighting]) -> None:
    """Add what was seen; one that cannot be written spoils nothing that was done, and is told."""
    try:
        file.add(sightings)
    except HistoryError as error:
        print_error_lines([f"imagechain: {error}"])
