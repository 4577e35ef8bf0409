"""What could not be looked at, and why: it is looked at again, and holds up nothing else meanwhile."""

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

import structlog

from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import ImageUnchecked, NotNowError, RefusedError, RetryableError
from imagechain.service.published import Published, Reading

_log = structlog.get_logger(__name__)


class Unseen:
    """Projects on which GitLab fails while it answers otherwise, and images that registries do not give.

    Attributes:
        projects: numbers of projects, and how GitLab failed on them.
        sources: sources whose images could not be read when they had to be, each with the time from which
            they are to be looked at again.
    """

    def __init__(self) -> None:
        self.projects: dict[int, str] = {}
        self.sources: dict[str, float] = {}
        self._images: dict[str, str] = {}

    async def patiently(self, project_id: int, work: Coroutine[Any, Any, None]) -> bool:
        """Look at one project; if GitLab fails on it, that is remembered. Tell whether it did not.

        Raises:
            NotNowError: GitLab answers nothing now, whatever it is about.
        """
        try:
            await work
        except NotNowError:
            raise
        except RetryableError as error:
            self.miss([project_id], str(error))
            return False
        except RefusedError as error:
            _log.warning("cannot look at it", project_id=project_id, why=str(error))
        return True

    def miss(self, project_ids: Iterable[int], why: str) -> None:
        """Remember projects on which GitLab failed."""
        for project_id in set(project_ids) - self.projects.keys():
            self.projects[project_id] = why
            _log.warning("GitLab fails on a project, and is asked again", project_id=project_id, why=why)

    def miss_images(self, source: str, read: Published, now: float) -> None:
        """Remember a source of whose images some could not be read."""
        self.sources[source] = now + read.retry_after_seconds
        _log.warning("images cannot be read", source=source, why="; ".join(read.unchecked))

    def note(self, readings: Mapping[str, Reading]) -> None:
        """Remember which images could not be read when they were looked at last."""
        for name, reading in readings.items():
            if isinstance(reading, ImageUnchecked):
                self._images[name] = reading.message
            else:
                self._images.pop(name, None)

    def failing(self, knowledge: Knowledge) -> Mapping[str, str]:
        """Say how GitLab fails on projects, by source."""
        return {
            project.source: why
            for project_id, why in self.projects.items()
            for project in knowledge.projects_of(project_id)
        }

    def unchecked(self, knowledge: Knowledge) -> Mapping[str, str]:
        """Say why images cannot be read, by name; what the graph has no more is not looked at again."""
        names = knowledge.chain.graph.input_number
        return {name: why for name, why in self._images.items() if name in names}
